"""Variants of LoRA that ΔW = s·B·A does not describe: each is refused by name, with what to do instead."""

from __future__ import annotations

from typing import Any

from carrick.errors import FormatError

# Key of adapter_config.json -> what it does to the mathematics.
_REFUSED = {
    "use_qalora": "QALoRA pools the inputs before A",
    "use_bdlora": "BD-LoRA stores A or B as diagonal blocks",
    "kasa_config": "KaSA truncates the base and puts a diagonal between A and B",
    "alora_invocation_tokens": "aLoRA applies only to the tokens behind its invocation, so it is no change of weights",
    "arrow_config": "Arrow chooses between adapters for each token",
    "velora_config": "VeLoRA replaces the training of A",
    "monteclora_config": "MonteCLoRA samples its factors",
    "target_parameters": "LoRA on nn.Parameter tensors (experts in one tensor) is stored in a form of its own",
    "layer_replication": "the adapter belongs to a model with repeated layers",
    "megatron_config": "the factors are split over Megatron's parallel layers",
}

# Initialisations after which the adapter is relative to a changed base.
_CHANGE_BASE = {
    "pissa": "PiSSA",
    "olora": "OLoRA",
    "corda": "CorDA",
    "lora_ga": "LoRA-GA",
    "loftq": "LoftQ",
}
_KEEP_BASE = ("gaussian", "eva", "orthogonal", "mica", "true", "false")

# What PEFT 0.21 and the versions before it write.
_KNOWN = {
    *_REFUSED,
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "corda_config", "ensure_weight_tying",
    "eva_config", "exclude_modules", "fan_in_fan_out", "inference_mode", "init_lora_weights", "layers_pattern",
    "layers_to_transform", "loftq_config", "lora_alpha", "lora_bias", "lora_dropout", "lora_ga_config",
    "megatron_core", "modules_to_save", "peft_type", "peft_version", "qalora_group_size", "r", "rank_pattern",
    "revision", "runtime_config", "target_modules", "task_type", "trainable_token_indices", "use_dora",
    "use_rslora",
}  # fmt: skip


def refuse_variants(raw: dict[str, Any], source: str) -> None:
    """Refuse what is not LoRA, and variants of LoRA that are not s·B·A on the unchanged base.

    Raises
    ------
    FormatError
        The first reason, and the remedy.
    """
    kind = raw.get("peft_type")
    if kind != "LORA":
        what = "`peft_type` is missing" if kind is None else f"`peft_type` is {kind!r}"
        raise FormatError(f"{source}: {what}; only LoRA adapters (`LORA`) are supported")
    for key, why in _REFUSED.items():
        if _is_set(raw.get(key)):
            raise FormatError(
                f"{source}: `{key}` is set, which is not supported: {why}; use a plain LoRA adapter"
            )
    refuse_initialisation(raw.get("init_lora_weights", True), source)


def unknown_keys(raw: dict[str, Any]) -> tuple[str, ...]:
    """Keys that no known version of PEFT writes and that are set to something.

    >>> unknown_keys({"r": 8, "use_new_idea": True, "other_idea": None})
    ('use_new_idea',)
    """
    return tuple(key for key, value in raw.items() if key not in _KNOWN and _is_set(value))


def _is_set(value: Any) -> bool:
    return value is not None and value is not False and value not in ({}, [], "")


def refuse_initialisation(init: Any, source: str) -> None:
    """Refuse an initialisation after which the adapter is relative to a changed base; `init` is `init_lora_weights`.

    Raises
    ------
    FormatError
        What it does to the base, and the remedy.
    """
    word = str(init).lower()
    if init is None or word.startswith(_KEEP_BASE):
        return
    said = f"{source}: `init_lora_weights` is {init!r}"
    name = next((name for start, name in _CHANGE_BASE.items() if word.startswith(start)), None)
    if name is None:
        raise FormatError(
            f"{said}, an initialisation that is not known and may change the base's weights; if it leaves them "
            "as they are, set it to true in adapter_config.json"
        )
    if name == "LoftQ":
        raise FormatError(
            f"{said}: {name} replaces the base by a quantised one, and the adapter is relative to that; merge it "
            "into its own base with PEFT (merge_and_unload) and use the result as a model"
        )
    raise FormatError(
        f"{said}: {name} changes the base's weights, and the adapter is relative to the changed base; convert it "
        "with PEFT: save_pretrained(FOLDER, path_initial_model_for_weight_conversion=INITIAL_ADAPTER)"
    )
