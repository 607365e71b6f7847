"""One clear error for each thing that cannot be decomposed, and no file left behind."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from carrick import _core
from factored.harness import Module, decompose_all, factors, request_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def run(folder: Path, request: dict[str, Any], options: str = '{"threads": 1}') -> None:
    _core.decompose(json.dumps(request), str(folder / "out.safetensors"), options)


def small(folder: Path, **options: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return request_of(folder, [Module([factors(rng, 6, 5, 2), factors(rng, 6, 5, 2)])], "sum", **options)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["a", "b"])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_numbers_that_are_none(tmp_path: Path, value: float, side: str, precision: str) -> None:
    rng = np.random.default_rng(0)
    terms = [factors(rng, 6, 5, 2), factors(rng, 6, 5, 2)]
    getattr(terms[1], side)[1, 1] = value
    request = request_of(tmp_path, [Module(terms, "layer.w")], "joint_columns", precision=precision)
    with pytest.raises(_core.CarrickError) as caught:
        run(tmp_path, request)
    tensor = f"layer.w.lora_{side.upper()}.weight"
    assert str(caught.value) == (
        f'tensor "layer.w": "{tensor}" of {tmp_path}/adapter-1.safetensors holds NaN or infinities; '
        "such adapters are refused"
    )
    assert not (tmp_path / "out.safetensors").exists()


def change(request: dict[str, Any], edit: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    edit(request)
    return request


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda r: r["modules"][0].update(rank=0), "a rank of 0 is asked for"),
        (lambda r: r.update(energy=1.5), "the energy to be kept"),
        (lambda r: r.update(energy=0.0), "the energy to be kept"),
        (lambda r: r.update(tolerance={"relative": -1.0}), "a tolerance of -1"),
        (lambda r: r.update(kind="product"), "unknown variant `product`"),
        (lambda r: r.update(weights=[1]), "unknown field `weights`"),
        (lambda r: r["modules"][0]["terms"][0]["a"].update(dtype="I64"), "a factor of dtype I64"),
        (lambda r: r["modules"][0]["terms"][0]["a"].update(file=9), "does not list"),
        (lambda r: r["modules"][0]["terms"][0]["b"].update(offset=10**6), "lie outside"),
        (lambda r: r["modules"][0]["terms"][0].update(rank=2**62), "no size in bytes"),
        (lambda r: r["modules"][0].update(out=7), "lie outside"),
    ],
)
def test_requests_that_make_no_sense(
    tmp_path: Path, edit: Callable[[dict[str, Any]], None], message: str
) -> None:
    with pytest.raises(_core.CarrickError, match=message):
        run(tmp_path, change(small(tmp_path), edit))
    assert not (tmp_path / "out.safetensors").exists()


def test_a_file_that_changed(tmp_path: Path) -> None:
    request = small(tmp_path)
    (tmp_path / "adapter-0.safetensors").write_bytes(b"")
    with pytest.raises(_core.CarrickError, match=r"adapter-0\.safetensors.*plan again"):
        run(tmp_path, request)


def test_too_little_memory(tmp_path: Path) -> None:
    with pytest.raises(_core.PlanError, match="MiB of memory are needed, 1 MiB are allowed"):
        run(tmp_path, small(tmp_path), '{"memory": 1048576}')


def test_numbers_that_float32_does_not_hold(tmp_path: Path) -> None:
    term = factors(np.random.default_rng(0), 6, 5, 2, np.float64)
    term.b *= 1e-60
    request = request_of(tmp_path, [Module([term])], "joint_columns")
    with pytest.raises(_core.CarrickError, match="ask for precision float64"):
        run(tmp_path, request)
    run(tmp_path, request | {"precision": "float64"})


def test_progress_may_stop_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    modules = [Module([factors(rng, 700, 700, 200)], f"w{i}") for i in range(12)]

    class StopError(Exception):
        pass

    def stop(state: str) -> None:
        told = json.loads(state)
        assert told["stage"] == "decompose"
        assert told["tensor"].startswith("w")
        assert told["tensors_total"] == 12
        raise StopError

    with pytest.raises(StopError):
        decompose_all(tmp_path, modules, "sum", precision="float64", progress=stop)
    assert not (tmp_path / "small.safetensors").exists()
