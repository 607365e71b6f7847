"""Integers among modules saved whole, as the counts of a norm over batches: copied where equal, never computed with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from adapters.handmade import PREFIX, adapter, base_tensors, write_base
from carrick.adapters import apply, extract, merge
from carrick.cli.entry import main
from carrick.errors import PlanError
from oracles.files import read_file, read_model

if TYPE_CHECKING:
    from pathlib import Path

STEPS, HEAD = "lm_head.steps", "lm_head.weight"


def counts(value: int, dtype: Any = np.int64) -> Any:
    return np.full(3, value, dtype)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_base(tmp_path / "base", base_tensors() | {STEPS: counts(0)})


def trained(folder: Path, seed: int, steps: Any) -> Path:
    """An adapter that saves its head whole, with what it counted."""
    made = adapter(seed, modules_to_save=["lm_head"])
    made.more |= {HEAD: base_tensors(seed + 1)[HEAD], STEPS: steps}
    return made.write(folder)


def test_kept_as_they_are_in_another_type(tmp_path: Path) -> None:
    """2⁶² + 1 is no number of any floating-point type."""
    folders = [trained(tmp_path / str(i), i, counts(2**62 + i)) for i in range(2)]
    merge(folders, tmp_path / "out", modules_to_save="2", dtype="bfloat16")
    found = read_file(tmp_path / "out" / "adapter_model.safetensors")
    assert found[PREFIX + STEPS].tobytes() == counts(2**62 + 1).tobytes()
    assert {found[key].dtype.name for key in found if "steps" not in key} == {"bfloat16"}


@pytest.mark.parametrize("dtype", [None, "float16"])
def test_merged_where_all_are_equal(dtype: str | None, base: Path, tmp_path: Path) -> None:
    folders = [trained(tmp_path / str(i), i, counts(0)) for i in range(2)]
    options: dict[str, Any] = {"modules_to_save": "merge", "base": base, "dtype": dtype}
    merge(folders, tmp_path / "out", weights=[0.5, 2], **options)
    found = read_file(tmp_path / "out" / "adapter_model.safetensors")
    assert found[PREFIX + STEPS].dtype == np.int64
    np.testing.assert_array_equal(found[PREFIX + STEPS], counts(0))
    # The head beside them is merged.
    start, *heads = (base_tensors(seed)[HEAD] for seed in range(3))
    want = start + 0.5 * (heads[0] - start) + 2 * (heads[1] - start)
    np.testing.assert_array_equal(found[PREFIX + HEAD], want)


@pytest.mark.parametrize(
    ("steps", "dtype"),
    [
        ((counts(0), counts(9)), "I64"),
        ((counts(9), counts(9)), "I64"),
        ((counts(0), counts(0, np.int32)), "I32"),
        ((counts(0), counts(0, np.float32)), "I64"),
    ],
)
def test_not_merged_where_they_differ(
    steps: tuple[Any, Any], dtype: str, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [str(trained(tmp_path / str(i), i, one)) for i, one in enumerate(steps)]
    words = [*folders, "-o", str(tmp_path / "out"), "--modules-to-save", "merge", "--base", str(base)]
    assert main(["adapters", "merge", *words]) == 2
    error = capsys.readouterr().err
    assert f"{STEPS} is not the same as in {base}, and {dtype} is not merged" in error
    assert f"--modules-to-save {folders[0]} or {folders[1]}" in error
    assert not (tmp_path / "out").exists()


def test_no_weight_but_one(base: Path, tmp_path: Path) -> None:
    folder = trained(tmp_path / "one", 0, counts(9))
    with pytest.raises(PlanError) as caught:
        apply(base, f"{folder}:0.5", tmp_path / "out")
    assert f"{PREFIX}{STEPS}' is I64 and not the same as in {base}: the weight 0.5" in str(caught.value)
    assert "give the adapter the weight 1" in str(caught.value)
    apply(base, folder, tmp_path / "out", dtype="bfloat16")
    found = read_model(tmp_path / "out")[STEPS]
    assert found.tobytes() == counts(9).tobytes()
    # Equal ones are the base's, whatever the weight; those of another width are none.
    apply(base, f"{trained(tmp_path / 'equal', 0, counts(0))}:0.5", tmp_path / "equal-out")
    other = trained(tmp_path / "other", 0, counts(0, np.int32))
    with pytest.raises(PlanError, match=rf"is I32, and '{STEPS}' in .* is I64; use the base"):
        apply(base, other, tmp_path / "other-out")


def test_extraction_of_other_integers(base: Path, tmp_path: Path) -> None:
    """Another width is another type, whatever the numbers."""
    tuned = base_tensors()
    tuned["model.layers.0.self_attn.q_proj.weight"] += 1
    for number, steps in enumerate((counts(9), counts(9, np.int32), counts(0, np.int32))):
        folder = write_base(tmp_path / f"tuned-{number}", tuned | {STEPS: steps})
        with pytest.raises(PlanError, match=rf"'{STEPS}' is I(64|32) and not as in .*floating-point"):
            extract(base, folder, tmp_path / "out", rank=2)
    same = write_base(tmp_path / "same", tuned | {STEPS: counts(0)})
    assert extract(base, same, tmp_path / "out", rank=2).modules
