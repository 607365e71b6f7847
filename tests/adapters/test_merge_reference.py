"""Numbers that the published code of KnOTS gave: four adapters, three modules, merged in thirteen ways."""

from __future__ import annotations

import json

import numpy as np
import pytest

import carrick
from adapters.merging import Lora, merged, result
from carrick import arrays
from carrick.adapters.dense import merge_into_base
from oracles.files import write_file

CASES = range(13)
METHODS = {"ties": "ties", "tv": "linear"}


@pytest.fixture(scope="module")
def recorded(shared):
    fixture = json.loads((shared / "fixtures" / "knots_reference.json").read_text())
    assert len(fixture["cases"]) == len(CASES)
    return fixture


@pytest.fixture(scope="module")
def inputs(recorded):
    """The published code knows no α: theirs is the rank."""
    return [
        Lora({
            name.removesuffix(".weight"): tuple(np.array(one[letter], np.float32) for letter in "AB")
            for name, one in task.items()
        })
        for task in recorded["inputs"]
    ]  # fmt: skip


def wanted(case):
    return {name.removesuffix(".weight"): np.array(matrix) for name, matrix in case["merged"].items()}


def options_of(case):
    cfg = case["cfg"]
    ties = cfg["merge_method"] == "ties"
    parameters = {"lambda": cfg["scaling_coeffs"]} | ({"aggregate": cfg["merging_type"]} if ties else {})
    return cfg, cfg["topK"] / 100, parameters


def check(got, case):
    want = wanted(case)
    assert got.keys() == want.keys()
    for path, matrix in want.items():
        assert np.linalg.norm(got[path] - matrix) <= 1e-5 * np.linalg.norm(matrix), path


def cases_of(recorded, representation):
    return [case for case in recorded["cases"] if case["cfg"]["representation"] == representation]


@pytest.mark.parametrize("number", range(7))
def test_in_the_shared_basis(number, recorded, inputs):
    cases = cases_of(recorded, "svd-vector")
    assert len(cases) == 7
    cfg, density, parameters = options_of(cases[number])
    ties = cfg["merge_method"] == "ties"
    report = merged(
        inputs,
        method=f"knots_{METHODS[cfg['merge_method']]}",
        density=density if ties else None,
        parameters=parameters | {"rank_cut": "absolute", "rank_tolerance": 1e-5},
    )
    check(result(report), cases[number])


@pytest.mark.parametrize("number", range(6))
def test_on_updates(number, recorded, inputs):
    """The same TIES on B·A itself, all modules one vector."""
    cases = cases_of(recorded, "vector")
    assert len(cases) == 6
    _, density, parameters = options_of(cases[number])
    dense = [one.updates() for one in inputs]
    paths = sorted(dense[0], key=lambda path: f"{path}.weight".encode())
    vectors = [np.concatenate([own[path].ravel() for path in paths]).astype(np.float32) for own in dense]
    flat = arrays.ties(
        vectors,
        density=density,
        variant="reference",
        lambda_=parameters["lambda"],
        aggregate=parameters["aggregate"],
    )
    sizes = [dense[0][path].size for path in paths]
    parts = np.split(flat, np.cumsum(sizes)[:-1])
    check(
        {path: part.reshape(dense[0][path].shape) for path, part in zip(paths, parts, strict=True)},
        cases[number],
    )


@pytest.mark.parametrize("number", range(6))
def test_merged_into_a_base_of_zeros(number, recorded, inputs, tmp_path):
    """The same, streamed from the factors into a checkpoint."""
    case = cases_of(recorded, "vector")[number]
    _, density, parameters = options_of(case)
    shapes = {path: (len(b), a.shape[1]) for path, (a, b) in inputs[0].factors.items()}
    zeros = {f"{path}.weight": np.zeros(shape, np.float32) for path, shape in shapes.items()}
    write_file(tmp_path / "base.safetensors", zeros)
    folders = [one.write(tmp_path / f"adapter-{i}") for i, one in enumerate(inputs)]
    options = {"method": "ties", "variant": "reference", "density": density, "parameters": parameters}
    merge_into_base(tmp_path / "base.safetensors", folders, tmp_path / "out", **options)
    with carrick.open(tmp_path / "out") as tensors:
        got = {name.removesuffix(".weight"): np.array(tensor, np.float64) for name, tensor in tensors.items()}
    check(got, case)
