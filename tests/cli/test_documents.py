"""Configurations of several documents: intermediates, their folder, keeping and reusing them."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

import carrick as package
from carrick import _core
from carrick.intermediates import Intermediates
from carrick.partial import PartialFolder

TWO = """
name: sum
merge_method: linear
models:
  - {{model: {math}, parameters: {{weight: 0.5}}}}
  - {{model: {code}, parameters: {{weight: 0.5}}}}
---
merge_method: linear
models:
  - {{model: sum, parameters: {{weight: {weight}}}}}
  - {{model: {base}, parameters: {{weight: 0.5}}}}
{extra}
"""


def two(models, weight="0.5", extra=""):
    text = TWO.format(
        math=models["math"], code=models["code"], base=models["base"], weight=weight, extra=extra
    )
    return models.text(text)


def check(out, models):
    tensors = load_file(out / "model.safetensors")
    for name, found in tensors.items():
        base, math, code = (models.tensors[m][name].astype(float) for m in ("base", "math", "code"))
        inner = (0.5 * math + 0.5 * code).astype(ml_dtypes.bfloat16).astype(float)
        wanted = (0.5 * inner + 0.5 * base).astype(ml_dtypes.bfloat16)
        np.testing.assert_array_equal(found.view(np.uint16), wanted.view(np.uint16), err_msg=name)


def test_intermediates_are_merged_and_deleted(carrick, models, out):
    answer = carrick("merge", two(models), out)
    assert answer.code == 0, answer.err
    check(out, models)
    assert [p.name for p in out.parent.iterdir()] == ["merged"]


def test_intermediates_stay_beside_the_output_when_asked(carrick, models, out):
    answer = carrick("merge", two(models), out, "--keep-intermediates")
    assert answer.code == 0, answer.err
    assert sorted(p.name for p in out.parent.iterdir()) == ["merged", "sum"]
    assert carrick("inspect", out.parent / "sum").code == 0
    record = json.loads((out / "carrick.json").read_text())
    assert [entry["name"] for entry in record["inputs"]] == ["sum", "base"]


def test_intermediates_are_not_kept_over_something_else(carrick, models, out):
    (out.parent / "sum").mkdir(parents=True)
    (out.parent / "sum" / "thesis.tex").write_text("years")
    answer = carrick("merge", two(models), out, "--keep-intermediates", "--force")
    assert answer.code == 2
    assert [p.name for p in out.parent.iterdir()] == ["sum"]
    assert (out.parent / "sum" / "thesis.tex").read_text() == "years"


@pytest.mark.parametrize("keep", [False, True])
def test_an_interrupt_when_the_output_is_finished(carrick, models, out, monkeypatch, keep):
    """Nothing needs the intermediates any more, but for the place where they are to be kept."""
    config, options = two(models), ["--keep-intermediates"] if keep else []
    with monkeypatch.context() as patch:
        patch.setattr(_core, "commit", then_interrupt(_core.commit, out))
        assert carrick("merge", config, out, *options).code == 130
    check(out, models)
    left = ["merged", "merged.carrick-intermediates"] if keep else ["merged"]
    assert sorted(p.name for p in out.parent.iterdir()) == left
    assert carrick("merge", config, out, "--force", *options).code == 0
    assert sorted(p.name for p in out.parent.iterdir()) == (["merged", "sum"] if keep else ["merged"])


def test_an_interrupt_while_intermediates_are_deleted(carrick, models, out, monkeypatch):
    with monkeypatch.context() as patch:
        real, interrupts = shutil.rmtree, []

        def rmtree(path, **options):
            if path.name == "merged.carrick-intermediates" and not interrupts:
                interrupts.append(path)
                raise KeyboardInterrupt
            real(path, **options)

        patch.setattr(shutil, "rmtree", rmtree)
        assert carrick("merge", two(models), out).code == 130
    assert len(interrupts) == 1
    check(out, models)
    assert [p.name for p in out.parent.iterdir()] == ["merged"]


def then_interrupt(commit, out):
    def run(partial, target, *rest):
        commit(partial, target, *rest)
        if target == str(out):
            raise KeyboardInterrupt

    return run


def test_a_link_where_an_intermediate_is_kept_is_replaced_and_not_followed(carrick, models, out):
    elsewhere = models.write("elsewhere", 7)
    before = {path.name: path.read_bytes() for path in elsewhere.iterdir()}
    out.parent.mkdir()
    (out.parent / "sum").symlink_to(elsewhere)
    answer = carrick("merge", two(models), out, "--keep-intermediates", "--force")
    assert answer.code == 0, answer.err
    assert not (out.parent / "sum").is_symlink()
    assert carrick("inspect", out.parent / "sum").code == 0
    assert {path.name: path.read_bytes() for path in elsewhere.iterdir()} == before
    check(out, models)


@pytest.mark.parametrize("beside", ["an input", "the output"])
def test_intermediates_are_kept_over_neither_input_nor_output(carrick, models, out, beside):
    name, target = ("base", models["base"].parent / "merged") if beside == "an input" else ("merged", out)
    config = two(models)
    config.write_text(
        config.read_text().replace("name: sum", f"name: {name}").replace("model: sum", f"model: {name}")
    )
    before = (models["base"] / "model.safetensors").read_bytes()
    answer = carrick("merge", config, target, "--keep-intermediates", "--force")
    assert answer.code == 2
    assert f"`{name}` would be kept" in answer.err
    assert (models["base"] / "model.safetensors").read_bytes() == before
    assert not target.exists()


def test_dry_run_and_plan_show_every_document(carrick, models, out):
    config = two(models)
    for answer in (carrick("merge", config, out, "--dry-run"), carrick("plan", config)):
        assert answer.code == 0, answer.err
        assert answer.out.count("What would run") == 2
    assert not out.parent.exists()
    assert len(carrick("plan", config, "--json").json) == 2


def test_plans_of_several_documents_cannot_be_run(carrick, models, out):
    path = models.text(carrick("plan", two(models), "--json").out, "plan.json")
    answer = carrick("merge", "--plan", path, out)
    assert answer.code == 2
    assert "holds the plans of several documents" in answer.err
    assert "run their configuration: carrick merge CONFIG OUT" in answer.err
    assert not out.parent.exists()


@pytest.mark.parametrize("wrong", ["tokenizer_source: /nowhere/at/all", "chat_template: alpacca"])
def test_a_mistake_in_the_last_document_is_found_before_the_first_is_merged(carrick, models, out, wrong):
    answer = carrick("merge", two(models, extra=wrong), out)
    assert answer.code == 2, answer.err
    assert not out.parent.exists()


def test_finished_intermediates_are_used_again_after_a_failure(models, out, monkeypatch):
    config = two(models)
    ran: list[str] = []
    execute = _core.execute

    def count(plan, partial, options, progress):
        ran.append(partial)
        if len(ran) == 2:
            raise OSError(5, "Input/output error", partial)
        return execute(plan, partial, options, progress)

    monkeypatch.setattr(_core, "execute", count)
    with pytest.raises(OSError, match="Input/output"):
        package.merge(config, out)
    assert not out.exists()
    package.merge(config, out)
    assert [partial.rsplit("/", 1)[-1].split(".")[0] for partial in ran] == ["sum", "merged", "merged"]
    check(out, models)
    assert [p.name for p in out.parent.iterdir()] == ["merged"]


def test_an_intermediate_of_changed_inputs_is_merged_again(models, out, monkeypatch):
    config = two(models)
    execute = _core.execute

    def fail_at_the_end(plan, partial, options, progress):
        if "merged.carrick-partial" in partial:
            raise OSError(5, "Input/output error", partial)
        return execute(plan, partial, options, progress)

    with monkeypatch.context() as patch:
        patch.setattr(_core, "execute", fail_at_the_end)
        with pytest.raises(OSError, match="Input/output"):
            package.merge(config, out)
    (models["math"] / "model.safetensors").write_bytes((models["code"] / "model.safetensors").read_bytes())
    models.tensors["math"] = models.tensors["code"]
    package.merge(config, out)
    check(out, models)


@pytest.mark.parametrize("name", ["../sum", "a/b", "..", ".", "", " ", "a\\b", "a\0b"])
def test_names_of_intermediates_stay_in_their_folder(carrick, models, out, name):
    config = models.text(two(models).read_text().replace("sum", json.dumps(name)))
    answer = carrick("merge", config, out)
    assert answer.code == 2
    assert "`name`" in answer.err
    assert not out.parent.exists()


@pytest.mark.parametrize(
    "when", [(stage, second) for stage in (1, 2) for second in ("the same", "other weights", "one document")]
)
def test_a_second_run_takes_nothing_from_a_live_one(carrick, models, out, monkeypatch, when):
    stage, second = when
    config = two(models)
    other = {
        "the same": config,
        "other weights": models.text(config.read_text().replace("weight: 0.5", "weight: 0.25"), "other.yml"),
        "one document": models.config("one.yml"),
    }[second]
    execute = _core.execute
    ran, answers = [], []

    def start_another(plan, partial, options, progress):
        ran.append(partial)
        if len(ran) == stage:
            before = sorted(out.parent.rglob("*"))
            answers.append(carrick("merge", other, out, "--force"))
            assert sorted(out.parent.rglob("*")) == before
        return execute(plan, partial, options, progress)

    monkeypatch.setattr(_core, "execute", start_another)
    package.merge(config, out)
    assert [answer.code for answer in answers] == [2]
    assert "another run is writing there" in answers[0].err
    assert len(ran) == 2
    check(out, models)
    assert [p.name for p in out.parent.iterdir()] == ["merged"]


def test_an_output_that_another_run_holds_costs_no_finished_intermediate(carrick, models, out, monkeypatch):
    config = two(models)
    with PartialFolder(out):
        answer = carrick("merge", config, out)
        assert answer.code == 2
        assert "another run is writing there" in answer.err
    execute = _core.execute
    ran = []

    def count(plan, partial, options, progress):
        ran.append(partial)
        return execute(plan, partial, options, progress)

    monkeypatch.setattr(_core, "execute", count)
    package.merge(config, out)
    assert len(ran) == 1
    check(out, models)
    assert [p.name for p in out.parent.iterdir()] == ["merged"]


def test_a_refused_merge_leaves_no_intermediates(carrick, models, out):
    for name in ("base", "math", "code"):
        path = models[name] / "model.safetensors"
        raw = bytearray(path.read_bytes())
        raw[-2:] = b"\xc0\x7f" if name == "base" else raw[-2:]  # a NaN in the input of the second document
        path.write_bytes(raw)
    answer = carrick("merge", two(models), out, "--check-finite")
    assert answer.code == 2, answer.err
    assert not out.parent.exists()


def fail_at_the_output(config, out, monkeypatch, **options):
    """Leave what an interrupted run leaves: finished intermediates."""
    execute = _core.execute

    def fail(plan, partial, options, progress):
        if partial == str(out.with_name("merged.carrick-partial")):
            raise OSError(5, "Input/output error", partial)
        return execute(plan, partial, options, progress)

    with monkeypatch.context() as patch:
        patch.setattr(_core, "execute", fail)
        with pytest.raises(OSError, match="Input/output"):
            package.merge(config, out, **options)
    return out.with_name("merged.carrick-intermediates")


def test_what_an_interrupted_run_left_is_room_for_its_continuation(models, out, monkeypatch):
    folder = fail_at_the_output(two(models), out, monkeypatch)
    (folder / "sum" / "large").write_bytes(bytes(70 * 10**6))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**6))
    package.merge(two(models), out)
    check(out, models)
    with pytest.raises(package.CarrickError, match=r"GB are needed and 0\.00 GB are free"):
        package.merge(two(models), out.with_name("elsewhere"))


def test_what_another_configuration_left_is_deleted(models, out, monkeypatch):
    folder = fail_at_the_output(two(models), out, monkeypatch)
    (folder / "old").mkdir()
    assert (folder / "sum.finished").is_file()
    package.merge(models.config(), out)
    assert [p.name for p in out.parent.iterdir()] == ["merged"]


def test_a_saved_plan_keeps_away_from_intermediates(carrick, models, out, monkeypatch):
    plan = models.text(carrick("plan", models.config(), "--json").out, "plan.json")
    folder = fail_at_the_output(two(models), out, monkeypatch)
    with Intermediates(out, ["sum"]):
        answer = carrick("merge", "--plan", plan, out)
        assert answer.code == 2
        assert "another run is writing there" in answer.err
        (folder / "left").write_text("by a killed run")
        (folder / "sum.finished").unlink()
        folder.rename(folder.with_name("aside"))
    folder.with_name("aside").rename(folder)
    assert carrick("merge", "--plan", plan, out).code == 0
    assert [p.name for p in out.parent.iterdir()] == ["merged"]


@pytest.mark.parametrize("documents", [1, 2])
def test_no_input_lies_where_intermediates_are_deleted(carrick, models, out, documents):
    mine = out.with_name("merged.carrick-intermediates") / "mine"
    shutil.copytree(models["math"], mine)
    sources = [{"model": str(mine), "parameters": {"weight": 1}}]
    config = models.config(models=sources) if documents == 1 else two(models)
    config.write_text(config.read_text().replace(str(models["base"]), str(mine)))
    answer = carrick("merge", config, out)
    assert answer.code == 2
    assert f"the input {mine}" in answer.err
    assert (mine / "model.safetensors").is_file()


def test_the_output_is_no_input_of_an_earlier_document(carrick, models):
    before = (models["math"] / "model.safetensors").read_bytes()
    answer = carrick("merge", two(models), models["math"], "--force")
    assert answer.code == 2
    assert "is the input" in answer.err
    assert (models["math"] / "model.safetensors").read_bytes() == before
