"""Requests that cannot be carried out, devices that are not there, files, and a Python without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import save_file

from carrick.errors import CarrickError, ConfigError
from carrick.torch import Module, Place, Term, merge_on_device, read_options, stored_module
from carrick.torch.device import find_device
from device.models import dense, merge, modules_of, random_model, torch_term
from device.oracle import relative_error

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("layer_swap", {}, "method `layer_swap` is not one of cat, linear, task_arithmetic"),
        ("linear", {"density": 1}, "`linear` takes no option `density`"),
        ("linear", {"rank": 4}, "takes no option `rank`"),
        (
            "ties",
            {"density": 1},
            "`ties` of updates is not of low rank: give `rank` or `energy`, or use `knots_ties`",
        ),
        ("ties", {"rank": 4}, "needs `density`"),
        ("ties", {"density": 1, "rank": 4, "direction": "rows"}, "takes no option `direction`"),
        ("dare_linear", {"density": 1, "rank": 4, "variant": "peft"}, "has no variants"),
        ("knots_tie", {}, "did you mean `knots_ties`"),
        ("knots_ties", {}, "needs `density`"),
        ("knots_linear", {"density": 0.5}, "takes no option `density`"),
        ("knots_ties", {"density": 1.5}, "`density` is 1.5; it lies between 0 and 1"),
        ("knots_ties", {"density": float("nan")}, "must be a finite number"),
        ("knots_ties", {"density": [0.5, 0.5, 0.5]}, "3 numbers for 2 adapters"),
        ("knots_ties", {"density": "half"}, "it is a number, or one for each adapter"),
        ("knots_ties", {"density": 1, "weights": [1, float("inf")]}, "`weights` holds inf"),
        ("knots_ties", {"density": 1, "agregate": "sum"}, "did you mean `aggregate`"),
        ("knots_ties", {"density": 1, "aggregate": "median"}, "one of weighted_mean, mean, sum, max"),
        ("knots_ties", {"density": 1, "variant": "papers"}, "did you mean `paper`"),
        ("knots_linear", {"variant": "paper"}, "has no variants"),
        ("knots_ties", {"density": 1, "rank": 0}, "`rank` is 0"),
        ("knots_ties", {"density": 1, "rank": 2.5}, "whole number"),
        ("knots_ties", {"density": 1, "seed": 1}, "takes no option `seed`"),
        ("knots_ties", {"density": 1, "tolerance": -1.0}, "must not be negative"),
        ("knots_ties", {"density": 1, "normalize": 1}, "it is True or False"),
        ("cat", {"rank": 4}, "takes no option `rank`"),
        ("cat", {"energy": 0.9}, "takes no option `energy`"),
        ("svd", {"energy": 0.0}, "`energy` is 0; it has to be a number above 0, up to 1"),
        ("svd", {"energy": 1.5}, "`energy` is 1.5; it has to be a number above 0, up to 1"),
        ("knots_linear", {"energy": float("nan")}, "must be a finite number"),
        ("svd", {"energy": 0.9, "rank": 4}, "`rank` and `energy` both set the rank; remove one of them"),
        ("svd", {"direction": "rows"}, "takes no option `direction`"),
    ],
)
def test_bad_options(method: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_options(method, 2, **options)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpu", "no device `gpu`; it is one of cpu, cuda, cuda:<number>"),
        ("mps", "need float64"),
        ("cuda:99", "no GPU|there are"),
    ],
)
def test_bad_devices(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_device(name)


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(CarrickError, match=r"q: A has the shape \(2, 5\) and B \(3, 3\) in adapter 0"):
        Module.of("q", [Term(torch.ones(2, 5), torch.ones(3, 3))])
    with pytest.raises(CarrickError, match="q: ΔW is 4 × 5 in adapter 1 and 3 × 5 before it"):
        Module.of("q", [Term(torch.ones(2, 5), torch.ones(3, 2)), Term(torch.ones(2, 5), torch.ones(4, 2))])
    with pytest.raises(CarrickError, match="q: no adapter has this module"):
        Module.of("q", [None, None])


def test_nan_in_an_adapter_names_the_module() -> None:
    bad = Term(torch.full((1, 2), torch.nan), torch.ones(2, 1))
    for method, options in (
        ("knots_ties", {"density": 1}),
        ("svd", {}),
        ("ties", {"density": 1, "rank": 2}),
    ):
        with pytest.raises(CarrickError, match=r"layers\.3\.q: A .*NaN or infinity"):
            list(merge_on_device([Module.of("layers.3.q", [bad])], read_options(method, 1, **options)))


def test_factors_in_files(tmp_path: Path) -> None:
    model = random_model(51)
    places: dict[str, list[Place | None]] = {path: [] for path in model}
    for adapter in range(3):
        tensors, file = {}, str(tmp_path / f"{adapter}.safetensors")
        for path, terms in model.items():
            term = terms[adapter]
            assert term is not None
            stored = torch_term(term)
            tensors |= {f"{path}.A": stored.a, f"{path}.B": stored.b}
            places[path].append(Place((file, f"{path}.A"), (file, f"{path}.B"), term.scale))
        save_file(tensors, file)
    modules = [stored_module(path, where) for path, where in places.items()]
    assert [m.ranks for m in modules] == [m.ranks for m in modules_of(model)]
    want = merge(model, "knots_ties", density=0.3)
    for merged in merge_on_device(modules, read_options("knots_ties", 3, density=0.3)):
        assert relative_error(dense(merged), dense(want[merged.path])) == 0
    nothing = (str(tmp_path / "0.safetensors"), "nothing")
    with pytest.raises(CarrickError, match=r"0\.safetensors: nothing"):
        stored_module("q", [Place(nothing, nothing)])
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no header")
    with pytest.raises(CarrickError, match=r"broken\.safetensors: not a safetensors file"):
        stored_module("q", [Place((str(broken), "a"), (str(broken), "b"))])
