"""Merges inside a live PeftModel: the logits are those of the mathematics, and nothing else has changed."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from carrick.errors import CarrickError, ConfigError
from carrick.torch import add_merged_adapter
from device.oracle import Dense, Model, deltas_of, knots, relative_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from oracles.dtypes import Array

peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
)

TOKENS = torch.arange(24).reshape(2, 12) % 60


def llama() -> Any:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return transformers.LlamaForCausalLM(config).eval()


def gpt2() -> Any:
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=64, n_positions=32, n_embd=32, n_layer=2, n_head=4)
    return transformers.GPT2LMHeadModel(config).eval()


def lora(**fields: Any) -> Any:
    return peft.LoraConfig(**{"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj"], **fields})


def fill(model: Any, seed: int = 1) -> Any:
    """Random factors in place of the zeros that PEFT begins with."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return model.eval()


LLAMA = [
    lora(),
    lora(
        r=3,
        use_rslora=True,
        target_modules=["q_proj", "down_proj", "embed_tokens"],
        rank_pattern={"down_proj": 5},
        alpha_pattern={"q_proj": 9},
    ),
    lora(r=2, target_modules=["v_proj"], layers_to_transform=[1]),
]
GPT2 = [
    lora(target_modules=["c_attn", "c_proj"], fan_in_fan_out=True),
    lora(r=2, target_modules=["c_attn", "wte"], fan_in_fan_out=True),
    lora(r=3, target_modules=["c_fc"], fan_in_fan_out=True),
]


def with_adapters(base: Callable[[], Any], configs: list[Any]) -> Any:
    configs = copy.deepcopy(configs)
    model = peft.get_peft_model(base(), configs[0], adapter_name="en")
    for name, config in zip(("de", "fr"), configs[1:], strict=False):
        model.add_adapter(name, config)
    return fill(model)


MODELS = pytest.mark.parametrize(("base", "configs"), [(llama, LLAMA), (gpt2, GPT2)], ids=["llama", "gpt2"])
NAMES = ["en", "de", "fr"]


def logits(model: Any, adapters: str | list[str]) -> torch.Tensor:
    with torch.no_grad():
        model.base_model.set_adapter(adapters)
        out: torch.Tensor = model(TOKENS).logits
    return out


def layers_of(model: Any) -> dict[str, Any]:
    from peft.tuners.lora import LoraLayer  # noqa: PLC0415

    return {
        path: layer for path, layer in model.base_model.model.named_modules() if isinstance(layer, LoraLayer)
    }


def as_dense(layer: Any, adapter: str) -> Dense | None:
    if adapter in layer.lora_A:
        a, b = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
    elif adapter in layer.lora_embedding_A:
        a, b = layer.lora_embedding_A[adapter], layer.lora_embedding_B[adapter]
    else:
        return None
    return Dense(a.detach().numpy(), b.detach().numpy(), layer.scaling[adapter])


def oracle_model(model: Any) -> Model:
    return {path: [as_dense(layer, name) for name in NAMES] for path, layer in layers_of(model).items()}


def merged_deltas(model: Any, name: str) -> dict[str, Array]:
    return {
        path: term.delta
        for path, layer in layers_of(model).items()
        if (term := as_dense(layer, name)) is not None
    }


@MODELS
@pytest.mark.parametrize("method", ["cat", "task_arithmetic", "knots_linear", "svd"])
def test_a_sum_is_the_forward_of_all_adapters_at_once(base: Any, configs: list[Any], method: str) -> None:
    model = with_adapters(base, configs)
    together = logits(model, NAMES)
    add_merged_adapter(model, NAMES, "sum", method=method)
    got = logits(model, "sum")
    assert float((got - together).norm() / together.norm()) < 1e-5
    assert float((got - logits(model, "en")).norm() / together.norm()) > 1e-2


@MODELS
def test_weights_multiply_delta(base: Any, configs: list[Any]) -> None:
    model = with_adapters(base, configs)
    add_merged_adapter(model, NAMES, method="cat", weights=[0.5, -1.0, 2.0])
    got = merged_deltas(model, "merged")
    for path, terms in oracle_model(model).items():
        want = sum(w * d for w, d in zip((0.5, -1.0, 2.0), deltas_of(terms), strict=True))
        assert relative_error(got[path], want) < 1e-6


@MODELS
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("knots_ties", {"density": 0.4}),
        ("knots_ties", {"density": 0.4, "variant": "paper", "weights": [1.0, 2.0, 0.5]}),
        ("knots_magnitude_prune", {"density": 0.4}),
    ],
)
def test_knots_is_the_dense_oracle(
    base: Any, configs: list[Any], method: str, options: dict[str, Any]
) -> None:
    model = with_adapters(base, configs)
    found = add_merged_adapter(model, NAMES, method=method, **options)
    choices = {"weights": [1.0] * 3, **options, "density": [options["density"]] * 3}
    want = knots(oracle_model(model), method, **choices)
    got = merged_deltas(model, "merged")
    assert sorted(got) == sorted(want) == sorted(found)
    for path, matrix in want.items():
        assert relative_error(got[path], matrix) < 2e-6, path


def state(model: Any) -> dict[str, Any]:
    """Everything that a merge must leave as it was."""
    return {
        "active": model.active_adapters,
        "configs": {name: config.to_dict() for name, config in model.peft_config.items()},
        "values": {name: p.detach().clone() for name, p in model.named_parameters()},
        "trained": {name: p.requires_grad for name, p in model.named_parameters()},
        "training": model.training,
    }


def assert_unchanged(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert before["active"] == after["active"]
    assert before["training"] == after["training"]
    for name, config in before["configs"].items():
        assert after["configs"][name] == config
    for name, value in before["values"].items():
        assert torch.equal(after["values"][name], value), name
        assert after["trained"][name] == before["trained"][name], name


@MODELS
def test_the_rest_of_the_model_stays_as_it_was(base: Any, configs: list[Any]) -> None:
    model = with_adapters(base, configs)
    model.set_adapter("de")
    before = state(model)
    add_merged_adapter(model, NAMES, "new", density=0.5)
    after = state(model)
    assert_unchanged(before, after)
    new = [name for name in after["trained"] if name not in before["trained"]]
    assert new
    assert all(".new" in name and not after["trained"][name] for name in new)


def test_the_new_adapter_is_activated_on_request() -> None:
    model = with_adapters(llama, LLAMA)
    add_merged_adapter(model, NAMES, "new", method="cat", activate=True)
    assert model.active_adapters == ["new"]


@MODELS
def test_the_new_adapter_is_saved_and_loaded_by_peft(base: Any, configs: list[Any], tmp_path: Path) -> None:
    model = with_adapters(base, configs)
    add_merged_adapter(model, NAMES, "new", density=0.5)
    want = logits(model, "new")
    model.save_pretrained(tmp_path, selected_adapters=["new"])
    loaded = peft.PeftModel.from_pretrained(base(), tmp_path / "new").eval()
    with torch.no_grad():
        assert torch.allclose(loaded(TOKENS).logits, want, atol=1e-6)


class Nested(torch.nn.Module):
    """Modules whose paths end in each other's, of which adapters have but some."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = torch.nn.Linear(6, 6, bias=False)
        self.inner = torch.nn.ModuleDict({"proj": torch.nn.Linear(6, 6, bias=False)})
        self.other = torch.nn.ModuleDict(
            {"inner": torch.nn.ModuleDict({"proj": torch.nn.Linear(6, 6, bias=False)})}
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.other["inner"]["proj"](self.inner["proj"](self.proj(x)))
        return result


@pytest.mark.parametrize(
    "targets",
    [
        r"proj",
        r"proj|inner\.proj",
        r"proj|other\.inner\.proj",
        r"inner\.proj|other\.inner\.proj",
        r"proj|inner\.proj|other\.inner\.proj",
    ],
)
@pytest.mark.parametrize("special", [r"^proj", r"^inner\.proj", r"^other\.inner\.proj"])
def test_paths_that_end_in_others_get_their_own_rank(targets: str, special: str, tmp_path: Path) -> None:
    """In a file too, where PEFT puts the patterns in an order of its own."""
    torch.manual_seed(1)
    pattern = {special: 3} if special[1:] in targets.split("|") else {}
    config = peft.LoraConfig(r=2, target_modules=targets, rank_pattern=pattern)
    model = peft.get_peft_model(Nested(), config, adapter_name="en")
    model.add_adapter("de", copy.deepcopy(config))
    fill(model)
    found = add_merged_adapter(model, ["en", "de"], method="cat")
    layers = layers_of(model)
    assert sorted(found) == sorted(layers)
    for path, layer in layers.items():
        assert layer.r["merged"] == sum(layer.r[name] for name in ("en", "de")) == found[path].rank
    model.save_pretrained(tmp_path, selected_adapters=["merged"])
    loaded = merged_deltas(peft.PeftModel.from_pretrained(Nested(), tmp_path / "merged"), "default")
    want = merged_deltas(model, "merged")
    assert loaded.keys() == want.keys()
    assert all(np.array_equal(loaded[path], matrix) for path, matrix in want.items())


def test_a_module_that_merges_to_zero_keeps_one_zero_rank() -> None:
    model = with_adapters(llama, [lora(), lora(), lora()])
    for layer in layers_of(model).values():
        layer.lora_B["fr"].weight.data.zero_()
    add_merged_adapter(model, ["fr"], "nothing", method="knots_linear")
    assert all(layer.r["nothing"] == 1 for layer in layers_of(model).values())
    with model.disable_adapter(), torch.no_grad():
        want = model(TOKENS).logits
    assert torch.equal(logits(model, "nothing"), want)


CHANGED = "changes the base's weights, and the adapter is relative to the changed base; convert it with PEFT"
REFUSED = [
    (lambda: lora(use_dora=True), " has `use_dora`: DoRA"),
    (lambda: lora(modules_to_save=["lm_head"]), " has `modules_to_save`: full copies"),
    (lambda: lora(target_modules=["c_attn"], lora_bias=True, fan_in_fan_out=True), " has `lora_bias`"),
    (lambda: lora(bias="all"), " has `bias: all`"),
    (lambda: lora(trainable_token_indices=[1, 2]), " has `trainable_token_indices`"),
    (lambda: lora(init_lora_weights="pissa"), f": `init_lora_weights` is 'pissa': PiSSA {CHANGED}"),
    (
        lambda: lora(init_lora_weights="pissa_niter_4"),
        f": `init_lora_weights` is 'pissa_niter_4': PiSSA {CHANGED}",
    ),
    (lambda: lora(init_lora_weights="olora"), f": `init_lora_weights` is 'olora': OLoRA {CHANGED}"),
]


@pytest.mark.parametrize(("config", "message"), REFUSED)
def test_what_a_merge_of_factors_would_lose_is_refused(config: Callable[[], Any], message: str) -> None:
    made = config()
    model = peft.get_peft_model(gpt2() if made.fan_in_fan_out else llama(), made, adapter_name="en")
    before = state(model)
    with pytest.raises(CarrickError, match=f"^adapter `en`{message}") as caught:
        add_merged_adapter(model, ["en"], method="cat")
    assert ("carrick adapters merge" in str(caught.value)) == (" has " in message)
    assert_unchanged(before, state(model))
    assert list(model.peft_config) == ["en"]


@pytest.mark.parametrize(
    ("init", "reason"),
    [
        ("corda", f"CorDA {CHANGED}"),
        ("lora_ga", f"LoRA-GA {CHANGED}"),
        ("loftq", "LoftQ replaces the base by a quantised one"),
        ("new_idea", "an initialisation that is not known and may change the base's weights"),
        (True, None),
        (False, None),
        ("gaussian", None),
        ("eva", None),
        ("orthogonal", None),
    ],
)
def test_initialisations(init: Any, reason: str | None) -> None:
    """Those that take calibration data or a quantised base are told by the configuration alone."""
    model = with_adapters(llama, LLAMA[:1])
    model.peft_config["en"].init_lora_weights = init
    if reason is None:
        add_merged_adapter(model, ["en"], method="cat")
        return
    with pytest.raises(CarrickError) as caught:
        add_merged_adapter(model, ["en"], method="cat")
    assert str(caught.value).startswith(f"adapter `en`: `init_lora_weights` is {init!r}")
    assert reason in str(caught.value)


def test_convolutions_are_refused_by_name() -> None:
    base = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
    model = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["0"]), adapter_name="en")
    with pytest.raises(CarrickError, match="0: a LoRA of Conv2d is not of linear layers or embeddings"):
        add_merged_adapter(model, ["en"], method="cat")


def test_requests_that_cannot_be_carried_out_leave_the_model_alone() -> None:
    model = with_adapters(llama, LLAMA)
    before = state(model)
    bad: list[tuple[dict[str, Any], str]] = [
        ({"adapters": ["en", "gr"]}, "adapter `gr` is not in the model.*it has en, de, fr"),
        ({"adapters": "en"}, "it is a list of names"),
        ({"adapters": []}, "it is a list of names"),
        ({"adapters": ["en"], "name": "de"}, "`de` is there already"),
        ({"adapters": ["en"], "name": "a.b"}, "must have no dot"),
        ({"adapters": ["en", "de"]}, "`knots_ties` needs `density`"),
        (
            {"adapters": ["en", "de"], "method": "ties", "density": 1},
            "`ties` .* not of low rank: give `rank`",
        ),
        ({"adapters": ["en"], "method": "cat", "device": "cuda:64"}, "cuda:64"),
    ]
    for arguments, message in bad:
        with pytest.raises(ConfigError, match=message):
            add_merged_adapter(model, **arguments)
    layers_of(model)["model.layers.0.self_attn.q_proj"].lora_A["en"].weight.data[0, 0] = torch.nan
    with pytest.raises(CarrickError, match=r"layers\.0\.self_attn\.q_proj: A of adapter 0 holds NaN"):
        add_merged_adapter(model, ["en"], density=1)
    layers_of(model)["model.layers.0.self_attn.q_proj"].lora_A["en"].weight.data[0, 0] = before["values"][
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.en.weight"
    ][0, 0]
    assert_unchanged(before, state(model))
    with pytest.raises(ConfigError, match=r"give a peft\.PeftModel"):
        add_merged_adapter(llama(), ["en"])


def test_a_failure_half_way_takes_the_new_adapter_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from carrick.torch.live_layers import LiveLayer  # noqa: PLC0415

    def broken(*_args: Any) -> None:
        raise RuntimeError("broken")

    model = with_adapters(llama, LLAMA)
    before = state(model)
    monkeypatch.setattr(LiveLayer, "store", broken)
    with pytest.raises(RuntimeError, match="broken"):
        add_merged_adapter(model, NAMES, method="cat")
    after = state(model)
    assert_unchanged(before, after)
    assert list(after["values"]) == list(before["values"])
    assert list(model.peft_config) == NAMES


def test_bfloat16_models_keep_their_types_and_merge_in_float32() -> None:
    model = peft.get_peft_model(llama().to(torch.bfloat16), copy.deepcopy(LLAMA[0]), adapter_name="en")
    model.add_adapter("de", copy.deepcopy(LLAMA[0]))
    fill(model)
    layers = layers_of(model)
    want = {
        path: sum(deltas_of([as_dense(layer, name) for name in ("en", "de")]))
        for path, layer in layers.items()
    }
    add_merged_adapter(model, ["en", "de"], "sum", method="cat")
    for path, layer in layers.items():
        assert layer.lora_A["sum"].weight.dtype == layer.lora_B["sum"].weight.dtype == torch.float32
        assert layer.base_layer.weight.dtype == torch.bfloat16
        assert relative_error(merged_deltas(model, "sum")[path], want[path]) < 1e-6
    for layer in layers.values():
        layer.lora_A["en"].to(torch.bfloat16)
        layer.lora_B["en"].to(torch.bfloat16)
    add_merged_adapter(model, ["en"], "small", density=1)
    assert layers[next(iter(layers))].lora_B["small"].weight.dtype == torch.bfloat16
