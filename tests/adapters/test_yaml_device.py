"""`carrick merge … --device`: configurations of adapters on a torch device, and none of checkpoints."""

from __future__ import annotations

import json

import pytest

import carrick
from adapters.loading import updates_of
from adapters.merging import distance, knots_oracle, lora
from adapters.zoo import torch  # noqa: F401  (skips where there is none)
from carrick.cli import main
from carrick.errors import CarrickError, ConfigError


@pytest.fixture
def two():
    return [lora(seed, rank=2 + seed) for seed in range(2)]


@pytest.fixture
def folders(two, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return [str(one.write(tmp_path / name)) for one, name in zip(two, ("en", "de"), strict=True)]


def content(models, method="knots_ties", **more):
    density = {"parameters": {"density": 0.4}} if method == "knots_ties" else {}
    return {"merge_method": method, "models": [{"model": model} for model in models], **density, **more}


def test_the_command(two, folders, tmp_path, capfd, monkeypatch):
    import carrick.torch  # noqa: PLC0415

    asked = []
    real = carrick.torch.merge_on_device
    monkeypatch.setattr(
        carrick.torch, "merge_on_device", lambda *given: asked.append(str(given[2])) or real(*given)
    )
    (tmp_path / "w.yml").write_text(json.dumps(content(folders)))
    before = sorted(tmp_path.iterdir())
    assert main(["merge", "w.yml", "out", "--device", "torch:cpu", "--dry-run"]) == 0
    assert sorted(tmp_path.iterdir()) == before
    assert not asked
    assert main(["merge", "w.yml", "out", "--device", "torch:cpu"]) == 0
    assert asked == ["cpu"]
    capfd.readouterr()
    assert distance(updates_of(tmp_path / "out"), knots_oracle("ties", two, density=0.4)) <= 2e-6
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "out"])


def test_documents_that_decompose_nothing_stay_on_the_cpu(folders, tmp_path):
    """The device is for those that do; where none does it is refused."""
    both = [content(folders, "cat", name="west"), content(["west", *folders])]
    carrick.merge(both, tmp_path / "out", device="torch:cpu")
    carrick.merge(both, tmp_path / "core")
    assert distance(updates_of(tmp_path / "out"), updates_of(tmp_path / "core")) <= 2e-6
    with pytest.raises(ConfigError, match="`cat` without a rank has nothing to decompose"):
        carrick.merge(content(folders, "cat"), tmp_path / "other", device="torch:cpu")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("device", "more", "what"),
    [
        ("tpu", {}, "tpu"),
        ("torch:cpu", {"space": "factors", "merge_method": "ties"}, "leave --device out"),
        ("torch:cpu", {"parameters": {"density": 0.4, "lambda": [0, 1]}}, "the same for all modules"),
    ],
)
@pytest.mark.parametrize("dry_run", [False, True])
def test_what_no_device_does_is_told_by_the_plan(device, more, what, folders, tmp_path, *, dry_run):
    before = sorted(tmp_path.iterdir())
    with pytest.raises(CarrickError, match=what):
        carrick.merge(content(folders) | more, tmp_path / "out", device=device, dry_run=dry_run)
    assert sorted(tmp_path.iterdir()) == before


def test_checkpoints_are_merged_on_the_cpu(tmp_path):
    config = {"merge_method": "linear", "models": [{"model": "a", "parameters": {"weight": 1}}]}
    with pytest.raises(
        ConfigError, match=r"^--device cuda is for adapters .* checkpoints, which runs on the CPU"
    ):
        carrick.merge(config, tmp_path / "out", device="cuda")
    with pytest.raises(ConfigError, match="--device cuda"):
        carrick.merge(None, tmp_path / "out", plan=tmp_path / "plan.json", device="cuda")
