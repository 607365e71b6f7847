"""Embeddings that PEFT stored untrained beside LoRA on them: in the type of the training, or of another base."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
import pytest

from adapters.handmade import HIDDEN, VOCABULARY, Handmade, adapter, base_tensors, dyadic, write_base
from carrick.adapters import apply
from carrick.errors import PlanError
from oracles.files import read_model

if TYPE_CHECKING:
    from pathlib import Path

    from adapters.handmade import Array

F, B = np.dtype(np.float32), np.dtype(ml_dtypes.bfloat16)
PATH = "model.embed_tokens"
NAME = f"{PATH}.weight"


def on_embeddings(seed: int, copy: Array | None) -> Handmade:
    """An adapter with factors of the embeddings, and a copy of these as they were."""
    made = adapter(seed)
    rng = np.random.default_rng(50 + seed)
    made.more[f"{PATH}.lora_embedding_A"] = dyadic(rng, (2, VOCABULARY))
    made.more[f"{PATH}.lora_embedding_B"] = dyadic(rng, (HIDDEN, 2))
    if copy is not None:
        made.more[f"{PATH}.base_layer.weight"] = copy
    return made


def update(made: Handmade) -> Array:
    a, b = (made.more[f"{PATH}.lora_embedding_{part}"].astype("f8") for part in "AB")
    found: Array = made.scale * (b @ a).T
    return found


def put_on(
    folder: Path, base: dict[str, Array], *adapters: tuple[Handmade, float]
) -> tuple[Array, list[str]]:
    """Embeddings of the result, and the notes."""
    write_base(folder / "base", base)
    refs = [f"{made.write(folder / str(i))}:{weight}" for i, (made, weight) in enumerate(adapters)]
    report = apply(folder / "base", refs, folder / "out")
    return read_model(folder / "out")[NAME], report.notes


@pytest.mark.parametrize("weights", [(1, 1), (0.5, -0.25)])
@pytest.mark.parametrize(("stored", "trained"), [(B, (F, F)), (F, (B, F)), (B, (B, F))])
def test_equal_numbers_of_another_type_are_the_base(
    stored: np.dtype, trained: tuple[np.dtype, ...], weights: tuple[float, ...], tmp_path: Path
) -> None:
    """What is trained in float32 on a bfloat16 base."""
    base = base_tensors(dtype=stored)
    made = [on_embeddings(seed, base[NAME].astype(dtype)) for seed, dtype in enumerate(trained)]
    found, notes = put_on(tmp_path, base, *zip(made, weights, strict=True))
    want = base[NAME].astype("f8") + sum(w * update(one) for one, w in zip(made, weights, strict=True))
    assert found.dtype == stored
    np.testing.assert_array_equal(found, want.astype(stored))
    assert not notes


@pytest.mark.parametrize("weights", [(1, 1), (0.5, -0.25)])
def test_equal_copies_of_another_base_take_its_place(weights: tuple[float, float], tmp_path: Path) -> None:
    """As where only the adapters' vocabulary was resized: whatever the weight, ΔW comes on top of them."""
    other = base_tensors(1)[NAME]
    made = [on_embeddings(0, other.astype(B)), on_embeddings(1, other)]
    plain = on_embeddings(2, None)
    adapters = [*zip(made, weights, strict=True), (plain, 1.0)]
    found, notes = put_on(tmp_path, base_tensors(), *adapters)
    want = other + sum(w * update(one) for one, w in adapters)
    np.testing.assert_array_equal(found, want)
    assert [note for note in notes if "before its training" in note] == [
        f"{tmp_path / '0'}: holds {NAME} as it was before its training, which is not what {tmp_path / 'base'} has: "
        "the adapter's is taken."
    ]


@pytest.mark.parametrize("own", [0, 1], ids=["after one of the base", "before one of the base"])
@pytest.mark.parametrize(
    ("dtype", "why"),
    [(F, "the two were trained on different bases"), (B, "one is")],
)
def test_copies_that_differ(own: int, dtype: np.dtype, why: str, tmp_path: Path) -> None:
    copies = [base_tensors(1, dtype)[NAME]]
    copies.insert(own, base_tensors()[NAME])
    with pytest.raises(PlanError) as caught:
        put_on(tmp_path, base_tensors(), *((on_embeddings(i, copy), 1.0) for i, copy in enumerate(copies)))
    message = str(caught.value)
    for word in (
        f"is not what {tmp_path / '0'} has of an untrained {NAME!r}: {why}",
        f"{PATH}.base_layer.weight",
        str(tmp_path / "1"),
        "leave one of the adapters out",
    ):
        assert word in message
    assert "vocabulary" not in message


def test_a_copy_after_what_was_added(tmp_path: Path) -> None:
    adapters = (on_embeddings(0, None), 1.0), (on_embeddings(1, base_tensors(1)[NAME]), 1.0)
    with pytest.raises(PlanError, match=f"adds to it, and .*name {tmp_path / '1'} before {tmp_path / '0'}"):
        put_on(tmp_path, base_tensors(), *adapters)
