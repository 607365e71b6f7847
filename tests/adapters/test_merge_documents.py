"""Several documents in one file: adapters that are merged further, as two merges one after the other make them."""

from __future__ import annotations

import importlib
import json
import shutil

import numpy as np
import pytest

import carrick
from adapters.merging import FILE, SHAPES, lora
from carrick import _core
from carrick.adapters import merge
from carrick.cli import main
from carrick.intermediates import Intermediates
from oracles.files import read_file, write_model

RANKS = (2, 3, 4)


@pytest.fixture
def three(tmp_path):
    names = ("en", "de", "fr")
    return [
        str(lora(i, rank=r).write(tmp_path / n)) for i, (n, r) in enumerate(zip(names, RANKS, strict=True))
    ]


def documents(three, **first):
    inner = {"merge_method": "cat", "models": [{"model": three[0]}, {"model": three[1]}], **first}
    outer = {
        "merge_method": "cat",
        "models": [{"model": "west", "parameters": {"weight": 0.5}}, {"model": three[2]}],
    }
    # What is needed first may stand last.
    return [outer, {"name": "west", **inner}]


def written(tmp_path, contents, name="two.yml"):
    path = tmp_path / name
    path.write_text("\n---\n".join(json.dumps(content) for content in contents))
    return path


KNOTS = {"merge_method": "knots_ties", "parameters": {"density": 0.5}}


@pytest.mark.parametrize("first", [{}, KNOTS, {"rank": 2}], ids=str)
def test_as_two_merges(first, three, tmp_path):
    report = carrick.merge(written(tmp_path, documents(three, **first)), tmp_path / "out")
    density = {"density": 0.5} if first is KNOTS else {}
    rank = {"rank": 2} if "rank" in first else {}
    one = merge(three[:2], tmp_path / "west", method=first.get("merge_method", "cat"), **density, **rank)
    two = merge([tmp_path / "west", three[2]], tmp_path / "expected", weights=[0.5, 1])
    for name in (FILE, "adapter_config.json", "carrick.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "expected" / name).read_bytes(), name
    assert report.bytes_written == one.bytes_written + two.bytes_written
    assert report.tensors == two.tensors
    # Nothing of the first stands beside the output.
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "de",
        "en",
        "expected",
        "fr",
        "out",
        "two.yml",
        "west",
    ]


def test_every_document_is_planned(three, tmp_path, capfd):
    """The second one against an adapter that is not there yet: its ranks are the most that the first may have."""
    config = written(tmp_path, documents(three, **KNOTS))
    west, out = json.loads(capture(capfd, "plan", config, "--json"))
    assert (west["document"], out["document"]) == ("west", None)
    assert [adapter["ref"] for adapter in out["adapters"]] == ["west", three[2]]
    for one, other in zip(west["modules"], out["modules"], strict=True):
        assert one["rank"] == min(5, SHAPES[one["path"]][0])
        assert other["ranks"] == [one["rank"], 4]
        assert other["rank"] == one["rank"] + 4
    assert carrick.plan(config).document is None
    said = capture(capfd, "merge", config, tmp_path / "out", "--dry-run")
    assert "document     west" in said
    assert not (tmp_path / "out").exists()
    carrick.merge(config, tmp_path / "out")
    assert sum(t.nbytes for t in read_file(tmp_path / "out" / FILE).values()) == out["bytes_written"]


def capture(capfd, *words):
    capfd.readouterr()
    code = main([str(word) for word in words])
    said, err = capfd.readouterr()
    assert code == 0, err
    return said


def test_intermediates_may_be_kept(three, tmp_path):
    config = written(tmp_path, documents(three))
    carrick.merge(config, tmp_path / "out", keep_intermediates=True)
    merge(three[:2], tmp_path / "expected")
    assert (tmp_path / "west" / FILE).read_bytes() == (tmp_path / "expected" / FILE).read_bytes()
    with pytest.raises(carrick.PlanError, match="west exists already"):
        carrick.merge(config, tmp_path / "other", keep_intermediates=True)
    assert not (tmp_path / "other").exists()
    carrick.merge(config, tmp_path / "other", keep_intermediates=True, force=True)
    with pytest.raises(carrick.ConfigError, match=r"`west` would be kept at .*west, where the output goes"):
        carrick.merge(config, tmp_path / "west", keep_intermediates=True, force=True)


def test_a_second_run_takes_nothing_from_a_live_one(three, tmp_path):
    config = written(tmp_path, documents(three))
    with Intermediates(tmp_path / "out", ["west"]) as live:
        (live.path / "west").mkdir()
        with pytest.raises(carrick.CarrickError, match="another run is writing there"):
            carrick.merge(config, tmp_path / "out")
        assert (live.path / "west").is_dir()
    assert not (tmp_path / "out").exists()
    carrick.merge(config, tmp_path / "out")


def test_no_input_lies_where_intermediates_are_deleted(three, tmp_path):
    mine = tmp_path / "out.carrick-intermediates" / "mine"
    shutil.copytree(three[0], mine)
    config = {"merge_method": "cat", "models": [{"model": str(mine)}, {"model": three[1]}]}
    for contents in ([config], documents([str(mine), *three[1:]])):
        with pytest.raises(carrick.CarrickError, match=f"the input {mine} lies in"):
            carrick.merge(written(tmp_path, contents), tmp_path / "out")
        assert (mine / FILE).is_file()


def test_an_intermediate_is_not_kept_where_an_input_lies(three, tmp_path):
    """With --force, too: nobody has asked to replace the input."""
    before = {path: path.read_bytes() for path in (tmp_path / "en").iterdir()}
    inner = {"name": "en", "merge_method": "cat", "models": [{"model": three[1]}, {"model": three[2]}]}
    outer = {"merge_method": "cat", "models": [{"model": "en"}, {"model": three[0]}]}
    config = written(tmp_path, [inner, outer])
    with pytest.raises(carrick.ConfigError, match=r"`en` would be kept at .*en, where an input lies"):
        carrick.merge(config, tmp_path / "out", keep_intermediates=True, force=True)
    assert {path: path.read_bytes() for path in (tmp_path / "en").iterdir()} == before
    assert not (tmp_path / "out").exists()
    carrick.merge(config, tmp_path / "out")
    merge([three[1], three[2], three[0]], tmp_path / "expected")
    assert (tmp_path / "out" / FILE).read_bytes() == (tmp_path / "expected" / FILE).read_bytes()


def test_an_intermediate_is_not_kept_over_a_base_that_is_a_file(three, tmp_path):
    base = write_model(tmp_path / "llama", {"lm_head.weight": np.ones((5, 17), np.float32)})
    outer, inner = documents(three)
    outer["models"][0]["model"] = inner["name"] = "llama"
    outer["base_model"] = str(base / "model.safetensors")
    with pytest.raises(carrick.ConfigError, match=r"`llama` would be kept at .*llama, where an input lies"):
        carrick.merge([inner, outer], tmp_path / "out", keep_intermediates=True, force=True)
    assert (base / "model.safetensors").is_file()
    assert not (tmp_path / "out").exists()


def test_a_link_where_an_intermediate_is_kept_is_replaced_and_not_followed(three, tmp_path):
    elsewhere = lora(7).write(tmp_path / "elsewhere")
    before = {path: path.read_bytes() for path in elsewhere.iterdir()}
    (tmp_path / "west").symlink_to(elsewhere)
    carrick.merge(written(tmp_path, documents(three)), tmp_path / "out", keep_intermediates=True, force=True)
    merge(three[:2], tmp_path / "expected")
    assert not (tmp_path / "west").is_symlink()
    assert (tmp_path / "west" / FILE).read_bytes() == (tmp_path / "expected" / FILE).read_bytes()
    assert {path: path.read_bytes() for path in elsewhere.iterdir()} == before


def test_what_an_earlier_document_reads_is_no_output(three, tmp_path):
    """Nor a folder that holds it, even where the last document reads nothing of it."""
    save = tmp_path / "save"
    inner, before = lora(9).write(save / "inner"), lora(8).write(save)
    kept = {path: path.read_bytes() for path in save.rglob("*") if path.is_file()}
    assert inner.parent == before
    config = documents([str(inner), *three[1:]])
    with pytest.raises(
        carrick.PlanError, match=r"save: the input .*inner.* lies in it and would be replaced"
    ):
        carrick.merge(config, save, force=True)
    with pytest.raises(
        carrick.PlanError, match=r"save: the input .*inner.* lies in it and would be replaced"
    ):
        carrick.plan(config, save)
    assert {path: path.read_bytes() for path in save.rglob("*") if path.is_file()} == kept


def test_a_dry_run_refuses_what_the_run_refuses(three, tmp_path, monkeypatch):
    config = written(tmp_path, documents(three))
    (tmp_path / "west").mkdir()
    (tmp_path / "west" / "thesis.tex").write_text("years")

    def refused(words, **options):
        for dry_run in (True, False):
            with pytest.raises(carrick.PlanError, match=words):
                carrick.merge(config, tmp_path / "out", dry_run=dry_run, **options)
            assert not (tmp_path / "out").exists()

    refused("west exists already", keep_intermediates=True)
    refused("west holds no model", keep_intermediates=True, force=True)
    monkeypatch.setattr(importlib.import_module("carrick.plan.output"), "free_bytes", lambda _: 1000)
    refused("0.00 GB are free")


def test_the_limit_of_a_container_is_noted(three, tmp_path, monkeypatch):
    module = importlib.import_module("carrick.merge")  # of the package's names it is the function's
    monkeypatch.setattr(module, "container_limit", lambda: 300 << 20)
    monkeypatch.setattr(module, "memory_in_use", lambda: 0)
    for dry_run in (True, False):
        report = carrick.merge(documents(three), tmp_path / "out", dry_run=dry_run)
        assert any("container" in note for note in report.notes), report.notes


def test_a_mistake_in_the_last_document_costs_nothing(three, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(_core, "execute", None)  # nothing is merged
    before = sorted([*tmp_path.iterdir(), tmp_path / "two.yml"])

    def refused(contents, *says):
        config = written(tmp_path, contents)
        for command in (["merge", config, tmp_path / "out"], ["plan", config]):
            capfd.readouterr()
            assert main([str(word) for word in command]) == 2
            err = capfd.readouterr().err
            for text in says:
                assert text in err, err
            assert sorted(tmp_path.iterdir()) == before

    outer, inner = documents(three)
    refused([{**outer, "merge_method": "ties", "parameters": {"density": 0.5}}, inner], "not of low rank")
    weight = {"weight": [{"filter": "q_porj", "value": 1}, {"value": 2}]}
    refused([{**outer, "models": [{"model": "west", "parameters": weight}]}, inner], "did you mean `q_proj`?")
    refused([{**outer, "name": "east"}, inner], "leave it out of the one whose result is the output")
    refused(
        [{**outer, "models": [{"model": "wst"}, {"model": three[2]}]}, inner],
        "`wst`: no such folder",
        "did you mean `west`?",
    )
    swapped = {"merge_method": "layer_swap", "models": [{"model": "west"}, {"model": three[2]}]}
    refused([swapped, inner], "nothing is left for the task expert")


def test_adapters_and_models_do_not_mix(three, tmp_path):
    outer = {"merge_method": "linear", "models": [{"model": three[0]}, {"model": f"base+{three[1]}"}]}
    with pytest.raises(
        carrick.ConfigError, match=r"is an adapter and `base\+.*` is none; merge adapters alone"
    ):
        carrick.merge(outer, tmp_path / "out")
    outer["models"][1]["model"] = f"{three[1]}:0.5"
    with pytest.raises(
        carrick.ConfigError, match="the weight of an adapter is written under its `parameters`"
    ):
        carrick.merge(outer, tmp_path / "out")
    for other in ("1", "1.0", "0.5"):  # the weights of all of them
        outer["models"] = [{"model": f"{three[0]}:0.5"}, {"model": f"{three[1]}:{other}"}]
        with pytest.raises(
            carrick.ConfigError, match=r"en:0\.5`: the weight of an adapter is written under its `parameters`"
        ):
            carrick.merge(outer, tmp_path / "out")
    outer["models"] = [{"model": three[0]}, {"model": {"model": "base", "lora": three[1]}}]
    with pytest.raises(carrick.ConfigError, match="this one is none"):
        carrick.merge(outer, tmp_path / "out")
    outer["models"][1]["model"] = f"{three[1]}s"
    with pytest.raises(carrick.ConfigError, match=r"des`: no such folder, and not in the Hugging Face cache"):
        carrick.merge(outer, tmp_path / "out")


def test_a_folder_of_several_adapters_and_one_without_its_configuration(tmp_path):
    """They are adapters in a document as they are on the command line, and what they lack is said."""
    for name in ("en", "de"):
        lora(0).write(tmp_path / "several" / name)
    alone = lora(1).write(tmp_path / "alone")
    bare = lora(1).write(tmp_path / "bare")
    (bare / "adapter_config.json").unlink()
    for other, words in (
        (tmp_path / "several", "several adapters .de, en.; name one"),
        (bare, "has no adapter_config"),
    ):
        for models in ([alone, other], [other]):
            config = {"merge_method": "cat", "models": [{"model": str(model)} for model in models]}
            with pytest.raises(carrick.FormatError, match=words):
                carrick.merge(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()
