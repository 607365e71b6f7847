"""carrick.open: arrays mapped from the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
import pytest

import carrick
from carrick.errors import FormatError
from plan.tiny import llama, write, write_raw

if TYPE_CHECKING:
    from pathlib import Path


def test_arrays_equal_what_was_written(tmp_path: Path) -> None:
    tensors = llama() | {
        "f8": np.arange(4).astype(ml_dtypes.float8_e4m3fn),
        "i": np.arange(6, dtype=np.int64).reshape(2, 3),
        "scalar": np.array(2.5, np.float32),
        "empty": np.zeros((0, 3), np.float16),
        "flags": np.array([True, False, True]),
    }
    write(tmp_path, tensors, shards=2)
    with carrick.open(tmp_path) as opened:
        assert set(opened) == set(tensors)
        assert len(opened) == len(tensors)
        assert opened.shapes["i"] == (2, 3)
        assert opened.dtypes["f8"] == "F8_E4M3"
        for name, wanted in tensors.items():
            assert opened[name].dtype == wanted.dtype
            assert opened[name].shape == wanted.shape
            np.testing.assert_array_equal(
                opened[name].view(np.uint8 if wanted.ndim else wanted.dtype),
                wanted.view(np.uint8 if wanted.ndim else wanted.dtype),
            )


def test_views_are_read_only_and_shared(tmp_path: Path) -> None:
    write(tmp_path, {"w": np.zeros(8, np.float32)})
    opened = carrick.open(tmp_path)
    assert np.shares_memory(opened["w"], opened["w"])
    with pytest.raises(ValueError, match="read-only"):
        opened["w"][0] = 1


def test_arrays_outlive_the_close(tmp_path: Path) -> None:
    write(tmp_path, {"w": np.arange(8, dtype=np.float32)})
    with carrick.open(tmp_path) as opened:
        kept = opened["w"]
    assert kept[7] == 7
    with pytest.raises(ValueError, match="is closed"):
        opened["w"]


def test_misaligned_tensors(tmp_path: Path) -> None:
    write_raw(tmp_path / "model.safetensors", {"b": ("U8", [3], 3), "w": ("F32", [2], 8)})
    assert carrick.open(tmp_path)["w"].tolist() == [0.0, 0.0]


def test_packed_types_give_their_bytes(tmp_path: Path) -> None:
    write_raw(tmp_path / "model.safetensors", {"w": ("F4", [8], 4)})
    opened = carrick.open(tmp_path)
    assert opened.raw("w").tolist() == [0, 0, 0, 0]
    with pytest.raises(FormatError, match="no NumPy type"):
        opened["w"]
    with pytest.raises(KeyError):
        opened["v"]
