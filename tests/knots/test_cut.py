"""`rank` ends a basis; where it does so between equal singular values, which directions are kept is a choice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import carrick
from knots.test_checkpoints import config
from oracles.files import write_model

if TYPE_CHECKING:
    from pathlib import Path

FIRST, SECOND = "model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"
BETWEEN = 0.5 - 5e-8
"""Between 0.5 and 0.5 - 1e-7."""
METHODS = pytest.mark.parametrize(
    ("method", "density"), [("knots_ties", {"density": 0.5}), ("knots_linear", {})]
)


def notes(tmp_path: Path, method: str, rank: int | None, last: float = 0.5, **options: Any) -> list[str]:
    """Two models, one matrix with joint singular values of 2, 0.5, `last` and zeros, one of 2, 0.7, 0.5 and zeros."""
    base = {name: np.zeros((20, 12), "f4") for name in (FIRST, SECOND)}
    write_model(tmp_path / "base", base)
    places = [[(0, 0), (1, 1)], [(2, 2)]]
    sizes = {FIRST: [2.0, 0.5, last], SECOND: [2.0, 0.7, 0.5]}
    for number, own in enumerate(places):
        tuned = {name: tensor.copy() for name, tensor in base.items()}
        for name, tensor in tuned.items():
            for place in own:
                tensor[place] = sizes[name][place[0]]
        write_model(tmp_path / f"tuned{number}", tuned)
    spec = config(tmp_path, 2, method, **options) | ({} if rank is None else {"rank": rank})
    report = carrick.merge(spec, tmp_path / "out", force=True)
    return [note for note in report.notes if "cut by `rank`" in note]


@METHODS
@pytest.mark.parametrize("direction", ["columns", "rows"])
def test_a_cut_between_equals_is_told(
    tmp_path: Path, method: str, density: dict[str, float], direction: str
) -> None:
    """Of sums, too: what is left of one hangs on the directions that are kept."""
    told = notes(tmp_path, method, 2, direction=direction, **density)
    assert len(told) == 1
    assert told[0].startswith(
        f"1 module is cut by `rank` between singular values that are nearly equal ({FIRST})"
    )
    assert notes(tmp_path, method, 2, last=0.5 - 1e-7, direction=direction, **density)
    assert not notes(tmp_path, method, 2, last=0.5 - 1e-5, direction=direction, **density)


@METHODS
@pytest.mark.parametrize("rank", [None, 1, 3, 4])
def test_other_cuts_are_not(tmp_path: Path, method: str, density: dict[str, float], rank: int | None) -> None:
    """Before the equal ones, behind them, and among the zeros."""
    assert not notes(tmp_path, method, rank, **density)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"rank_tolerance": 0.3}, False),
        ({"rank_tolerance": BETWEEN / 2}, False),
        ({"rank_tolerance": 0.2}, True),
        ({"rank_cut": "absolute", "rank_tolerance": 0.6}, False),
        ({"rank_cut": "absolute", "rank_tolerance": BETWEEN}, False),
        ({"rank_cut": "absolute", "rank_tolerance": 0.4}, True),
    ],
)
def test_what_the_tolerance_cuts_is_no_choice(tmp_path: Path, options: dict[str, Any], told: bool) -> None:
    """Not even where it falls between two that are nearly equal: it says which of them counts."""
    assert bool(notes(tmp_path, "knots_ties", 2, last=0.5 - 1e-7, density=0.5, **options)) == told


def test_modules_are_counted(tmp_path: Path) -> None:
    """One update is the other's in another place, in every matrix."""
    base = {name: np.zeros((12, 12), "f4") for name in (FIRST, SECOND)}
    write_model(tmp_path / "base", base)
    for number in range(2):
        tuned = {name: np.zeros((12, 12), "f4") for name in base}
        for tensor in tuned.values():
            tensor[number, number] = 0.5
        write_model(tmp_path / f"tuned{number}", tuned)
    report = carrick.merge(config(tmp_path, 2, density=1.0) | {"rank": 1}, tmp_path / "out")
    assert [
        note
        for note in report.notes
        if "2 modules are cut by `rank` between" in note and f"({FIRST}, …)" in note
    ]
