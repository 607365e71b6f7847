"""A filter that is in no tensor's name: a note with the nearest one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from carrick.cli import main
from carrick.config import loads
from carrick.plan import Plan, build_plan
from plan.tiny import llama, llama_config, plan_of, trio, write

if TYPE_CHECKING:
    from pathlib import Path

TOLD = "is in the name of no tensor of the merge"
FORCE = {"plan": [], "merge": ["--force"]}


def weighted(root: Path, part: str, *, level: str = "model") -> str:
    """A merge with the filter on line 6 of a model's own parameters, or on the last line but one of all models'."""
    a, b, _ = trio(root)
    lines = ["  weight:", f"  - {{filter: '{part}', value: 0.25}}", "  - {value: 1.0}"]
    own = ["  parameters:", *(f"  {line}" for line in lines)] if level == "model" else []
    shared = ["parameters:", *lines] if level == "document" else ["parameters: {weight: 1}"]
    return "\n".join(["merge_method: linear", "models:", f"- model: {a}", *own, f"- model: {b}", *shared])


@pytest.mark.parametrize("level", ["model", "document"])
@pytest.mark.parametrize(
    ("part", "near"),
    [
        ("mpl", "mlp"),
        ("self_atn", "self_attn"),
        ("MLP", "mlp"),
        ("mlp.up_prj", "mlp.up_proj"),
        ("embed_token.", "embed_tokens"),
        ("lm_haed", "lm_head"),
        ("layers.40.", "layers.0"),
        ("wieght", "weight"),
    ],
)
def test_a_misspelt_filter_is_told_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], part: str, near: str, level: str
) -> None:
    (tmp_path / "c.yml").write_text(text := weighted(tmp_path, part, level=level))
    line = next(n for n, content in enumerate(text.split("\n"), 1) if "filter:" in content)
    for words in (["plan"], ["merge", str(tmp_path / "out")], ["merge", str(tmp_path / "out"), "--dry-run"]):
        assert main([words[0], str(tmp_path / "c.yml"), *words[1:], *FORCE[words[0]]]) == 0
        said = " ".join("".join(capsys.readouterr()).split())
        told = f"c.yml:{line}: the `filter` {part!r} of `weight` {TOLD} and changes nothing; did you mean `{near}`?"
        assert told in said


@pytest.mark.parametrize("part", ["self_attn", "q_proj"])
def test_what_other_architectures_call_it_is_no_error(tmp_path: Path, part: str) -> None:
    """mergekit's own example, on a GPT-2: a name that resembles another may still be no misspelling of it."""
    names = ["transformer.h.0.attn.c_attn.weight", "transformer.h.0.attn.c_proj.weight"]
    a, b = (write(tmp_path / name, dict.fromkeys(names, np.ones((2, 2), np.float32)), {}) for name in "AB")
    weight = f"parameters: {{weight: [{{filter: {part}, value: 1}}, {{value: 2}}]}}"
    text = f"merge_method: linear\nmodels: [{{model: {a}}}, {{model: {b}}}]\n{weight}"
    assert len(filter_notes(plan_of(text))) == 1


@pytest.mark.parametrize("part", ["mlp", "layers.3.", "embed_tokens", "lm_head", "weight", "*", "model.norm"])
def test_a_filter_that_is_in_a_name_is_none(tmp_path: Path, part: str) -> None:
    assert not filter_notes(plan_of(weighted(tmp_path, part)))


def filter_notes(plan: Plan) -> list[str]:
    return [note for note in plan.notes if TOLD in note]


def test_what_resembles_no_name_is_a_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What mergekit's users copy from model to model: `block_sparse_moe` is Mixtral's."""
    (tmp_path / "c.yml").write_text(weighted(tmp_path, "block_sparse_moe"))
    told = f"c.yml:6: the `filter` 'block_sparse_moe' of `weight` {TOLD} and changes nothing; their parts are down_proj"
    for words in (["plan", "--json"], ["merge", str(tmp_path / "out")]):
        assert main([words[0], str(tmp_path / "c.yml"), *words[1:]]) == 0
        assert told in capsys.readouterr().err


def test_heads_that_are_tied_have_a_name(tmp_path: Path) -> None:
    """Stored but not written: `lm_head` is no misspelling there."""
    config = llama_config(tie_word_embeddings=True)
    tied = llama()
    tied["lm_head.weight"] = tied["model.embed_tokens.weight"]
    a, b = (write(tmp_path / name, tied, config) for name in "AB")
    models = f"models: [{{model: {a}}}, {{model: {b}}}]"
    text = f"merge_method: linear\n{models}\nparameters: {{weight: [{{filter: PART, value: 1}}, {{value: 2}}]}}\n"
    assert not filter_notes(plan_of(text.replace("PART", "lm_head")))
    (told,) = filter_notes(plan_of(text.replace("PART", "lm_haed")))
    assert "did you mean `lm_head`" in told


def test_a_filter_may_belong_to_any_slice(tmp_path: Path) -> None:
    """Embeddings belong to the first slice, the head to the last; names count as in the inputs and the output."""
    a, b, _ = trio(tmp_path)

    def stacked(part: str, *, level: str = "document") -> str:
        scale = f"parameters: {{scale: [{{filter: {part}, value: 0.5}}, {{value: 1}}]}}"
        own = f", {scale}" if level == "source" else ""
        text = "merge_method: passthrough\nslices:\n"
        for model, layers in ((a, [0, 2]), (b, [1, 4])):
            text += f"- sources: [{{model: {model}, layer_range: {layers}{own}}}]\n"
        return text + (scale if level == "document" else "")

    for level in ("document", "source"):
        for part in ("embed_tokens", "lm_head", "layers.4.", "layers.0.", "down_proj"):
            assert not filter_notes(plan_of(stacked(part, level=level)))
        found = filter_notes(plan_of(stacked("layers.5.", level=level)))
        assert found
        assert all("'layers.5.' of `scale`" in note for note in found)


def test_tensors_of_a_single_name(tmp_path: Path) -> None:
    flat = {"first": np.ones(4, np.float32), "second": np.ones(4, np.float32)}
    a, b = (write(tmp_path / name, flat, {}) for name in "AB")
    text = f"merge_method: linear\nmodels: [{{model: {a}}}, {{model: {b}}}]\n"
    weight = "parameters: {weight: [{filter: PART, value: 1}, {value: 2}]}"
    plan_of(text + weight.replace("PART", "first"))
    (told,) = filter_notes(plan_of(text + weight.replace("PART", "frist")))
    assert "did you mean `first`" in told
    (told,) = filter_notes(plan_of(text + weight.replace("PART", "mlp")))
    assert re.search("their parts are first, second", told)


def test_each_document_is_checked_by_itself(tmp_path: Path) -> None:
    text = weighted(tmp_path, "mpl")
    documents = loads(f"{text}\nname: inner\n---\n{weighted(tmp_path, 'mlp')}\n")
    found = [len(filter_notes(build_plan(document))) for document in documents]
    assert found == [1, 0]
