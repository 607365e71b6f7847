"""`carrick adapters inspect`: what it prints, for people and as JSON."""

from __future__ import annotations

import json

import pytest

from adapters.zoo import CASES
from carrick import adapters
from carrick.adapters.adapter import read_adapter
from carrick.cli import main
from carrick.cli.output import WIDTH


@pytest.fixture
def carrick(capfd):
    def run(*words):
        capfd.readouterr()
        code = main([str(word) for word in words])
        return code, *capfd.readouterr()

    return run


@pytest.mark.parametrize("name", CASES)
def test_the_table_fits_and_names_every_type_of_module(name, carrick, made):
    folder = made(name).folder
    code, out, _ = carrick("adapters", "inspect", folder)
    assert code == 0
    lines = [line for line in out.splitlines() if not line.startswith("adapter ")]
    assert all(len(line) <= WIDTH for line in lines)
    assert {path.rpartition(".")[2] for path in read_adapter(folder).modules} <= set(out.split())


def test_json_adds_up(carrick, made):
    for name in CASES:
        adapter = read_adapter(made(name).folder)
        code, out, _ = carrick("adapters", "inspect", made(name).folder, "--json")
        found = json.loads(out)
        assert code == 0
        assert found["modules"] == len(adapter.modules) == sum(g["modules"] for g in found["groups"])
        parts = [*found["groups"], *found["extras"]]
        if name != "bias_all":  # which holds copies that are not read
            assert sum(part["parameters"] for part in parts) == found["parameters"]
            assert sum(part["nbytes"] for part in parts) == found["nbytes"] == 8 * found["parameters"]


def test_ranks_scales_and_patterns(carrick, made):
    found = json.loads(carrick("adapters", "inspect", made("patterns").folder, "--json")[1])
    q_proj = [(g["rank"], g["alpha"], g["scale"]) for g in found["groups"] if g["type"] == "q_proj"]
    assert sorted(q_proj) == [(3, 8, 8 / 3), (5, 7, 7 / 5)]
    out = carrick("adapters", "inspect", made("patterns").folder)[1]
    assert r"^model\.layers\.0\.self_attn\.q_proj" in out
    assert "rank        4, α 8, scale 2\n" in out


def test_what_stands_beside_the_modules(carrick, made):
    out = carrick("adapters", "inspect", made("tokens").folder)[1]
    assert "trained tokens" in out
    assert "model.embed_tokens" in out
    out = carrick("adapters", "inspect", made("saved").folder)[1]
    assert "modules_to_save" in out
    assert "of the base" in carrick("adapters", "inspect", made("embedding").folder)[1]
    _, out, err = carrick("adapters", "inspect", made("bias_all").folder)
    assert "biases      all\n" in out
    assert err.startswith("note: ")
    assert ".original_module." in err
    assert "variant     DoRA\n" in carrick("adapters", "inspect", made("dora").folder)[1]


def test_one_of_several(carrick, made, tmp_path):
    (tmp_path / "german").symlink_to(made("linear").folder)
    code, _, err = carrick("adapters", "inspect", tmp_path)
    assert code == 2
    assert err.startswith("error: ")
    assert "(german)" in err
    assert carrick("adapters", "inspect", tmp_path, "--name", "german")[0] == 0


def test_a_hub_id_in_the_cache(carrick, made, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789abcdef0123456789abcdef01234567"
    cached = tmp_path / "models--org--adapter"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(commit)
    (cached / "snapshots").mkdir()
    (cached / "snapshots" / commit).symlink_to(made("linear").folder)
    assert adapters.read("org/adapter").revision == commit
    assert f"revision    {commit}\n" in carrick("adapters", "inspect", "org/adapter")[1]
    code, _, err = carrick("adapters", "inspect", "org/other")
    assert code == 2
    assert "nor in the Hugging Face cache" in err


def test_the_names_of_the_package():
    assert set(adapters.__all__) <= set(dir(adapters))
    assert adapters.read is read_adapter
    with pytest.raises(AttributeError, match="no attribute 'raed'"):
        _ = adapters.raed
