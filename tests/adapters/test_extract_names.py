"""Extractions from a base that was saved without its head, or of a tuned model that was: names differ by a prefix."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from adapters.resized import gpt2_tied
from adapters.test_extract import loaded, logits, models
from adapters.zoo import bert, gpt2, llama, llama_tied, transformers
from carrick.adapters import apply, extract, read
from carrick.errors import PlanError
from oracles.files import read_model, write_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

MAKES = {
    llama: "model.",
    llama_tied: "model.",
    gpt2: "transformer.",
    gpt2_tied: "transformer.",
    bert: "bert.",
}
# What `gpt2` on the Hub has beside its weights.
MASKS = {f"h.{layer}.attn.bias": np.tril(np.ones((1, 1, 16, 16), np.float32)) for layer in range(2)}


def without_head(folder: Path, prefix: str, **more: NDArray[Any]) -> Path:
    """The same model as it would be saved by the class that has no head; its config.json still names the head's."""
    held = {
        name.removeprefix(prefix): tensor
        for name, tensor in read_model(folder).items()
        if name.startswith(prefix)
    }
    config = json.loads((folder / "config.json").read_text())
    return write_model(folder.with_name(f"{folder.name}-bare"), held | more, config=config)


def reloaded(folder: Path, like: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return type(like).from_pretrained(folder).eval()


@pytest.mark.parametrize("make", MAKES)
def test_a_base_without_its_head(make: Callable[[], Any], tmp_path: Path) -> None:
    """The adapter has the names that PEFT sees in the class of the tuned model, whose head is in it if untied."""
    _, tuned = models(make, tmp_path)
    masks = MASKS if MAKES[make] == "transformer." else {}
    base = without_head(tmp_path / "base", MAKES[make], **masks)
    report = extract(base, tmp_path / "tuned", tmp_path / "out", rank=99)
    assert max(module["error"] for module in report.modules) < 1e-6
    model = loaded(reloaded(base, tuned), tmp_path / "out")
    np.testing.assert_allclose(logits(model), logits(tuned), atol=2e-6)
    apply(base, tmp_path / "out", tmp_path / "applied")
    np.testing.assert_allclose(logits(reloaded(tmp_path / "applied", tuned)), logits(tuned), atol=2e-6)


def test_a_head_that_is_equal_is_stored_for_a_base_without_one(tmp_path: Path) -> None:
    _, tuned = models(llama, tmp_path, "q_proj")
    report = extract(without_head(tmp_path / "base", "model."), tmp_path / "tuned", tmp_path / "out", rank=99)
    assert report.config["modules_to_save"] == ["lm_head"]
    assert read(tmp_path / "out").saved.keys() == {"lm_head.weight"}
    model = loaded(reloaded(tmp_path / "base-bare", tuned), tmp_path / "out")
    np.testing.assert_allclose(logits(model), logits(tuned), atol=2e-6)


@pytest.mark.parametrize("make", [llama_tied, gpt2_tied])
def test_a_tuned_model_without_its_head(make: Callable[[], Any], tmp_path: Path) -> None:
    base, tuned = models(make, tmp_path)
    masks = MASKS if make is gpt2_tied else {}
    bare = without_head(tmp_path / "tuned", MAKES[make], **masks)
    extract(tmp_path / "base", bare, tmp_path / "out", rank=99)
    np.testing.assert_allclose(logits(loaded(base, tmp_path / "out")), logits(tuned), atol=2e-6)


def test_saved_by_the_class_without_a_head(tmp_path: Path) -> None:
    """config.json names that class too."""
    _, tuned = models(gpt2_tied, tmp_path)
    transformers.GPT2Model.from_pretrained(tmp_path / "base").save_pretrained(tmp_path / "bare")
    extract(tmp_path / "bare", tmp_path / "tuned", tmp_path / "out", rank=99)
    model = loaded(reloaded(tmp_path / "bare", tuned), tmp_path / "out")
    np.testing.assert_allclose(logits(model), logits(tuned), atol=2e-6)


def test_what_still_does_not_fit_is_refused(tmp_path: Path) -> None:
    models(llama, tmp_path)
    base = without_head(tmp_path / "base", "model.", **{"layers.0.new.weight": np.ones((16, 16), np.float32)})
    with pytest.raises(PlanError, match=r"has no tensor 'layers\.0\.new\.weight', which .*base-bare has"):
        extract(base, tmp_path / "tuned", tmp_path / "out", rank=2)
