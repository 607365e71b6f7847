"""What adapters hold beside their factors: refused, kept from one, or merged with the base; never dropped."""

from __future__ import annotations

import json

import numpy as np
import pytest

from adapters.dense import applied
from adapters.loading import merged_weights
from adapters.merging import FILE, Q, distance, lora, meaning
from adapters.zoo import CASES, make
from carrick.adapters import merge
from carrick.adapters.adapter import read_adapter
from carrick.errors import PlanError
from oracles.files import read_file, write_model

WEIGHTS = [0.75, -0.5]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two adapters of a case, and the base of the first, each made once."""
    known = {}

    def get(name):
        if name not in known:
            root = tmp_path_factory.mktemp(name)
            made = [make(CASES[name], root / f"adapter-{seed}", seed) for seed in range(2)]
            base = {key: np.ascontiguousarray(tensor) for key, tensor in made[0].base.items()}
            write_model(root / "base", base)
            known[name] = (made, root / "base", [one.folder for one in made])
        return known[name]

    return get


SAVED = ["saved", "tokens", "tokens_by_name", "tokens_tied", "bias_all", "bias_lora_only"]


@pytest.mark.parametrize("name", SAVED)
def test_refused_unless_told(name, pair, tmp_path):
    _, _, folders = pair(name)
    with pytest.raises(PlanError) as caught:
        merge(folders, tmp_path / "out")
    message = str(caught.value)
    held = read_adapter(folders[0])
    one = next(iter([*held.saved, *held.biases, *held.tokens]))
    for word in (
        str(folders[0]),
        str(folders[1]),
        one,
        "--modules-to-save ADAPTER",
        "--modules-to-save merge",
    ):
        assert word in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("by", ["name", "number"])
@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("name", SAVED)
def test_those_of_one_adapter(name, keep, by, pair, tmp_path):
    """Byte for byte, by the keys that PEFT reads; what the other has is named in a note."""
    made, _, folders = pair(name)
    policy = str(folders[keep]) if by == "name" else str(keep + 1)
    report = merge(folders, tmp_path / "out", weights=WEIGHTS, modules_to_save=policy)
    ours, theirs = (read_file(folder / FILE) for folder in (tmp_path / "out", folders[keep]))
    # Under the wrapper's names PEFT stores some of them once more, beside the base's own.
    wrapped = ("lora_", "modules_to_save.", "original_module.")
    beside = {key for key in theirs if not any(part in key for part in wrapped)}
    assert beside == {key for key in ours if ".lora_" not in key}
    assert beside
    assert all(ours[key].tobytes() == theirs[key].tobytes() for key in beside)
    assert any(str(folders[1 - keep]) in note and "left out" in note for note in report.notes)
    got = merged_weights(CASES[name], tmp_path / "out")
    kept = applied(read_adapter(folders[keep]), made[0].base)
    low_rank = {path for folder in folders for path in read_adapter(folder).modules}
    for key, tensor in kept.items():
        if key.removesuffix(".weight") not in low_rank and tensor.dtype == np.float64:
            np.testing.assert_allclose(got[key], tensor, atol=1e-12, err_msg=key)


@pytest.mark.parametrize("name", SAVED)
def test_merged_with_the_base(name, pair, tmp_path):
    """θ₀ + Σ w·(θᵢ − θ₀) of every such tensor, beside Σ w·ΔW of the others."""
    made, base, folders = pair(name)
    merge(folders, tmp_path / "out", weights=WEIGHTS, modules_to_save="merge", base=base)
    got = merged_weights(CASES[name], tmp_path / "out")
    alone = [applied(read_adapter(folder), made[0].base) for folder in folders]
    for key, tensor in made[0].base.items():
        if tensor.dtype != np.float64:
            continue
        want = tensor + sum(w * (one[key] - tensor) for w, one in zip(WEIGHTS, alone, strict=True))
        np.testing.assert_allclose(got[key], want, atol=1e-12, err_msg=key)


@pytest.mark.parametrize("method", ["cat", "linear"])
def test_merged_with_the_base_scaled_and_normalised(method, pair, tmp_path):
    made, base, folders = pair("saved")
    options = {"weights": [3.0, 1.0], "modules_to_save": "merge", "base": base}
    scales = {"lambda": 0.5, "normalize": True} if method == "cat" else {"normalize": True}
    report = merge(folders, tmp_path / "out", method=method, parameters=scales, **options)
    assert not any("configuration and tokenizer only" in note for note in report.notes)
    alone = [applied(read_adapter(folder), made[0].base)["lm_head.weight"] for folder in folders]
    head = made[0].base["lm_head.weight"]
    scale = scales.get("lambda", 1.0)
    want = head + scale * (0.75 * (alone[0] - head) + 0.25 * (alone[1] - head))
    np.testing.assert_allclose(
        merged_weights(CASES["saved"], tmp_path / "out")["lm_head.weight"], want, atol=1e-12
    )


def test_only_one_adapter_has_them(pair, tmp_path):
    """PEFT copies the base's head over it; here it is that adapter's."""
    made, base, folders = pair("saved")
    other = make(CASES["linear"], tmp_path / "plain", 1).folder
    with pytest.raises(PlanError, match="modules-to-save"):
        merge([folders[0], other], tmp_path / "out")
    for number, (policy, weight) in enumerate([("1", 1.0), ("merge", 0.5)]):
        out = tmp_path / f"out{number}"
        merge([folders[0], other], out, weights=[0.5, 1], modules_to_save=policy, base=base)
        head, trained = (
            t["lm_head.weight"] for t in (made[0].base, applied(read_adapter(folders[0]), made[0].base))
        )
        got = merged_weights(CASES["saved"], out)["lm_head.weight"]
        np.testing.assert_allclose(got, head + weight * (trained - head), atol=1e-12)


def test_what_merge_needs(pair, tmp_path):
    _, base, folders = pair("saved")
    tokens = pair("tokens")[2]

    def refused(message, adapters, **options):
        with pytest.raises(PlanError, match=message):
            merge(adapters, tmp_path / "out", **options)
        assert list(tmp_path.iterdir()) == []

    refused("name it with --base BASE", folders, modules_to_save="merge")
    refused("name it with --base BASE", tokens, modules_to_save="merge")
    refused("'3' is none of the adapters", folders, modules_to_save="3")
    refused("'adapter-0' is none of the adapters", folders, modules_to_save="adapter-0")
    refused("'merg' is none", folders, modules_to_save="merg", base=base)


def test_adapters_on_the_base_are_not_passed_over(tmp_path):
    folders = []
    for seed in range(2):
        one = lora(seed)
        one.settings["modules_to_save"] = ["lm_head"]
        one.more["lm_head.weight"] = np.ones((5, 17), np.float32)
        folders.append(one.write(tmp_path / str(seed)))
    base = write_model(tmp_path / "base", {"lm_head.weight": np.ones((5, 17), np.float32)})
    chat = lora(2).write(tmp_path / "chat")
    asked = {"base": f"{base}+{chat}:0.5", "modules_to_save": "merge"}
    with pytest.raises(PlanError) as caught:
        merge(folders, tmp_path / "out", **asked)
    assert f"`carrick adapters apply {base} {chat}:0.5 -o MODEL`" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_base_lacks_the_tensor(pair, tmp_path):
    made, _, folders = pair("saved")
    base = {k: np.ascontiguousarray(t) for k, t in made[0].base.items() if k != "lm_head.weight"}
    write_model(tmp_path / "base", base, config={"model_type": "llama", "tie_word_embeddings": False})
    with pytest.raises(PlanError, match=r"has no tensor 'lm_head.weight', which .*adapter-0 saves whole"):
        merge(folders, tmp_path / "out", modules_to_save="merge", base=tmp_path / "base")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("weights", [[1.0, 1.0], [0.5, -2.0]])
def test_biases_of_b_are_summed(weights, pair, tmp_path):
    """Σ w·s·bias, as Σ w·s·B·A; of one adapter to the bit what it was."""
    made, base, folders = pair("lora_bias")
    report = merge(folders, tmp_path / "out", weights=weights, modules_to_save="merge", base=base)
    assert report.config["lora_bias"] is True
    got = merged_weights(CASES["lora_bias"], tmp_path / "out")
    alone = [applied(read_adapter(folder), made[0].base) for folder in folders]
    for key, tensor in made[0].base.items():
        if tensor.dtype != np.float64:
            continue
        want = tensor + sum(w * (one[key] - tensor) for w, one in zip(weights, alone, strict=True))
        np.testing.assert_allclose(got[key], want, atol=1e-12, err_msg=key)


@pytest.mark.parametrize("method", ["knots_ties", "ties"])
def test_biases_of_b_have_no_votes(method, pair, tmp_path):
    _, _, folders = pair("lora_bias")
    with pytest.raises(
        PlanError,
        match=r"has a bias of B \(`lora_bias`\), which only `cat`, `linear` and `task_arithmetic` sum",
    ):
        merge(
            folders, tmp_path / "out", method=method, density=0.5, rank=None if method == "knots_ties" else 4
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["dora", "dora_embedding", "dora_convolutions"])
def test_magnitudes_are_refused(name, pair, tmp_path):
    _, _, folders = pair(name)
    with pytest.raises(PlanError, match=r"adapter-0: .* has DoRA magnitudes.*--base BASE --dense"):
        merge(folders, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [{}, {"method": "knots_ties", "density": 0.5}, {"rank": 3}], ids=str)
def test_embeddings_that_are_carried_along(options, pair, tmp_path):
    """PEFT stores the base's weights beside LoRA on embeddings: untrained, copied, where PEFT looks for them."""
    _, _, folders = pair("embedding")
    merge(folders, tmp_path / "out", **options)
    ours, theirs = (read_file(folder / FILE) for folder in (tmp_path / "out", folders[0]))
    carried = {key for key in theirs if ".lora_" not in key}
    assert carried == {key for key in ours if ".lora_" not in key} != set()
    assert all(ours[key].tobytes() == theirs[key].tobytes() for key in carried)
    merged_weights(CASES["embedding"], tmp_path / "out")


def test_the_written_configuration(pair, tmp_path):
    _, base, folders = pair("saved")
    merge(folders, tmp_path / "out", modules_to_save="merge", base=base)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    first = json.loads((folders[0] / "adapter_config.json").read_text())
    assert sorted(config["modules_to_save"]) == sorted(first["modules_to_save"])
    assert (config["r"], config["lora_alpha"], config["peft_type"]) == (8, 8, "LORA")
    assert config.keys() == first.keys()


def test_other_tensors_do_not_disturb_the_factors(tmp_path):
    """The head is kept, and Σ w·ΔW is what it is without it."""
    adapters = [lora(seed) for seed in range(2)]
    adapters[1].settings["modules_to_save"] = ["lm_head"]
    adapters[1].more["lm_head.weight"] = np.ones((5, 3), np.float16)
    folders = [one.write(tmp_path / str(i)) for i, one in enumerate(adapters)]
    report = merge(folders, tmp_path / "out", modules_to_save="2")
    tensors = read_file(tmp_path / "out" / FILE)
    assert tensors["base_model.model.lm_head.weight"].dtype == np.float16
    total = {path: sum(one.updates()[path] for one in adapters) for path in adapters[0].factors}
    assert distance(meaning(tensors, report.config), total) <= 1e-6
    assert Q.format(0) in total
