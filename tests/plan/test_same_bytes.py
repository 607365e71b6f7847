"""Whether two stored tensors are the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
import pytest

from carrick.checkpoints import find
from carrick.plan.same_bytes import same_bytes, same_values
from oracles.files import write_model

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 3 << 20


def compared(folder: Path, one: np.ndarray, other: np.ndarray, *, sample: bool = False) -> bool | None:
    checkpoints = [
        find(str(write_model(folder / name, {"a.norm": np.ones(3, "f4"), "w": values})), None)
        for name, values in (("one", one), ("other", other))
    ]
    first, second = checkpoints
    return same_bytes(first, first.tensors["w"], second, second.tensors["w"], sample=sample)


@pytest.mark.parametrize("place", [0, (1 << 20) + 60_000, SIZE // 2 + 7, SIZE - 1])
def test_one_byte_is_found_wherever_it_is(place: int, tmp_path: Path) -> None:
    values = (np.arange(SIZE) % 251).astype(np.uint8)
    other = values.copy()
    other[place] ^= 1
    assert compared(tmp_path / "a", values, values.copy()) is True
    assert compared(tmp_path / "b", values, other) is False
    at_an_end = place in (0, SIZE - 1)
    assert compared(tmp_path / "c", values, other, sample=True) is not at_an_end


def test_a_sample_is_spread_over_all(tmp_path: Path) -> None:
    """Whatever lies between two pieces is the most that may differ unseen."""
    values = np.zeros(SIZE, np.uint8)
    for number, begin in enumerate(range(0, SIZE, SIZE // 8)):
        other = values.copy()
        other[begin : begin + SIZE // 8] = 1
        assert compared(tmp_path / str(number), values, other, sample=True) is False


@pytest.mark.parametrize("sample", [False, True])
def test_other_types_and_sizes_differ(sample: bool, tmp_path: Path) -> None:
    zeros = np.zeros(4, "f4")
    assert compared(tmp_path / "a", zeros, np.zeros(4, "i4"), sample=sample) is False
    assert compared(tmp_path / "b", zeros, np.zeros(5, "f4"), sample=sample) is False
    assert compared(tmp_path / "c", zeros[:0], zeros[:0], sample=sample) is True


def test_what_is_not_written_yet_is_not_known(tmp_path: Path) -> None:
    one = find(str(write_model(tmp_path / "one", {"w": np.zeros(4, "f4")})), None)
    tensor = one.tensors["w"]
    (tmp_path / "one" / "model.safetensors").rename(tmp_path / "gone")
    assert same_bytes(one, tensor, one, tensor) is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ([1.5, np.nan, np.inf], [1.5, np.nan, np.inf], True),
        ([1.5, 2.0], [1.5, 2.001], False),
        ([1.5, np.nan], [1.5, 2.0], False),
        ([1.5, np.inf], [1.5, -np.inf], False),
        ([1.5], [[1.5]], False),
        ([], [], True),
    ],
)
def test_numbers_of_other_types(one: list[float], other: list[float], same: bool, tmp_path: Path) -> None:
    first, second = (
        find(str(write_model(tmp_path / name, {"a.norm": np.ones(3, "f4"), "w": values})), None)
        for name, values in (
            ("one", np.array(one, ml_dtypes.bfloat16)),
            ("other", np.array(other, np.float32)),
        )
    )
    tensors = first.tensors["w"], second.tensors["w"]
    assert same_values(first, tensors[0], second, tensors[1]) is same
    assert same_values(second, tensors[1], first, tensors[0]) is same
    (tmp_path / "one" / "model.safetensors").rename(tmp_path / "gone")
    assert same_values(first, tensors[0], second, tensors[1]) is (
        None if np.shape(one) == np.shape(other) else False
    )


def test_integers_of_other_types_differ(tmp_path: Path) -> None:
    one = find(str(write_model(tmp_path / "one", {"a": np.ones(2, "i4"), "b": np.ones(2, "i8")})), None)
    assert same_values(one, one.tensors["a"], one, one.tensors["b"]) is False
    assert same_values(one, one.tensors["a"], one, one.tensors["a"]) is True
