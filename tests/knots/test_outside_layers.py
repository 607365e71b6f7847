"""What KnOTS of full fine-tunes makes of embeddings, head, norms and biases: `outside_layers`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import carrick
from carrick import _core
from carrick.cli.entry import main
from carrick.errors import CarrickError, ConfigError, PlanError
from carrick.plan import estimate_of
from knots.test_checkpoints import base_model, config, distance, tuned_model
from oracles.dtypes import NUMPY
from oracles.files import read_model, write_file, write_model
from oracles.knots_dense import elect_and_average, knots_ties, trim

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    Array = NDArray[Any]
    Model = dict[str, Array]

EMBEDDINGS, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"
EXPERTS = "model.layers.1.mlp.experts.down_proj"
WEIGHTS = [0.7, 1.0, -0.4]


def whole_model(rng: np.random.Generator) -> Model:
    """With a head that is taller than three updates side by side are wide, and a position for each of few tokens."""
    model = base_model(rng)
    more = {
        HEAD: (90, 24),
        "model.embed_positions.weight": (5, 24),
        EXPERTS: (2, 6, 5),
        "lm_head.bias": (90,),
    }
    return model | {name: rng.normal(size=shape).astype("f4") for name, shape in more.items()}


def written(folder: Path, count: int = 3, **settings: object) -> tuple[Model, list[Model]]:
    rng = np.random.default_rng(7)
    base = whole_model(rng)
    tuned = [tuned_model(rng, base) for _ in range(count)]
    stated: dict[str, object] = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], **settings}
    for name, model in (("base", base), *((f"tuned{i}", model) for i, model in enumerate(tuned))):
        write_model(folder / name, model, config=stated)
    return base, tuned


def updates(base: Model, tuned: list[Model], names: Iterable[str]) -> dict[str, list[Array]]:
    return {name: [(model[name] - base[name]).astype("f8") for model in tuned] for name in names}


def matrices(model: Model) -> list[str]:
    return [name for name, tensor in model.items() if tensor.ndim == 2]


def in_layers(names: list[str]) -> list[str]:
    return [name for name in names if ".layers." in name]


def ties_together(base: Model, tuned: list[Model], names: Iterable[str], density: float) -> Model:
    """TIES of these tensors as one, for the trim ranges over all that has no basis."""
    names = sorted(names)
    flat = [np.concatenate([(m[name] - base[name]).astype("f8").ravel() for name in names]) for m in tuned]
    merged = elect_and_average(trim(flat, density), WEIGHTS[: len(tuned)])
    ends = np.cumsum([base[name].size for name in names])
    parts = np.split(merged, ends[:-1])
    return {
        name: base[name] + part.reshape(base[name].shape) for name, part in zip(names, parts, strict=True)
    }


def same_bytes(found: Array, wanted: Array) -> bool:
    return found.dtype == wanted.dtype and found.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("direction", ["columns", "rows"])
@pytest.mark.parametrize("count", [1, 3])
def test_every_matrix_in_a_basis(tmp_path: Path, direction: str, count: int) -> None:
    """The trim ranges over the coordinates of all matrices, and over vectors and experts by themselves."""
    base, tuned = written(tmp_path, count)
    spec = config(
        tmp_path, count, density=0.4, weights=WEIGHTS[:count], direction=direction, outside_layers="basis"
    )
    report = carrick.merge(spec, tmp_path / "out")
    found, names = read_model(tmp_path / "out"), matrices(base)
    by_rows = direction == "rows"
    wanted = knots_ties(updates(base, tuned, names), density=0.4, weights=WEIGHTS[:count], by_rows=by_rows)
    assert distance(found, wanted, base) < 2e-5
    outside = {name: wanted[name] for name in names if ".layers." not in name}
    assert len(outside) == 3
    assert distance(found, outside, base) < 2e-5
    for name, tensor in ties_together(base, tuned, set(base) - set(names), 0.4).items():
        np.testing.assert_allclose(found[name], tensor, atol=1e-5)
    record = json.loads((tmp_path / "out" / "carrick.json").read_text())
    assert {module["name"] for module in record["knots"]} == set(names)
    assert record["options"]["knots_ties"]["outside_layers"] == "basis"
    assert "outside_layers" not in record["options"]["ties"]
    notes = " ".join(report.notes)
    assert f"3 matrices outside the layers have bases of their own, too: {EMBEDDINGS}, " in notes
    assert "5 tensors that are no matrices are merged by `ties`" in notes
    assert f"bases of {len(names)} modules" in notes


def test_a_rank_limits_those_bases_too(tmp_path: Path) -> None:
    written(tmp_path)
    carrick.merge(config(tmp_path, 3, density=0.5, outside_layers="basis") | {"rank": 4}, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "carrick.json").read_text())["knots"]
    assert {module["name"]: module["rank"] for module in record}[HEAD] == 4


def test_the_bytes_of_the_base(tmp_path: Path) -> None:
    """A zero with a sign and a NaN with a payload are copied like any other bytes; experts are merged."""
    base, tuned = written(tmp_path)
    base[EMBEDDINGS].view("u4")[0, :3] = 0x80000000, 0x7FC12345, 0x00000001
    write_model(tmp_path / "base", base)
    spec = config(tmp_path, 3, density=0.4, weights=WEIGHTS, outside_layers="base")
    report = carrick.merge(spec, tmp_path / "out")
    found = read_model(tmp_path / "out")
    layers = in_layers(matrices(base))
    copied = set(base) - set(layers) - {EXPERTS}
    assert copied >= {EMBEDDINGS, HEAD, NORM, "lm_head.bias", "model.layers.0.input_layernorm.weight"}
    for name in copied:
        assert same_bytes(found[name], base[name]), name
    wanted = knots_ties(updates(base, tuned, layers), density=0.4, weights=WEIGHTS)
    assert distance(found, wanted, base) < 2e-5
    for name, tensor in ties_together(base, tuned, [EXPERTS], 0.4).items():
        np.testing.assert_allclose(found[name], tensor, atol=1e-5)
    notes = " ".join(report.notes)
    assert (
        f"{len(copied)} tensors that are no matrices of layers are not merged, they stay as in the base"
        in notes
    )
    assert (
        f"1 tensors that are no matrices of layers are merged by `ties`, without a basis of their own: {EXPERTS}"
        in notes
    )
    record = json.loads((tmp_path / "out" / "carrick.json").read_text())
    assert record["options"]["knots_ties"]["outside_layers"] == "base"


def test_a_base_of_another_type_is_cast(tmp_path: Path) -> None:
    base, tuned = written(tmp_path, 2)
    narrow = {name: tensor.astype(NUMPY["BF16"]) for name, tensor in base.items()}
    write_model(tmp_path / "base", narrow)
    for number, model in enumerate(tuned):
        write_model(tmp_path / f"tuned{number}", {name: t.astype(NUMPY["BF16"]) for name, t in model.items()})
    spec = config(tmp_path, 2, density=0.5, outside_layers="base")
    carrick.merge(spec, tmp_path / "same")
    carrick.merge(spec | {"dtype": "float32"}, tmp_path / "wide")
    for name in (EMBEDDINGS, HEAD, NORM):
        assert same_bytes(read_model(tmp_path / "same")[name], narrow[name])
        assert same_bytes(read_model(tmp_path / "wide")[name], narrow[name].astype("f4"))


def test_a_base_with_an_adapter_on_its_embeddings(tmp_path: Path) -> None:
    """What stays as in the base is what the base is with its adapter."""
    base, _ = written(tmp_path, 2)
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 40)).astype("f4"), rng.normal(size=(24, 2)).astype("f4")
    folder = adapter(
        tmp_path / "adapter", {"embed_tokens.lora_embedding_A": a, "embed_tokens.lora_embedding_B": b}
    )
    for choice in ("base", "basis"):
        spec = config(tmp_path, 2, "knots_linear", weights=[0.0, 0.0], outside_layers=choice)
        spec["base_model"] += f"+{folder}"
        carrick.merge(spec, tmp_path / "out", force=True)
        wanted = base[EMBEDDINGS] + 2.0 * (b.astype("f8") @ a).T
        np.testing.assert_allclose(read_model(tmp_path / "out")[EMBEDDINGS], wanted, atol=1e-5)


def adapter(folder: Path, tensors: Model, **settings: object) -> Path:
    folder.mkdir()
    stated = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["embed_tokens"], **settings}
    (folder / "adapter_config.json").write_text(json.dumps(stated))
    write_file(
        folder / "adapter_model.safetensors",
        {f"base_model.model.model.{name}": tensor for name, tensor in tensors.items()},
    )
    return folder


def test_rows_that_are_replaced_take_no_basis(tmp_path: Path) -> None:
    written(tmp_path, 2)
    folder = adapter(
        tmp_path / "tokens",
        {"embed_tokens.token_adapter.trainable_tokens_delta": np.ones((2, 24), "f4")},
        target_modules=[],
        trainable_token_indices={"embed_tokens": [1, 3]},
    )
    spec = config(tmp_path, 2, density=0.5, outside_layers="basis")
    spec["base_model"] += f"+{folder}"
    with pytest.raises(PlanError, match=rf"{EMBEDDINGS}: the base has .* no basis can be added"):
        carrick.plan(spec)
    spec["parameters"]["outside_layers"] = "base"
    carrick.merge(spec, tmp_path / "out")
    assert (read_model(tmp_path / "out")[EMBEDDINGS][[1, 3]] == 1).all()


def test_plain_is_the_default(tmp_path: Path) -> None:
    written(tmp_path, 2)
    carrick.merge(config(tmp_path, 2, density=0.5), tmp_path / "one")
    carrick.merge(config(tmp_path, 2, density=0.5, outside_layers="plain"), tmp_path / "two")
    files = [(tmp_path / out / "model.safetensors").read_bytes() for out in ("one", "two")]
    assert files[0] == files[1]


@pytest.mark.parametrize("choice", ["plain", "basis", "base"])
def test_tied_embeddings_stay_tied(tmp_path: Path, choice: str) -> None:
    rng = np.random.default_rng(3)
    base = base_model(rng)
    tuned = [tuned_model(rng, base) for _ in range(2)]
    stated: dict[str, object] = {"model_type": "llama", "tie_word_embeddings": True}
    for name, model in (("base", base), ("tuned0", tuned[0]), ("tuned1", tuned[1])):
        # The second one stores the head, which is its embeddings.
        head = {HEAD: model[EMBEDDINGS]} if name == "tuned1" else {}
        write_model(tmp_path / name, model | head, config=stated)
    carrick.merge(config(tmp_path, 2, density=0.5, outside_layers=choice), tmp_path / "out")
    found = read_model(tmp_path / "out")
    assert HEAD not in found
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is True
    assert same_bytes(found[EMBEDDINGS], base[EMBEDDINGS]) == (choice == "base")
    if choice == "basis":
        wanted = knots_ties(updates(base, tuned, matrices(base)), density=0.5)
        assert distance(found, {EMBEDDINGS: wanted[EMBEDDINGS]}, base) < 2e-5


def test_embeddings_that_do_not_fit_are_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    base = base_model(rng) | {EMBEDDINGS: rng.normal(size=(1500, 1400)).astype("f4")}
    write_model(tmp_path / "base", base)
    for number in range(2):
        write_model(tmp_path / f"tuned{number}", base)
    spec = config(tmp_path, 2, density=0.5, outside_layers="basis")
    for dry in (True, False):
        with pytest.raises(CarrickError, match=rf"{EMBEDDINGS}.*MiB.*--memory.*outside_layers: plain"):
            carrick.merge(spec, tmp_path / "out", memory="64MiB", dry_run=dry)
    assert not (tmp_path / "out.carrick-partial").exists()
    needed = estimate_of(carrick.plan(spec)).peak_bytes
    spec["parameters"]["outside_layers"] = "plain"
    # A Gram matrix of the rows in float64, and one update in float32.
    assert needed - estimate_of(carrick.plan(spec)).peak_bytes >= 8 * 1500**2 + 4 * 1500 * 1400
    carrick.merge(spec, tmp_path / "out", memory="64MiB")


def test_what_a_plan_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Copies are read once, from the base alone; a basis takes room before the output."""
    base, _ = written(tmp_path, 2)
    plans = {
        choice: carrick.plan(config(tmp_path, 2, density=0.5, outside_layers=choice))
        for choice in ("plain", "basis", "base")
    }
    shares = {
        choice: {share.method: share for share in estimate_of(plan).by_method}
        for choice, plan in plans.items()
    }
    size = {name: tensor.nbytes for name, tensor in base.items()}
    layers = in_layers(matrices(base))
    copied = set(base) - set(layers) - {EXPERTS}
    copies = shares["base"]["copy"]
    assert (copies.tensors, copies.passes) == (len(copied), 1)
    assert copies.bytes_read == copies.bytes_written == sum(size[name] for name in copied)
    assert shares["base"]["knots_ties"] == shares["plain"]["knots_ties"]
    assert shares["base"]["ties"].tensors == 1
    assert shares["plain"]["ties"].tensors == len(base) - len(layers)
    assert shares["basis"]["knots_ties"].tensors == len(matrices(base))
    assert shares["basis"]["ties"].tensors == len(base) - len(matrices(base))

    def scratch(names: Iterable[str]) -> int:
        """Basis, coordinates of both, and the merged ones, in float32, at full rank."""
        ranks = {name: min(base[name].shape[0], 2 * base[name].shape[1]) for name in names}
        return sum(4 * r * (base[name].shape[0] + 3 * base[name].shape[1]) for name, r in ranks.items())

    more = scratch(matrices(base)) - scratch(layers)
    written_more = shares["basis"]["knots_ties"].bytes_written - shares["plain"]["knots_ties"].bytes_written
    assert written_more == more + sum(size[name] for name in set(matrices(base)) - set(layers))
    (tmp_path / "config.yml").write_text(json.dumps(config(tmp_path, 2, density=0.5, outside_layers="base")))
    assert main(["plan", str(tmp_path / "config.yml")]) == 0
    assert "stay as in the base" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("choice", ["basis", "base"])
def test_a_saved_plan_and_an_interrupted_run(
    tmp_path: Path, choice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, 2)
    spec = config(tmp_path, 2, density=0.5, outside_layers=choice)
    carrick.merge(spec, tmp_path / "one")
    (tmp_path / "plan.json").write_text(carrick.plan(spec).to_json())
    carrick.merge(None, tmp_path / "two", plan=tmp_path / "plan.json")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(_core, "commit", stop)  # all is written, and nothing is in its place
        with pytest.raises(KeyboardInterrupt):
            carrick.merge(spec, tmp_path / "three")
    assert (tmp_path / "three.carrick-partial").is_dir()
    carrick.merge(spec, tmp_path / "three")
    weights = [(tmp_path / out / "model.safetensors").read_bytes() for out in ("one", "two", "three")]
    assert weights[0] == weights[1] == weights[2]
    records = [json.loads((tmp_path / out / "carrick.json").read_text()) for out in ("one", "three")]
    assert records[0] == records[1]


def test_a_model_that_has_nothing_for_a_basis(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    vectors = {
        f"model.layers.{i}.{n}.weight": rng.normal(size=9).astype("f4") for i in range(2) for n in "abc"
    }
    for extra, choice, message in (
        ({EMBEDDINGS: np.ones((6, 5), "f4")}, "plain", "matrices of layers, and .* has none; use `ties`"),
        ({EMBEDDINGS: np.ones((6, 5), "f4")}, "base", "matrices of layers, and .* has none; use `ties`"),
        ({}, "basis", "matrices, and .* has none; use `ties`"),
    ):
        for name in ("base", "tuned0"):
            write_model(tmp_path / name, vectors | extra)
        with pytest.raises(PlanError, match=f"`knots_ties` merges {message}"):
            carrick.plan(config(tmp_path, 1, density=0.5, outside_layers=choice))


def test_a_choice_that_there_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = config(tmp_path, 1, outside_layers="plian")
    with pytest.raises(ConfigError, match=r"`outside_layers` is `plian`; .*`basis`.*did you mean `plain`"):
        carrick.plan(spec)
    (tmp_path / "config.yml").write_text(json.dumps(spec))
    assert main(["merge", str(tmp_path / "config.yml"), str(tmp_path / "out")]) == 2
    assert "did you mean `plain`?" in capsys.readouterr().err
    spec = config(tmp_path, 1)
    spec["models"][0]["parameters"]["outside_layers"] = "base"
    with pytest.raises(ConfigError, match="one value for the whole merge"):
        carrick.plan(spec)
