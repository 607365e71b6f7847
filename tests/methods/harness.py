"""Runs a case as a user would, by `carrick.merge` on model folders, and compares with the oracle."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import carrick
from oracles.dtypes import NUMPY
from oracles.estimate import assert_matches
from oracles.files import read_model, write_model

if TYPE_CHECKING:
    from pathlib import Path

    from methods.case import Case, Model
    from oracles.estimate import Estimate


def config_of(case: Case, folder: Path, *, shards: int = 1) -> dict[str, Any]:
    """Write the models below `folder`; the configuration that merges them."""
    base = write_model(folder / "base", case.base, shards=shards) if case.base else None
    paths = [
        write_model(folder / f"model-{i}", tensors, shards=shards) for i, tensors in enumerate(case.models)
    ]
    given = case.parameters or [{} for _ in paths]
    models: list[dict[str, Any]] = [
        {"model": str(path)} | ({"parameters": each} if each else {})
        for path, each in zip(paths, given, strict=True)
    ]
    if case.method == "slerp":
        models.insert(0, {"model": str(base)})
    config: dict[str, Any] = {"merge_method": case.method, "models": models}
    if base:
        config["base_model"] = str(base)
    options = dict(case.options)
    if "variant" in options:
        config["variant"] = options.pop("variant")
    if options:
        config["parameters"] = options
    return config


def run(
    case: Case, folder: Path, *, shards: int = 1, settings: dict[str, Any] | None = None, **arguments: Any
) -> Model:
    """Merge in a fresh folder, which is emptied again; `settings` go into the configuration."""
    shutil.rmtree(folder, ignore_errors=True)
    config = config_of(case, folder, shards=shards) | (settings or {})
    carrick.merge(config, folder / "out", seed=case.seed, **arguments)
    tensors = read_model(folder / "out")
    shutil.rmtree(folder)
    return tensors


def check(got: Model, want: dict[str, Estimate], case: Case, output_dtype: str | None = None) -> None:
    """The donor's names, shapes and dtypes (or the one asked for), and values as the oracle bounds them."""
    donor = case.base or case.models[0]
    assert set(got) == set(donor)
    for name, tensor in got.items():
        assert tensor.dtype == (NUMPY[output_dtype] if output_dtype else donor[name].dtype), name
        assert_matches(tensor, want[name], f"{name} of {case.method} {case.options} {case.parameters}")
