"""The files beside the weights: configuration, tokenizer, chat template, index, model card.

They are chosen before a byte is merged, so that whatever is wrong with them is said first. Small files are
copied byte for byte; weights in other formats and pickles never are.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrick.card import model_card
from carrick.chat_templates import TEMPLATES
from carrick.checkpoints import read_json
from carrick.errors import FormatError, PlanError
from carrick.model_templates import template_of, template_of_most
from carrick.plan import index_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from carrick.plan import Plan

Companions = dict[str, "Path | bytes"]
"""File name (relative, with /) in the output to the file it is copied from, or to its content."""

INDEX = "model.safetensors.index.json"

_MODEL_FILES = (
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "image_processor_config.json",
    "feature_extractor_config.json",
    # sentence-transformers: what is done with the last layer
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "[0-9]*_*/config.json",
)

_TOKENIZER_FILES = (
    "tokenizer*.json",
    "tokenizer.model*",
    "*.bpe.model",
    "spiece.model",
    "sentencepiece*.model",
    "*.spm",
    "*.tiktoken",
    "tekken.json",
    "vocab*",
    "merges.txt",
    "bpe.codes",
    "special_tokens_map.json",
    "added_tokens.json",
    "normalizer.json",
    "chat_template.json",
    "*.jinja",
    "additional_chat_templates/*.jinja",
)

_NEVER = {
    ".bin", ".ckpt", ".gguf", ".h5", ".joblib", ".msgpack", ".npy", ".npz", ".onnx", ".pickle", ".pkl",
    ".pt", ".pth", ".safetensors",
}  # fmt: skip

_NEEDED = ("method", "variant", "document", "yaml", "models", "donor", "tokenizer", "config_json", "dtype")


def check_meta(plan: Plan) -> None:
    """Refuse a saved plan that does not say what belongs beside the weights.

    Raises
    ------
    PlanError
        Names what is missing.
    """
    missing = [name for name in _NEEDED if name not in plan.meta]
    if missing:
        raise PlanError(f"the plan has no {missing[0]!r} in `meta`; make it again with `carrick plan --json`")


def companions(plan: Plan) -> Companions:
    """Choose every file of the output beside weights and record.

    Raises
    ------
    PlanError
        A chat template that is not known by name, or a model without the tokenizer that is asked of it.
    FormatError
        A tokenizer configuration that must be edited and is malformed.
    """
    donor = Path(plan.meta["donor"]["folder"])
    tokenizer = Path(plan.meta["tokenizer"]["folder"])
    if plan.meta["tokenizer"].get("asked") and tokenizer.is_dir() and not has_tokenizer(tokenizer):
        raise PlanError(
            f"{plan.meta['tokenizer']['ref']}: `tokenizer_source` asks for its tokenizer, and it has none; name a "
            "model that has one, or leave the key out"
        )
    chosen: Companions = {}
    chosen.update(_matching(donor, _MODEL_FILES))
    chosen.update(_matching(tokenizer, _TOKENIZER_FILES))
    chosen.update(_config(donor, plan.meta["config_json"]))
    for folder in (tokenizer, donor):
        if _has_remote_code(folder):
            chosen.update(_matching(folder, ("*.py",)))
    _set_chat_template(chosen, _template_text(plan.meta))
    index = index_of(plan)
    if index is not None:
        chosen[INDEX] = _dump(index)
    chosen["README.md"] = model_card(plan).encode()
    return chosen


def write_companions(chosen: Companions, folder: Path) -> None:
    """Write them into a folder; the index last, without which a model of several shards does not load."""
    for name in sorted(chosen, key=lambda name: (name == INDEX, name)):
        target, source = folder / name, chosen[name]
        target.parent.mkdir(exist_ok=True)
        if isinstance(source, bytes):
            target.write_bytes(source)
        else:
            shutil.copyfile(source, target)


def has_tokenizer(folder: Path) -> bool:
    """Tell whether a folder holds anything of a tokenizer."""
    return bool(_matching(folder, _TOKENIZER_FILES))


def _matching(folder: Path, patterns: Iterable[str]) -> Companions:
    return {
        path.relative_to(folder).as_posix(): path
        for pattern in patterns
        for path in sorted(folder.glob(pattern))
        if path.is_file() and path.suffix.lower() not in _NEVER
    }


def _config(donor: Path, config: Mapping[str, Any] | None) -> Companions:
    if config is None:
        return {}
    path = donor / "config.json"
    unchanged = path.is_file() and read_json(path) == config
    return {"config.json": path if unchanged else _dump(config)}


def _has_remote_code(folder: Path) -> bool:
    for name in ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json"):
        path = folder / name
        content = read_json(path) if path.is_file() else None
        if isinstance(content, dict) and "auto_map" in content:
            return True
    return False


def _set_chat_template(chosen: Companions, text: str | None) -> None:
    """Put a template of the configuration in every place that a tokenizer may be asked for it; None changes nothing."""
    if text is None:
        return
    for name in [name for name in chosen if name.endswith(".jinja") or name == "chat_template.json"]:
        del chosen[name]
    chosen["chat_template.jinja"] = text.encode()
    source = chosen.get("tokenizer_config.json")
    if isinstance(source, Path):
        content = read_json(source)
        if not isinstance(content, dict):
            raise FormatError(f"{source}: is not a JSON object, so no chat template can be set in it")
        chosen["tokenizer_config.json"] = _dump({**content, "chat_template": text})


def _template_text(meta: Mapping[str, Any]) -> str | None:
    """Return the template that the output gets in place of its tokenizer's, None where that stays."""
    wanted = meta.get("chat_template")
    if wanted is None:
        return None
    if wanted["kind"] == "auto":
        merged = [Path(model["folder"]) for model in meta["models"] if model["role"] != "donor"]
        text = template_of_most(merged)
        return None if text == template_of(Path(meta["tokenizer"]["folder"])) else text
    text = str(wanted["text"])
    if wanted["kind"] == "jinja":
        return text
    if text not in TEMPLATES:
        raise PlanError(
            f"chat_template: {text!r} is not known by name; the names are auto, {', '.join(TEMPLATES)}; "
            "or give the template's Jinja text"
        )
    return TEMPLATES[text]


def _dump(content: Any) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
