"""A filter that fits no module is a mistake, and told with the name that was meant."""

from __future__ import annotations

import json

import numpy as np
import pytest

from adapters.merging import DOWN, Q, V, lora
from carrick.cli import main
from oracles.files import write_model

HEAD = "lm_head"


@pytest.fixture
def pair(tmp_path):
    return [lora(seed).write(tmp_path / name) for seed, name in enumerate(("en", "de"))]


def merged(tmp_path, folders, capfd, *, own=None, shared=None, **content):
    """Exit code and errors of a merge with `own` parameters of the first adapter, and `shared` ones of all."""
    models = [{"model": str(folders[0]), "parameters": own or {}}, *({"model": str(f)} for f in folders[1:])]
    path = tmp_path / "merge.yml"
    path.write_text(
        json.dumps({"merge_method": "cat", "models": models, "parameters": shared or {}, **content}, indent=1)
    )
    codes = set()
    for command in (["plan", str(path)], ["merge", str(path), str(tmp_path / "out"), "--force"]):
        capfd.readouterr()
        codes.add(main(command))
        err = capfd.readouterr().err
    assert len(codes) == 1
    return codes.pop(), err


def filtered(part, value=0.5, otherwise=1.0):
    return [{"filter": part, "value": value}, {"value": otherwise}]


@pytest.mark.parametrize(
    ("part", "hint"),
    [
        ("q_porj", "did you mean `q_proj`?"),
        ("self_atn", "did you mean `self_attn`?"),
        ("self_attn.q_prj", "did you mean `self_attn.q_proj`?"),
        ("mlp.up_proj", "did you mean `mlp.down_proj`?"),
        ("experts", "they are down_proj, q_proj, v_proj"),
        ("Q_PROJ", "did you mean `q_proj`?"),
    ],
)
def test_the_nearest_name_is_told(part, hint, pair, tmp_path, capfd):
    code, err = merged(tmp_path, pair, capfd, own={"weight": filtered(part)})
    assert code == 2
    assert "merge.yml:9: " in err
    assert f"the `filter` '{part}' of `weight` is in the name of none of the adapters' modules; {hint}" in err
    assert not (tmp_path / "out").exists()


def test_values_for_all_adapters(pair, tmp_path, capfd):
    method = {"merge_method": "ties", "rank": 2}
    code, err = merged(tmp_path, pair, capfd, shared={"density": filtered("q_porj")}, **method)
    assert (code, "`density`" in err) == (2, True)
    assert merged(tmp_path, pair, capfd, shared={"density": filtered("q_proj")}, **method)[0] == 0


def test_what_any_adapter_changes_counts(tmp_path, capfd):
    """One list of filters may serve for adapters of different modules."""
    shapes = {Q.format(0): (21, 17), V.format(0): (9, 17), DOWN.format(1): (17, 30)}
    folders = [
        lora(0, {path: shapes[path] for path in (Q.format(0), V.format(0))}).write(tmp_path / "en"),
        lora(1, {DOWN.format(1): shapes[DOWN.format(1)]}).write(tmp_path / "de"),
    ]
    for part in ("q_proj", "down_proj", "layers.1.", "*", "model"):
        assert merged(tmp_path, folders, capfd, own={"weight": filtered(part)})[0] == 0, part


def test_modules_that_are_saved_whole_count(tmp_path, capfd):
    adapters = [lora(seed) for seed in range(2)]
    for one in adapters:
        one.settings["modules_to_save"] = [HEAD]
        one.more[f"{HEAD}.weight"] = np.ones((5, 17), np.float32)
    folders = [one.write(tmp_path / str(number)) for number, one in enumerate(adapters)]
    base = write_model(tmp_path / "base", {f"{HEAD}.weight": np.zeros((5, 17), np.float32)})
    content = {"modules_to_save": "merge", "base_model": str(base)}
    assert merged(tmp_path, folders, capfd, own={"weight": filtered(HEAD)}, **content)[0] == 0
    assert merged(tmp_path, folders, capfd, own={"weight": filtered("lm_haed")}, **content)[0] == 2
