"""`carrick similarity`: tables that fit, and JSON that holds everything."""

from __future__ import annotations

import math

import pytest

import carrick
from carrick.cli.output import WIDTH


@pytest.mark.parametrize("count", [2, 3, 5, 8, 9])
@pytest.mark.parametrize("by", [None, "layer", "module", "tensor"])
def test_tables_fit(command, family, count, by):
    base, tuned = family(count)
    answer = command(*tuned, "--base", base, *(["--by", by] if by else []))
    assert answer.code == 0, answer.err
    assert all(len(line) <= WIDTH for line in answer.out.splitlines())
    assert answer.out.startswith(f"{count} models against base: 192 entries each")
    assert ("layers.1" in answer.out) == (by in {"layer", "tensor"})
    assert ("q_proj" in answer.out) == (by in {"module", "tensor"})


def test_the_matrix_shows_what_was_measured(command, family):
    base, tuned = family(3)
    found = carrick.similarity(tuned, base)
    lines = command(*tuned, "--base", base).out.splitlines()
    row = next(line.split() for line in lines if line.startswith("2  tuned1"))
    assert row[2:] == [f"{found.whole.norms[1]:.4g}", *(f"{value:.4f}" for value in found.whole.cosine[1])]
    assert found.whole.sign_conflicts is not None
    last = [line.split() for line in lines if line.startswith("2  tuned1")][-1]
    assert last[3:] == [f"{value:.2%}" for value in found.whole.sign_conflicts[1]]


def test_many_models_are_abbreviated(command, family):
    base, tuned = family(9)
    found = carrick.similarity(tuned, base).whole
    out = command(*tuned, "--base", base).out
    pairs = sorted(found.cosine[i][j] for i in range(9) for j in range(i))
    shown = [line.split()[2] for line in out.splitlines() if line.count("tuned") == 2]
    assert shown == [f"{value:.4f}" for value in [*pairs[:-6:-1], *pairs[4::-1]]]
    assert "of 36 pairs; --json lists all" in out


def test_json_holds_everything(command, family):
    base, tuned = family(3)
    answer = command(*tuned, "--base", base, "--json")
    assert answer.code == 0
    assert answer.json == carrick.similarity(tuned, base).to_dict()
    found = answer.json
    assert list(found) == ["kind", "models", "base", "whole", "by_layer", "by_module", "by_tensor", "notes"]
    assert (found["kind"], found["models"], found["base"]) == (
        "checkpoints",
        ["tuned0", "tuned1", "tuned2"],
        "base",
    )
    assert [part["name"] for part in found["by_layer"]] == ["layers.0", "layers.1", "outside the layers"]
    assert {part["name"] for part in found["by_module"]} == {
        "embed_tokens",
        "norm",
        "q_proj",
        "o_proj",
        "up_proj",
    }
    assert len(found["by_tensor"]) == 8
    for part in (found["whole"], *found["by_layer"], *found["by_module"], *found["by_tensor"]):
        assert list(part) == ["name", "elements", "norms", "cosine", "sign_conflicts"]
        assert len(part["norms"]) == len(part["cosine"]) == len(part["sign_conflicts"]) == 3
        for i in range(3):
            assert part["cosine"][i][i] == 1
            assert part["sign_conflicts"][i][i] == 0
            for j in range(3):
                assert part["cosine"][i][j] == part["cosine"][j][i]
                assert part["sign_conflicts"][i][j] == part["sign_conflicts"][j][i]
    squares = math.fsum(part["norms"][0] ** 2 for part in found["by_module"])
    assert found["whole"]["norms"][0] == pytest.approx(math.sqrt(squares), rel=1e-14)


def test_models_of_one_name_are_told_apart(command, family, tmp_path):
    base, tuned = family(2)
    (tmp_path / "other").mkdir()
    twin = tmp_path / "other" / "tuned0"
    tuned[1].rename(twin)
    assert command(tuned[0], twin, "--base", base, "--json").json["models"] == [str(tuned[0]), str(twin)]


def test_notes_go_to_stderr(command, family):
    base, tuned = family(1)
    answer = command(tuned[0], base, "--base", base)
    assert answer.code == 0
    assert "note: base: its task vector is zero" in answer.err or "task vector is zero" in answer.err
    assert "task vector is zero" not in answer.out


def test_exported_with_the_package():
    assert callable(carrick.similarity)
    assert "similarity" in dir(carrick)
    assert carrick.Similarity.__name__ == "Similarity"


def test_reachable_beside_the_other_work_on_adapters():
    from carrick import adapters  # noqa: PLC0415

    assert adapters.similarity is carrick.similarity
