"""Configurations of several documents: intermediates, their folder, keeping and reusing them."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

import carrick as package
from carrick import _core

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


@pytest.mark.parametrize("wrong", ["tokenizer_source: /nowhere/at/all", "chat_template: alpaca"])
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
