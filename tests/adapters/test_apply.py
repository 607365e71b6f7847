"""Adapters folded into their base: what PEFT's `merge_and_unload` gives, in float32 with one rounding."""

from __future__ import annotations

import warnings

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import carrick
from adapters.dense import applied, delta, values
from adapters.handmade import Handmade, Q, adapter, base_tensors, folded, write_base
from adapters.zoo import (
    CASES,
    bert,
    case,
    gpt2,
    llama,
    llama_tied,
    peft,
    qwen2,
    randomise,
    torch,
    transformers,
)
from carrick.adapters.adapter import read_adapter
from carrick.errors import PlanError

UNSUPPORTED = ("dora_embedding", "dora_gpt2")  # DoRA on weights that are stored transposed
BF16 = ml_dtypes.bfloat16


def as_type(tensors, dtype):
    return {
        name: tensor.astype(dtype) if tensor.dtype == np.float64 else tensor
        for name, tensor in tensors.items()
    }


def in_type(folder, dtype, to):
    """A copy of an adapter with its tensors in another type."""
    to.mkdir()
    for file in folder.iterdir():
        if file.suffix == ".safetensors":
            save_file(as_type(load_file(file), dtype), to / file.name)
        else:
            (to / file.name).write_bytes(file.read_bytes())
    return to


def apply(base, adapters, folder, **options):
    """The output's tensors, and the report."""
    save_base(base, folder / "base.safetensors")
    report = carrick.adapters.apply(folder / "base.safetensors", adapters, folder / "out", **options)
    return load_file(folder / "out" / "model.safetensors"), report


def save_base(tensors, path):
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, path)


@pytest.mark.parametrize("name", [name for name in CASES if name not in UNSUPPORTED])
def test_the_merged_model_is_that_of_peft(name, made, tmp_path):
    """In float64 to its last bits; in float32 within a few roundings."""
    one = made(name)
    (tmp_path / "double").mkdir()
    found, report = apply(one.base, one.folder, tmp_path / "double")
    assert found.keys() == one.merged.keys()
    for key, tensor in one.merged.items():
        np.testing.assert_allclose(found[key], tensor, rtol=1e-13, atol=1e-13, err_msg=key)
    single = in_type(one.folder, np.float32, tmp_path / "adapter")
    found, report = apply(as_type(one.base, np.float32), single, tmp_path)
    for key, tensor in one.merged.items():
        assert found[key].dtype != np.float64
        np.testing.assert_allclose(found[key], tensor, rtol=1e-6, atol=1e-6, err_msg=key)
    assert report.tensors == len(one.merged)


@pytest.mark.parametrize("name", [name for name in CASES if name not in UNSUPPORTED])
def test_bfloat16_is_rounded_once(name, made, tmp_path):
    """Base and adapter in bfloat16: the float64 result of just these numbers, rounded, within one step."""
    one = made(name)
    base = as_type(one.base, BF16)
    folder = in_type(one.folder, BF16, tmp_path / "adapter")
    found, _ = apply(base, folder, tmp_path)
    wide = {key: t.astype(np.float64) if t.dtype == BF16 else t for key, t in base.items()}
    expected = applied(read_adapter(folder), wide)
    different = total = 0
    for key, tensor in expected.items():
        if found[key].dtype != BF16:
            np.testing.assert_array_equal(found[key], tensor)
            continue
        rounded = tensor.astype(np.float32).astype(BF16)
        steps = np.abs(order(found[key]) - order(rounded))
        assert steps.max(initial=0) <= 1, key
        different += int(steps.sum())
        total += steps.size
    # A sum near the middle of two numbers may fall to either side: that is rare.
    assert different <= total // 200


def order(values):
    """Integers in the order of bfloat16 numbers, neighbours one apart."""
    bits = np.ascontiguousarray(values).view(np.int16).astype(np.int32)
    return np.where(bits < 0, -(bits & 0x7FFF), bits)


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_dora_on_transposed_weights_is_refused(name, made, tmp_path):
    with pytest.raises(
        PlanError, match=r"of DoRA on '.*weight', which is stored transposed.*merge_and_unload"
    ):
        apply(made(name).base, made(name).folder, tmp_path)
    assert not (tmp_path / "out").exists()


MODELS = {
    "llama": case(llama, "q_proj", "v_proj", "down_proj"),
    "llama tied": case(llama_tied, "q_proj", "embed_tokens"),
    "llama head": case(llama, "q_proj", "embed_tokens", "lm_head", use_rslora=True),
    "llama saved": case(llama, "q_proj", modules_to_save=["lm_head", "norm"]),
    "llama dora": case(llama, "q_proj", "down_proj", use_dora=True),
    "llama tokens": case(llama, "q_proj", trainable_token_indices=[1, 5, 30]),
    "qwen2": case(qwen2, "q_proj", "k_proj", "o_proj", "gate_proj"),
    "qwen2 bias": case(qwen2, "q_proj", "v_proj", lora_bias=True),
    "gpt2": case(gpt2, "c_attn", "c_proj", "c_fc", fan_in_fan_out=True),
    "bert": case(bert, "query", "value", "dense", task_type="SEQ_CLS"),
    "bert bias": case(bert, "query", bias="all", task_type="SEQ_CLS"),
}


@pytest.mark.parametrize("name", MODELS)
def test_logits_of_the_loaded_result(name, tmp_path):
    one = MODELS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(3)
        model = one.model().eval()
        model.save_pretrained(tmp_path / "base")
        wrapped = peft.get_peft_model(model, peft.LoraConfig(r=4, **one.options)).eval()
        randomise(wrapped)
        wrapped.save_pretrained(tmp_path / "adapter")
        carrick.adapters.apply(tmp_path / "base", tmp_path / "adapter", tmp_path / "out")
        loaded, info = type(model).from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    tokens = torch.tensor([[1, 5, 3, 30, 2, 9]])
    with torch.no_grad():
        if name == "llama tied":  # only merging makes the head follow the embeddings, of which PEFT warns
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                wrapped = wrapped.merge_and_unload()
        expected = wrapped(tokens).logits
        found = loaded.eval()(tokens).logits
        untouched = type(model).from_pretrained(tmp_path / "base").eval()(tokens).logits
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-5, atol=1e-5)
    assert not np.allclose(found.numpy(), untouched.numpy(), atol=1e-3)


def test_a_base_saved_without_its_head(tmp_path):
    """`encoder.…` in the base where the adapter says `bert.encoder.…`, and a head that the base lacks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(1)
        whole = bert()
        whole.bert.save_pretrained(tmp_path / "base")
        model = type(whole).from_pretrained(tmp_path / "base", num_labels=3)
        config = peft.LoraConfig(r=4, target_modules=["query", "value"], task_type="SEQ_CLS")
        wrapped = peft.get_peft_model(model, config).eval()
        randomise(wrapped)
        wrapped.save_pretrained(tmp_path / "adapter")
        report = carrick.adapters.apply(tmp_path / "base", tmp_path / "adapter", tmp_path / "out")
        assert any("adds classifier.bias, classifier.weight, which" in note for note in report.notes)
        loaded, info = type(whole).from_pretrained(tmp_path / "out", num_labels=3, output_loading_info=True)
    assert not info["missing_keys"]
    tokens = torch.tensor([[1, 5, 3, 30]])
    with torch.no_grad():
        np.testing.assert_allclose(
            loaded.eval()(tokens).logits.numpy(), wrapped(tokens).logits.numpy(), rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize(
    ("pair", "weights"),
    [
        (("linear", "embedding"), (0.5, -1.25)),
        (("linear", "rslora"), (1.0, 1.0)),
        (("embedding", "embedding_rslora"), (0.5, 0.25)),  # PEFT saved the base's embeddings beside both
        (("gpt2", "gpt2_embedding"), (0.3, 2.0)),
        (("convolutions", "convolutions_bias"), (0.7, 0.1)),
        (("tokens", "linear"), (0.25, 0.5)),
        (("tokens", "tokens_by_name"), (0.25, -1.5)),
        (("tokens", "tokens_tied"), (1.0, 1.0)),
        (("saved", "some_layers"), (0.25, 3.0)),
    ],
)
def test_two_adapters_with_weights(pair, weights, made, tmp_path):
    """Against NumPy: what a weight multiplies is the difference that each adapter makes."""
    base = made(pair[0]).base
    folders = [made(name).folder for name in pair]
    expected = {name: tensor.copy() for name, tensor in base.items()}
    for folder, weight in zip(folders, weights, strict=True):
        alone = applied(read_adapter(folder), base)
        for name, tensor in alone.items():
            if tensor.dtype == np.float64:
                expected[name] = expected[name] + weight * (tensor - base[name])
    found, _ = apply(base, [f"{folder}:{w}" for folder, w in zip(folders, weights, strict=True)], tmp_path)
    for name, tensor in expected.items():
        np.testing.assert_allclose(found[name], tensor, rtol=1e-12, atol=1e-12, err_msg=name)


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("saved", "embedding", ["'lm_head.weight'", "replaces it and", "adds to it"]),
        ("embedding", "saved", ["'lm_head.weight'", "adds to it and", "replaces it"]),
        ("bias_all", "bias_lora_only", [".bias'", "replaces it and"]),
        ("saved", "tokens", ["'model.embed_tokens.weight'", "replaces it and", "replaces rows of it"]),
        ("tokens", "embedding", ["'model.embed_tokens.weight'", "replaces rows of it", "adds to it"]),
        ("dora", "linear", ["_proj.weight'", "sets the norms of its rows (DoRA) and", "adds to it"]),
        ("linear", "dora", ["_proj.weight'", "adds to it and", "sets the norms of its rows (DoRA)"]),
    ],
)
def test_what_one_adapter_replaces_no_other_may_change(first, second, words, made, tmp_path):
    with pytest.raises(PlanError) as caught:
        apply(made(first).base, [made(first).folder, made(second).folder], tmp_path)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert str(made(first).folder) in message
    assert str(made(second).folder) in message


def test_weights_of_what_replaces(made, tmp_path):
    """Half of an adapter: tensors and rows half way between the base's and the adapter's."""
    for number, name in enumerate(("saved", "tokens_by_name", "bias_all", "bias_lora_only")):
        one = made(name)
        folder = tmp_path / str(number)
        folder.mkdir()
        found, _ = apply(one.base, f"{one.folder}:0.5", folder)
        full = applied(read_adapter(one.folder), one.base)
        for key, tensor in full.items():
            if tensor.dtype != np.float64:
                continue
            np.testing.assert_allclose(found[key], (one.base[key] + tensor) / 2, atol=1e-14, err_msg=key)


def test_peft_with_two_adapters_at_once(tmp_path):
    """Independent of the reader: PEFT's own sum of two adapters."""
    one = CASES["linear"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        model = one.model().double()
        base = {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}
        wrapped = peft.get_peft_model(model, peft.LoraConfig(r=4, lora_alpha=6, **one.options))
        wrapped.add_adapter("other", peft.LoraConfig(r=2, target_modules=["q_proj", "up_proj"]))
        for name in ("default", "other"):
            wrapped.set_adapter(name)
            randomise(wrapped)
        wrapped.save_pretrained(tmp_path / "adapters")
        wrapped.base_model.set_adapter(["default", "other"])
        merged = wrapped.merge_and_unload(adapter_names=["default", "other"]).state_dict()
    found, _ = apply(base, [tmp_path / "adapters", tmp_path / "adapters" / "other"], tmp_path)
    for name, tensor in merged.items():
        np.testing.assert_allclose(found[name], tensor.numpy(), rtol=1e-13, atol=1e-13, err_msg=name)


@settings(max_examples=15)
@given(st.data())
def test_any_weights_and_ranks(data):
    """Σ weight·s·B·A with dyadic numbers is exact in float32: equal to float64 to the last bit."""
    import tempfile  # noqa: PLC0415
    from pathlib import Path  # noqa: PLC0415

    weight = st.integers(-8, 8).map(lambda n: n / 4)
    count = data.draw(st.integers(1, 3))
    with tempfile.TemporaryDirectory() as root:
        base = base_tensors(data.draw(st.integers(0, 99)))
        folder = write_base(Path(root) / "base", base)
        pairs = []
        for number in range(count):
            made = adapter(data.draw(st.integers(0, 99)), rank=data.draw(st.integers(1, 9)))
            made.write(Path(root) / f"a{number}")
            pairs.append((made, data.draw(weight)))
        words = [f"{root}/a{number}:{weight}" for number, (_, weight) in enumerate(pairs)]
        carrick.adapters.apply(folder, words, Path(root) / "out")
        found = load_file(Path(root) / "out" / "model.safetensors")
    for name, tensor in folded(base, *pairs).items():
        np.testing.assert_array_equal(found[name], tensor.astype(np.float32), err_msg=name)


def test_a_large_module_of_odd_sizes(tmp_path):
    """Several tiles, ranks and widths that no vector length divides, every way round, F16 factors."""
    rng = np.random.default_rng(2)
    shapes = {"h.0.q": (517, 1031), "h.0.fc": (257, 2051), "wte": (1999, 333)}
    base = {f"{name}.weight": rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}

    def factor(*shape):
        return rng.standard_normal(shape).astype(np.float16)

    factors = {
        "h.0.q": (factor(13, 1031), factor(517, 13)),
        "h.0.fc": (factor(13, 257), factor(2051, 13)),  # stored as (in, out)
    }
    embedding = {"wte.lora_embedding_A": factor(13, 1999), "wte.lora_embedding_B": factor(333, 13)}
    Handmade(factors, {"r": 13, "lora_alpha": 7}, embedding).write(tmp_path / "adapter")
    found, _ = apply(base, tmp_path / "adapter", tmp_path)
    held = {name: tensor.astype(np.float64) for name, tensor in embedding.items()}
    a, b = held["wte.lora_embedding_A"], held["wte.lora_embedding_B"]
    wide = {name: (b.astype(np.float64) @ a.astype(np.float64)) for name, (a, b) in factors.items()}
    updates = {"h.0.q": wide["h.0.q"], "h.0.fc": wide["h.0.fc"].T, "wte": (b @ a).T}
    for name, update in updates.items():
        want = base[f"{name}.weight"] + 7 / 13 * update
        np.testing.assert_allclose(found[f"{name}.weight"], want, rtol=1e-6, atol=4e-6, err_msg=name)


def test_the_zoo_changes_what_it_should(made):
    """The oracle above is worth something only if ΔW is not small."""
    one = made("linear")
    read = read_adapter(one.folder)
    held = values(read)
    sizes = [np.abs(delta(module, held)).max() for module in read.modules.values()]
    assert min(sizes) > 0.1
    assert len(sizes) == 6


def test_other_files_of_the_base_come_along(tmp_path):
    base = write_base(tmp_path / "base", base_tensors())
    (base / "tokenizer.json").write_text("{}")
    folder = adapter(1).write(tmp_path / "adapter")
    (folder / "tokenizer.json").write_text("[]")
    report = carrick.adapters.apply(base, folder, tmp_path / "out", dtype="bfloat16")
    assert (tmp_path / "out" / "tokenizer.json").read_text() == "{}"
    assert load_file(tmp_path / "out" / "model.safetensors")[f"{Q.format(0)}.weight"].dtype == BF16
    assert report.notes == []


def test_a_base_of_another_name_is_noted(tmp_path):
    base = write_base(tmp_path / "Llama-1B", base_tensors())
    other = adapter(1, base_model_name_or_path="org/Other-1B").write(tmp_path / "other")
    same = adapter(1, base_model_name_or_path="org/llama-1b/").write(tmp_path / "same")
    notes = carrick.adapters.apply(base, other, tmp_path / "out").notes
    assert [note.partition(": ")[2][:52] for note in notes] == [
        f"was made for org/Other-1B, and is put on {base}"[:52]
    ]
    assert carrick.adapters.apply(base, same, tmp_path / "out2").notes == []


def test_versions_of_the_oracle():
    assert transformers.__version__ >= "5"
    assert tuple(map(int, peft.__version__.split(".")[:2])) >= (0, 20)
