"""Tied embeddings stay tied; a mix is a question to the user."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from carrick.errors import PlanError
from plan.tiny import Tensors, job_of, linear, llama, llama_config, plan_of, write

if TYPE_CHECKING:
    from pathlib import Path

HEAD, EMBED = "lm_head.weight", "model.embed_tokens.weight"
TIED = llama_config(tie_word_embeddings=True)
SILENT = {k: v for k, v in llama_config().items() if k != "tie_word_embeddings"}


def redundant(seed: int) -> Tensors:
    tensors = llama(seed=seed)
    return tensors | {HEAD: tensors[EMBED]}


def test_tied_models_stay_tied(tmp_path: Path) -> None:
    a, b = (write(tmp_path / n, llama(head=False, seed=i), TIED) for i, n in enumerate("AB"))
    plan = plan_of(linear(a, b))
    assert HEAD not in {j.name for j in plan.jobs}
    assert plan.meta["tie"] == "tied"
    assert plan.meta["config_edits"] == {}


def test_a_stored_copy_of_the_embeddings_is_left_out_and_said_so(tmp_path: Path) -> None:
    a, b = (write(tmp_path / n, redundant(i), TIED) for i, n in enumerate("AB"))
    plan = plan_of(linear(a, b))
    assert HEAD not in {j.name for j in plan.jobs}
    assert any(HEAD in note and "not written" in note for note in plan.notes)


def test_one_model_stores_the_copy_and_the_other_does_not(tmp_path: Path) -> None:
    a = write(tmp_path / "A", redundant(0), TIED)
    b = write(tmp_path / "B", llama(head=False, seed=1), TIED)
    assert HEAD not in {j.name for j in plan_of(linear(a, b)).jobs}


def test_a_tied_model_with_another_head_is_refused(tmp_path: Path) -> None:
    a, b = (write(tmp_path / n, llama(seed=i), TIED) for i, n in enumerate("AB"))
    with pytest.raises(PlanError, match=r"ties 'lm_head.weight' .* yet their values differ"):
        plan_of(linear(a, b))
    plan = plan_of(linear(a, b, more="tie: untie"))
    assert len(job_of(plan, HEAD).inputs) == 2
    assert plan.meta["config_json"]["tie_word_embeddings"] is False


def test_a_mix_is_refused_unless_decided(tmp_path: Path) -> None:
    tied = write(tmp_path / "A", llama(head=False), TIED)
    untied = write(tmp_path / "B", llama(seed=1), llama_config())
    for order in ((tied, untied), (untied, tied)):
        with pytest.raises(
            PlanError, match=rf"{tied} ties its head .* {untied} does not.*tie: untie.*tie: keep"
        ):
            plan_of(linear(*order))


def test_untie_reads_the_embeddings_in_place_of_the_head(tmp_path: Path) -> None:
    tied = write(tmp_path / "A", llama(head=False), TIED)
    untied = write(tmp_path / "B", llama(seed=1), llama_config())
    plan = plan_of(linear(tied, untied, more="tie: untie"))
    head, embed = job_of(plan, HEAD), job_of(plan, EMBED)
    assert head.inputs[0].source.offset == embed.inputs[0].source.offset
    assert head.inputs[1].source.offset != embed.inputs[1].source.offset
    assert plan.meta["config_edits"]["tie_word_embeddings"] == [True, False]
    assert plan.meta["tie"] == "untied"


@pytest.mark.parametrize("swap", [False, True])
def test_keep_leaves_the_head_out(swap: bool, tmp_path: Path) -> None:
    tied = write(tmp_path / "A", llama(head=False), TIED)
    untied = write(tmp_path / "B", llama(seed=1), llama_config())
    order = (untied, tied) if swap else (tied, untied)
    plan = plan_of(linear(*order, more="tie: keep"))
    assert HEAD not in {j.name for j in plan.jobs}
    assert plan.meta["config_json"]["tie_word_embeddings"] is True
    assert any(str(untied) in note and "left out" in note for note in plan.notes)


def test_untied_models_are_merged_on_their_own(tmp_path: Path) -> None:
    a, b = (write(tmp_path / n, llama(seed=i), llama_config()) for i, n in enumerate("AB"))
    plan = plan_of(linear(a, b))
    assert len(job_of(plan, HEAD).inputs) == 2
    assert (plan.meta["tie"], plan.meta["config_edits"]) == ("untied", {})


def test_a_silent_configuration_without_a_head_is_tied(tmp_path: Path) -> None:
    silent = write(tmp_path / "A", llama(head=False), SILENT)
    untied = write(tmp_path / "B", llama(seed=1), SILENT)
    with pytest.raises(PlanError, match="ties its head"):
        plan_of(linear(silent, untied))


def test_a_head_missing_from_an_untied_model_is_a_missing_tensor(tmp_path: Path) -> None:
    broken = write(tmp_path / "A", llama(head=False), llama_config())
    untied = write(tmp_path / "B", llama(seed=1), llama_config())
    with pytest.raises(PlanError, match=r"'lm_head.weight' is in .*B but not in .*A"):
        plan_of(linear(broken, untied))


def test_a_classifier_with_two_labels_is_no_tied_head(tmp_path: Path) -> None:
    tensors: Tensors = {
        "bert.embeddings.word_embeddings.weight": np.ones((8, 4), np.float32),
        "bert.embeddings.token_type_embeddings.weight": np.ones((2, 4), np.float32),
        "classifier.weight": np.zeros((2, 4), np.float32),
    }
    a, b = (write(tmp_path / n, tensors, {"model_type": "bert", "tie_word_embeddings": True}) for n in "AB")
    assert "classifier.weight" in {j.name for j in plan_of(linear(a, b)).jobs}
