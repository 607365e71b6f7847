"""KnOTS of full fine-tunes, from YAML to a model, against one float64 SVD of all updates side by side."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import carrick
from carrick.cli.entry import main
from carrick.errors import CarrickError, PlanError
from carrick.memory import format_size
from oracles.dtypes import NUMPY
from oracles.files import read_model, write_file, write_model
from oracles.knots_dense import bases, elect_and_average, knots_ties, trim

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Array = NDArray[Any]
    Model = dict[str, Array]

SHAPES = {
    "mlp.up_proj": (96, 24),
    "mlp.down_proj": (24, 96),
    "self_attn.q_proj": (24, 24),
    "self_attn.k_proj": (8, 24),
}
"""The first one is taller than two updates side by side are wide."""


def base_model(rng: np.random.Generator, dtype: str = "f4") -> Model:
    model = {
        f"model.layers.{layer}.{name}.weight": rng.normal(size=shape)
        for layer in range(2)
        for name, shape in SHAPES.items()
    }
    model |= {f"model.layers.{layer}.input_layernorm.weight": rng.normal(size=24) for layer in range(2)}
    model |= {
        "model.embed_tokens.weight": rng.normal(size=(40, 24)),
        "model.norm.weight": rng.normal(size=24),
    }
    return {name: tensor.astype(dtype) for name, tensor in model.items()}


def tuned_model(rng: np.random.Generator, base: Model, size: float = 0.1) -> Model:
    """Each matrix by an update with a spectrum that falls off, without equal singular values."""
    tuned = {}
    for name, tensor in base.items():
        change = rng.normal(size=tensor.shape)
        if tensor.ndim == 2:
            u, s, v = np.linalg.svd(change, full_matrices=False)
            change = (u * (s * 0.85 ** np.arange(s.size))) @ v
        tuned[name] = (tensor + size * change).astype(tensor.dtype)
    return tuned


@pytest.fixture
def models(tmp_path: Path) -> Callable[..., tuple[Model, list[Model]]]:
    def make(count: int = 3, seed: int = 0) -> tuple[Model, list[Model]]:
        rng = np.random.default_rng(seed)
        base = base_model(rng)
        tuned = [tuned_model(rng, base) for _ in range(count)]
        write_model(tmp_path / "base", base)
        for number, model in enumerate(tuned):
            write_model(tmp_path / f"tuned{number}", model)
        return base, tuned

    return make


def config(folder: Path, count: int, method: str = "knots_ties", **parameters: Any) -> dict[str, Any]:
    weights = parameters.pop("weights", [1.0] * count)
    return {
        "merge_method": method,
        "base_model": str(folder / "base"),
        "parameters": parameters,
        "models": [
            {"model": str(folder / f"tuned{i}"), "parameters": {"weight": weights[i]}} for i in range(count)
        ],
    }


def updates_of(base: Model, tuned: list[Model]) -> dict[str, list[Array]]:
    names = [name for name in base if "layers" in name and base[name].ndim == 2]
    return {name: [(model[name] - base[name]).astype("f8") for model in tuned] for name in names}


def plain_ties(base: Model, tuned: list[Model], density: float, weights: list[float]) -> Model:
    """What becomes of all that has no basis."""
    names = sorted(name for name in base if "layers" not in name or base[name].ndim != 2)
    flat = [
        np.concatenate([(model[name] - base[name]).astype("f8").ravel() for name in names]) for model in tuned
    ]
    merged = elect_and_average(trim(flat, density), weights)
    out, at = {}, 0
    for name in names:
        size = base[name].size
        out[name] = base[name] + merged[at : at + size].reshape(base[name].shape)
        at += size
    return out


def distance(found: Model, wanted: dict[str, Array], base: Model) -> float:
    """Relative distance of all updates together."""
    names = list(wanted)
    gap = sum(np.linalg.norm(found[name].astype("f8") - base[name] - wanted[name]) ** 2 for name in names)
    return float(np.sqrt(gap / sum(np.linalg.norm(wanted[name]) ** 2 for name in names)))


@pytest.mark.parametrize("direction", ["columns", "rows"])
@pytest.mark.parametrize(("count", "weights"), [(1, [1.0]), (2, [1.0, 0.5]), (3, [0.7, 1.0, -0.4])])
def test_ties_in_the_basis(
    models: Any, tmp_path: Path, direction: str, count: int, weights: list[float]
) -> None:
    base, tuned = models(count)
    spec = config(tmp_path, count, density=0.4, weights=weights, direction=direction)
    report = carrick.merge(spec, tmp_path / "out")
    found = read_model(tmp_path / "out")
    wanted = knots_ties(updates_of(base, tuned), density=0.4, weights=weights, by_rows=direction == "rows")
    assert distance(found, wanted, base) < 2e-5
    for name, tensor in plain_ties(base, tuned, 0.4, weights).items():
        np.testing.assert_allclose(found[name], tensor, atol=1e-5)
    assert any("bases of 8 modules" in note for note in report.notes)
    assert any("no matrices of layers" in note for note in report.notes)


@pytest.mark.parametrize(
    ("method", "merge"), [("knots_magnitude_prune", "magnitude_prune"), ("knots_linear", "linear")]
)
def test_other_methods(models: Any, tmp_path: Path, method: str, merge: str) -> None:
    base, tuned = models(3)
    options: dict[str, Any] = {"lambda": 0.6} | ({} if merge == "linear" else {"density": 0.3})
    carrick.merge(config(tmp_path, 3, method, weights=[1.0, 0.5, 0.8], **options), tmp_path / "out")
    updates = updates_of(base, tuned)
    wanted = knots_ties(updates, density=0.3, weights=[1.0, 0.5, 0.8], scale=0.6, merge=merge)
    assert distance(read_model(tmp_path / "out"), wanted, base) < 2e-5
    if merge == "linear":
        # The same as without a basis.
        summed = {n: 0.6 * (d[0] + 0.5 * d[1] + 0.8 * d[2]) for n, d in updates.items()}
        assert distance(read_model(tmp_path / "out"), summed, base) < 2e-6


@pytest.mark.parametrize("method", ["knots_dare_ties", "knots_dare_linear"])
def test_dare_at_density_1_drops_nothing(models: Any, tmp_path: Path, method: str) -> None:
    base, tuned = models(2)
    carrick.merge(config(tmp_path, 2, method, density=1.0), tmp_path / "out")
    wanted = knots_ties(updates_of(base, tuned), density=1.0, merge="ties" if "ties" in method else "linear")
    assert distance(read_model(tmp_path / "out"), wanted, base) < 2e-5


def test_a_model_that_did_not_change_has_no_vote(models: Any, tmp_path: Path) -> None:
    base, tuned = models(3)
    write_model(tmp_path / "tuned1", base)
    carrick.merge(config(tmp_path, 3, density=1.0), tmp_path / "out")
    wanted = knots_ties(updates_of(base, [tuned[0], tuned[2]]), density=1.0)
    assert distance(read_model(tmp_path / "out"), wanted, base) < 2e-5


def test_models_equal_to_the_base_give_the_base(models: Any, tmp_path: Path) -> None:
    base, _ = models(2)
    for number in range(2):
        write_model(tmp_path / f"tuned{number}", base)
    carrick.merge(config(tmp_path, 2, density=0.5), tmp_path / "out")
    for name, tensor in read_model(tmp_path / "out").items():
        np.testing.assert_array_equal(tensor, base[name])


def test_ranks_routes_and_the_record(tmp_path: Path) -> None:
    """Updates of rank 3 and 5 share at most 8 directions; a value near the cut is looked at more exactly."""
    rng = np.random.default_rng(5)
    base = base_model(rng)
    write_model(tmp_path / "base", base)
    up = "model.layers.0.mlp.up_proj.weight"
    for number, rank in enumerate((3, 5)):
        tuned = dict(base)
        tuned[up] = (
            base[up].astype("f8") + rng.normal(size=(96, rank)) @ rng.normal(size=(rank, 24))
        ).astype("f4")
        write_model(tmp_path / f"tuned{number}", tuned)
    spec = config(tmp_path, 2, density=0.5, rank_tolerance=1e-4)
    carrick.merge(spec, tmp_path / "out")
    record = {m["name"]: m for m in json.loads((tmp_path / "out" / "carrick.json").read_text())["knots"]}
    assert record[up]["rank"] == 8
    assert record[up]["route"] == "gram_joined"
    assert record["model.layers.1.mlp.up_proj.weight"]["rank"] == 0
    carrick.merge(config(tmp_path, 2, density=0.5, rank_tolerance=1e-12), tmp_path / "exact")
    record = {m["name"]: m for m in json.loads((tmp_path / "exact" / "carrick.json").read_text())["knots"]}
    assert record[up]["route"] == "svd"
    assert record[up]["rank"] > 8


def test_an_absolute_cut_is_that_of_the_published_code(models: Any, tmp_path: Path) -> None:
    base, tuned = models(2)
    name = "model.layers.0.self_attn.q_proj.weight"
    _, sigma, _ = bases(updates_of(base, tuned)[name])
    cut = float(np.sqrt(sigma[9] * sigma[10]))
    carrick.merge(config(tmp_path, 2, density=0.5, rank_cut="absolute", rank_tolerance=cut), tmp_path / "out")
    record = {m["name"]: m for m in json.loads((tmp_path / "out" / "carrick.json").read_text())["knots"]}
    assert record[name]["rank"] == 10


def test_threads_and_tiles_change_no_byte(models: Any, tmp_path: Path) -> None:
    models(3)
    found = []
    for number, threads in enumerate((1, 2)):
        out = tmp_path / f"out{number}"
        carrick.merge(config(tmp_path, 3, density=0.5), out, threads=threads)
        found.append((out / "model.safetensors").read_bytes())
        assert not out.with_name(f"{out.name}.carrick-partial").exists()
        assert not (out / "knots").exists()
    assert found[0] == found[1]


def test_a_saved_plan_and_a_dry_run(models: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models(2)
    (tmp_path / "config.yml").write_text(json.dumps(config(tmp_path, 2, density=0.5)))
    assert main(["plan", str(tmp_path / "config.yml")]) == 0
    planned = capsys.readouterr().out
    assert "knots_ties" in planned
    # What lies beside the output until it is written is no part of its size.
    assert main(["merge", str(tmp_path / "config.yml"), str(tmp_path / "made")]) == 0
    merged = capsys.readouterr().out
    size = format_size(sum(t.nbytes for t in read_model(tmp_path / "made").values()))
    assert re.search(rf"output +{size} in", planned)
    assert f"{size} written" in merged
    assert main(["plan", str(tmp_path / "config.yml"), "--json"]) == 0
    (tmp_path / "plan.json").write_text(capsys.readouterr().out)
    carrick.merge(None, tmp_path / "one", plan=tmp_path / "plan.json")
    carrick.merge(tmp_path / "config.yml", tmp_path / "two")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two")]
    assert weights[0] == weights[1]
    dry = carrick.merge(tmp_path / "config.yml", tmp_path / "three", dry_run=True)
    assert dry.bytes_read > 0
    assert not (tmp_path / "three").exists()


def test_a_module_that_does_not_fit_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = [f"model.layers.{i}.{n}.weight" for i in range(2) for n in ("a", "b", "c")]
    base = {name: rng.normal(size=(8, 8)).astype("f4") for name in names}
    base[names[4]] = rng.normal(size=(1500, 1400)).astype("f4")
    write_model(tmp_path / "base", base)
    for number in range(2):
        write_model(tmp_path / f"tuned{number}", base)
    with pytest.raises(CarrickError, match=rf"{names[4]}.*MiB.*--memory"):
        carrick.merge(config(tmp_path, 2, density=0.5), tmp_path / "out", memory="64MiB")
    with pytest.raises(CarrickError, match=rf"{names[4]}.*MiB.*--memory"):
        carrick.merge(config(tmp_path, 2, density=0.5), tmp_path / "out", memory="64MiB", dry_run=True)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.carrick-partial").exists()


@pytest.mark.parametrize(
    ("method", "told"), [("knots_ties", True), ("knots_dare_linear", True), ("knots_linear", False)]
)
def test_equal_singular_values_are_told_of(models: Any, tmp_path: Path, method: str, told: bool) -> None:
    """All but the sum hang on the basis, `knots_dare_linear` too, which drops entries there."""
    base, _ = models(2)
    name = "model.layers.0.self_attn.q_proj.weight"
    flat = base | {name: np.zeros((24, 24), "f4")}
    write_model(tmp_path / "base", flat)
    for number in range(2):
        update = np.zeros((24, 24), "f4")
        update[2 * number, 0] = update[2 * number + 1, 1] = 0.5
        write_model(tmp_path / f"tuned{number}", flat | {name: update})
    options = {} if method == "knots_linear" else {"density": 0.5}
    report = carrick.merge(config(tmp_path, 2, method, **options), tmp_path / "out")
    assert bool([note for note in report.notes if "nearly equal" in note and name in note]) == told


def test_what_cannot_be_merged_in_a_basis(models: Any, tmp_path: Path) -> None:
    _, tuned = models(2)
    spec = config(tmp_path, 2, density=0.5)
    del spec["base_model"]
    with pytest.raises(PlanError, match="base_model"):
        carrick.merge(spec, tmp_path / "out")
    tuned[0]["model.layers.0.mlp.up_proj.weight"][0, 0] = np.nan
    write_model(tmp_path / "tuned0", tuned[0])
    with pytest.raises(CarrickError, match=r"layers\.0\.mlp\.up_proj.*NaN"):
        carrick.merge(config(tmp_path, 2, density=0.5), tmp_path / "out")
    assert not (tmp_path / "out.carrick-partial").exists()


def write_adapter(folder: Path, seed: int) -> Model:
    """Write an adapter of rank 3 on two modules and return its updates."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 3, "lora_alpha": 6}))
    factors: Model = {}
    updates: Model = {}
    for layer in range(2):
        path = f"model.layers.{layer}.mlp.down_proj"
        a, b = rng.normal(size=(3, 96)).astype("f4"), (0.02 * rng.normal(size=(24, 3))).astype("f4")
        factors |= {f"base_model.model.{path}.lora_{n}.weight": x for n, x in (("A", a), ("B", b))}
        updates[f"{path}.weight"] = 2.0 * (b.astype("f8") @ a)
    write_file(folder / "adapter_model.safetensors", factors)
    return updates


def test_a_base_with_an_adapter_among_the_models(models: Any, tmp_path: Path) -> None:
    """The result is that of the merged copy."""
    base, tuned = models(2)
    updates = updates_of(base, [base, tuned[1]])
    for name, update in write_adapter(tmp_path / "adapter", 9).items():
        updates[name][0] = update
    spec = config(tmp_path, 2, density=0.5)
    spec["models"][0]["model"] = f"{tmp_path / 'base'}+{tmp_path / 'adapter'}"
    carrick.merge(spec, tmp_path / "out")
    assert distance(read_model(tmp_path / "out"), knots_ties(updates, density=0.5), base) < 2e-5


def test_updates_of_adapters_come_from_their_factors(models: Any, tmp_path: Path) -> None:
    """A difference of what is rounded has every rank, and a trim counts the entries of all of them."""
    base, _ = models(2)
    updates = updates_of(base, [base, base])
    spec = config(tmp_path, 2, density=0.5)
    for number, model in enumerate(spec["models"]):
        folder = tmp_path / f"adapter{number}"
        for name, update in write_adapter(folder, number).items():
            updates[name][number] = update
        model["model"] = f"{tmp_path / 'base'}+{folder}"
    carrick.merge(spec, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "carrick.json").read_text())
    assert {module["name"]: module["rank"] for module in record["knots"]} == {
        f"model.layers.{layer}.mlp.down_proj.weight": 6 for layer in range(2)
    }
    found = read_model(tmp_path / "out")
    assert distance(found, knots_ties(updates, density=0.5), base) < 2e-5
    untouched = [name for name in base if "down_proj" not in name]
    assert all(found[name].tobytes() == base[name].tobytes() for name in untouched)


def test_bfloat16_checkpoints(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    base = {name: tensor.astype(NUMPY["BF16"]) for name, tensor in base_model(rng).items()}
    tuned = []
    write_model(tmp_path / "base", base)
    for number in range(3):
        wide = tuned_model(rng, {name: tensor.astype("f4") for name, tensor in base.items()})
        tuned.append({name: tensor.astype(NUMPY["BF16"]) for name, tensor in wide.items()})
        write_model(tmp_path / f"tuned{number}", tuned[-1])
    carrick.merge(config(tmp_path, 3, density=0.5) | {"dtype": "float32"}, tmp_path / "out")
    flat = {name: tensor.astype("f4") for name, tensor in base.items()}
    updates = updates_of(flat, [{name: t.astype("f4") for name, t in model.items()} for model in tuned])
    assert distance(read_model(tmp_path / "out"), knots_ties(updates, density=0.5), flat) < 2e-5
    carrick.merge(config(tmp_path, 3, density=0.5), tmp_path / "narrow")
    for name, tensor in read_model(tmp_path / "narrow").items():
        np.testing.assert_array_equal(tensor, read_model(tmp_path / "out")[name].astype(NUMPY["BF16"]))
