"""`--dense`: methods on ΔW straight into the base, streamed; against dense float64."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest

import carrick
from adapters.dense import applied
from adapters.handmade import HIDDEN, base_tensors, write_base
from adapters.merging import FILE, Lora, Q, lora, oracle
from adapters.zoo import CASES, make
from carrick.adapters.adapter import read_adapter
from carrick.adapters.dense import merge_into_base
from carrick.cli import main
from carrick.errors import CarrickError, ConfigError
from oracles.files import read_file, read_model, write_model

SHAPES = {Q.format(layer): (HIDDEN, HIDDEN) for layer in range(2)}
WEIGHTS = [0.75, -1.5, 0.5]
METHODS = {
    "cat": "task_arithmetic",
    "linear": "task_arithmetic",
    "task_arithmetic": "task_arithmetic",
    "ties": "ties",
    "dare_linear": "dare_linear",
    "dare_ties": "dare_ties",
    "magnitude_prune": "magnitude_prune",
}


@pytest.fixture
def three(tmp_path):
    adapters = [lora(seed, SHAPES, rank=2 + seed, alpha=5, rslora=seed == 1) for seed in range(3)]
    adapters[2].factors.pop(Q.format(1))
    base = write_base(tmp_path / "base", base_tensors())
    return base, adapters, [one.write(tmp_path / f"adapter-{i}") for i, one in enumerate(adapters)]


@pytest.mark.parametrize("method", METHODS)
def test_methods(method, three, tmp_path):
    base, adapters, folders = three
    sparse = {} if METHODS[method] == "task_arithmetic" else {"density": 0.4}
    merge_into_base(base, folders, tmp_path / "out", method=method, weights=WEIGHTS, seed=6, **sparse)
    seed = {"seed": 6} if method.startswith("dare") else {}
    updates = oracle(METHODS[method], adapters, weights=WEIGHTS, **sparse, **seed)
    got = read_model(tmp_path / "out")
    before = base_tensors()
    assert got.keys() == before.keys()
    for name, tensor in before.items():
        want = tensor + updates.get(name.removesuffix(".weight"), 0.0)
        np.testing.assert_allclose(got[name], want, rtol=1e-6, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("variant", ["peft", "paper", "reference", "mergekit"])
def test_variants(variant, three, tmp_path):
    """Zeros of an adapter that lacks a module count among the entries of a trim, here as there."""
    base, adapters, folders = three
    options = {"method": "ties", "density": 0.3, "weights": WEIGHTS}
    asked = {"normalize": False}
    merge_into_base(base, folders, tmp_path / "out", variant=variant, parameters=asked, **options)
    merge_into_base(base, folders, tmp_path / "other", parameters={"variant": variant, **asked}, **options)
    got, other = (read_model(tmp_path / name) for name in ("out", "other"))
    updates = oracle("ties", adapters, density=0.3, weights=WEIGHTS, variant=variant, **asked)
    for path in SHAPES:
        name = f"{path}.weight"
        np.testing.assert_allclose(got[name], base_tensors()[name] + updates[path], rtol=1e-6, atol=2e-6)
        assert got[name].tobytes() == other[name].tobytes()


@pytest.mark.parametrize(("given", "factor"), [({}, 1), ({"normalize": False}, 2)], ids=str)
@pytest.mark.parametrize("by_name", [True, False])
def test_one_adapter_twice_by_the_variant_of_mergekit(by_name, given, factor, three, tmp_path):
    """It is a mean, as everywhere, unless something else is said."""
    base, adapters, folders = three
    asked = {"variant": "mergekit"} if by_name else {"parameters": {"variant": "mergekit"}}
    asked["parameters"] = {**asked.get("parameters", {}), **given}
    again = adapters[0].write(tmp_path / "again")
    merge_into_base(base, [folders[0], again], tmp_path / "out", method="ties", density=1, **asked)
    got = read_model(tmp_path / "out")
    for path, update in adapters[0].updates().items():
        name = f"{path}.weight"
        np.testing.assert_allclose(got[name], base_tensors()[name] + factor * update, rtol=1e-6, atol=2e-6)


def test_the_adapter_of_full_rank_is_the_same_update(three, tmp_path):
    """Two ways to one result: a checkpoint, and an adapter of a rank that cuts nothing, folded into the base."""
    from carrick.adapters import apply, merge  # noqa: PLC0415

    base, _, folders = three
    options = {"method": "ties", "density": 0.4, "weights": WEIGHTS}
    merge_into_base(base, folders, tmp_path / "dense", **options)
    merge(folders, tmp_path / "adapter", rank=99, **options)
    apply(base, [tmp_path / "adapter"], tmp_path / "applied")
    one, other = (read_model(tmp_path / name) for name in ("dense", "applied"))
    for name, tensor in one.items():
        np.testing.assert_allclose(other[name], tensor, rtol=1e-5, atol=1e-5, err_msg=name)


def test_types_are_those_of_the_base(three, tmp_path):
    _, adapters, folders = three
    base = write_base(tmp_path / "narrow", base_tensors(dtype=ml_dtypes.bfloat16))
    merge_into_base(base, folders, tmp_path / "out", method="ties", density=0.4)
    updates = oracle("ties", adapters, density=0.4)
    got = read_model(tmp_path / "out")
    for name, tensor in base_tensors().items():
        assert got[name].dtype == ml_dtypes.bfloat16
        want = (tensor + updates.get(name.removesuffix(".weight"), 0.0)).astype(np.float64)
        np.testing.assert_allclose(got[name].astype(np.float64), want, rtol=2.0**-8, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    "name", ["dora", "embedding", "gpt2", "convolutions", "lora_bias", "bias_all", "saved", "patterns_rslora"]
)
def test_every_kind(name, tmp_path):
    """DoRA too, which no adapter could hold: the differences from the base are what is summed."""
    made = [make(CASES[name], tmp_path / f"adapter-{seed}", seed) for seed in range(2)]
    folders = [one.folder for one in made]
    base = made[0].base
    write_model(tmp_path / "base", {key: np.ascontiguousarray(tensor) for key, tensor in base.items()})
    alone = [applied(read_adapter(folder), base) for folder in folders]
    merge_into_base(tmp_path / "base", folders, tmp_path / "out", weights=[0.5, -0.25])
    got = read_model(tmp_path / "out")
    for key, tensor in base.items():
        want = (
            tensor
            if tensor.dtype != np.float64
            else tensor + 0.5 * (alone[0][key] - tensor) - 0.25 * (alone[1][key] - tensor)
        )
        np.testing.assert_allclose(got[key], want, atol=1e-12, err_msg=key)


def test_the_command(three, tmp_path, capfd):
    base, _, folders = three
    words = [
        "adapters",
        "merge",
        *map(str, folders),
        "-o",
        str(tmp_path / "out"),
        "--base",
        str(base),
        "--dense",
    ]
    assert main([*words, "--method", "ties", "--density", "0.4", "--weights", "1,2,3", "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert report["tensors"] == len(base_tensors())
    merge_into_base(base, folders, tmp_path / "other", method="ties", density=0.4, weights=[1, 2, 3])
    assert {k: t.tobytes() for k, t in read_model(tmp_path / "out").items()} == {
        k: t.tobytes() for k, t in read_model(tmp_path / "other").items()
    }


def test_from_python(three, tmp_path):
    """`dense=True` is the command's --dense; an adapter in memory goes into the base as one in a folder does."""
    base, _, folders = three
    config = json.loads((folders[1] / "adapter_config.json").read_text())
    adapters = [folders[0], (read_file(folders[1] / FILE), config), folders[2]]
    options = {"method": "dare_ties", "density": 0.4, "weights": WEIGHTS, "seed": 5, "variant": "reference"}
    options |= {"parameters": {"lambda": 0.5}, "dtype": "float64", "memory": "256MiB", "threads": 1}
    report = carrick.adapters.merge(adapters, tmp_path / "out", base=base, dense=True, **options)
    assert (report.out, report.modules, report.config) == (tmp_path / "out", [], {})
    assert report.tensors == len(base_tensors())
    merge_into_base(base, folders, tmp_path / "other", **options)
    one, other = (read_model(tmp_path / name) for name in ("out", "other"))
    assert {k: t.tobytes() for k, t in one.items()} == {k: t.tobytes() for k, t in other.items()}
    with pytest.raises(CarrickError, match="--force"):
        carrick.adapters.merge(folders, tmp_path / "out", base=base, dense=True)
    carrick.adapters.merge(folders, tmp_path / "out", base=base, dense=True, force=True)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"base": None}, r"name the base to merge into with --base BASE \(base=…\)"),
        ({"out": None}, "which no report holds: name its folder, out=…"),
        ({"rank": 2}, r"--rank \(rank=…\) belongs to a merge into an adapter, and --dense \(dense=True\)"),
        ({"energy": 0.5}, "--energy "),
        ({"space": "factors"}, "--space "),
        ({"modules_to_save": "merge"}, r"--modules-to-save \(modules_to_save=…\) belongs"),
        ({"precision": "float64"}, "--precision "),
        ({"device": "torch:cpu"}, "--device "),
    ],
)
def test_what_no_checkpoint_has(options, what, three, tmp_path):
    base, _, folders = three
    request = {"out": tmp_path / "out", "base": base, "dense": True} | options
    with pytest.raises(ConfigError, match=what):
        carrick.adapters.merge(folders, **request)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("method", "what"),
    [
        ("ties", r"not of low rank.* in a YAML, list each adapter on it, as BASE\+ADAPTER"),
        ("breadcrumbs", r"in a YAML, those that are listed on their base \(BASE\+ADAPTER\) are checkpoints"),
    ],
)
def test_the_advice_for_a_yaml_is_the_same_merge(method, what, three, tmp_path):
    """What a YAML is told to do is what the command's --dense does."""
    base, _, folders = three

    def content(*models):
        listed = [{"model": model, "parameters": {"weight": 1}} for model in models]
        own = {"merge_method": method, "base_model": str(base), "parameters": {"density": 0.4}}
        return own | {"models": listed} | ({"variant": "peft"} if method == "ties" else {})

    with pytest.raises(CarrickError, match=what):
        carrick.merge(content(*map(str, folders)), tmp_path / "out")
    carrick.merge(content(*(f"{base}+{folder}" for folder in folders)), tmp_path / "out")
    merge_into_base(base, folders, tmp_path / "other", method=method, density=0.4)
    one, other = (read_model(tmp_path / name) for name in ("out", "other"))
    assert {k: t.tobytes() for k, t in one.items()} == {k: t.tobytes() for k, t in other.items()}


@pytest.mark.parametrize("method", ["breadcrumbs", "breadcrumbs_ties", "della", "della_linear"])
def test_methods_of_checkpoints_alone_take_the_updates(method, three, tmp_path):
    """As a merge of checkpoints that hold base + ΔW, here in float64, where nothing is lost in that sum."""
    _, _, folders = three
    wide = write_base(tmp_path / "wide", {k: v.astype(np.float64) for k, v in base_tensors().items()})
    options = {"density": 0.5, "seed": 3}
    merge_into_base(wide, folders, tmp_path / "out", method=method, weights=WEIGHTS, **options)
    models = []
    for folder, weight in zip(folders, WEIGHTS, strict=True):
        carrick.adapters.apply(wide, folder, tmp_path / f"{folder.name}-applied")
        models.append({"model": str(tmp_path / f"{folder.name}-applied"), "parameters": {"weight": weight}})
    config = {"merge_method": method, "base_model": str(wide), "models": models}
    carrick.merge(
        {**config, "parameters": {"normalize": False, "density": 0.5}, "seed": 3}, tmp_path / "expected"
    )
    got, want = read_model(tmp_path / "out"), read_model(tmp_path / "expected")
    assert got.keys() == want.keys()
    for name, tensor in want.items():
        np.testing.assert_allclose(got[name], tensor, rtol=1e-12, atol=1e-12, err_msg=name)


def test_what_is_refused(three, tmp_path):
    base, _, folders = three

    def refused(message, error=ConfigError, **options):
        before = sorted(tmp_path.iterdir())
        with pytest.raises(error, match=message):
            merge_into_base(base, options.pop("adapters", folders), tmp_path / "out", **options)
        assert sorted(tmp_path.iterdir()) == before

    refused(
        "`knots_ties` makes an adapter without loss: merge without --dense", method="knots_ties", density=0.5
    )
    refused("`ties` needs a density", method="ties")
    refused("2 weights for 3 adapters", weights=[1, 2])
    refused("not a merge method", method="tie")
    refused("no adapters are given", adapters=[])
    wrong = Lora({Q.format(0): (np.ones((1, HIDDEN + 1), np.float32), np.ones((HIDDEN, 1), np.float32))})
    folder = wrong.write(tmp_path / "wrong")
    refused(rf"{Q.format(0)}: .*changes a weight of the shape", CarrickError, adapters=[folder])


def test_a_variant_is_given_once_to_a_method_that_has_one(three, tmp_path):
    base, _, folders = three
    with pytest.raises(ConfigError, match="`variant` is given twice"):
        merge_into_base(
            base,
            folders,
            tmp_path / "out",
            method="ties",
            density=0.5,
            variant="paper",
            parameters={"variant": "peft"},
        )
    for given in ({"variant": "peft"}, {"parameters": {"variant": "peft"}}):
        with pytest.raises(ConfigError, match="`cat` has no variants"):
            merge_into_base(base, folders, tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()
