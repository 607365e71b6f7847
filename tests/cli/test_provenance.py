"""What the output of several documents says of its inputs: the intermediates are gone, what made them is not."""

from __future__ import annotations

import json

import pytest
from safetensors.numpy import load_file, save_file

import carrick as package
from carrick import _core
from cli.test_documents import fail_at_the_output

THREE = """
name: sum
merge_method: linear
models:
  - {{model: {math}, parameters: {{weight: 0.5}}}}
  - {{model: {code}, parameters: {{weight: 0.5}}}}
---
name: drop
merge_method: dare_linear
base_model: {base}
models: [{{model: sum, parameters: {{weight: 1, density: 0.5}}}}]
seed: 11
---
merge_method: linear
models:
  - {{model: drop, parameters: {{weight: 0.75}}}}
  - {{model: {chat}, parameters: {{weight: 0.25}}}}
tokenizer_source: {words}
"""


@pytest.fixture
def config(models):
    for seed, name in enumerate(("chat", "words")):
        models.write(name, 20 + seed)
    return models.text(THREE.format(**{n: models[n] for n in ("base", "math", "code", "chat", "words")}))


def record_of(out):
    return json.loads((out / "carrick.json").read_text())


def test_the_record_holds_those_of_the_intermediates(config, models, out):
    package.merge(config, out, hash_inputs=True)
    record = record_of(out)
    assert [(entry["name"], entry.get("intermediate", False)) for entry in record["inputs"]] == [
        ("drop", True),
        ("chat", False),
    ]
    assert list(record["intermediates"]) == ["sum", "drop"]
    first, second = record["intermediates"].values()
    assert [entry["name"] for entry in first["inputs"]] == ["math", "code"]
    assert [entry["name"] for entry in second["inputs"]] == ["base", "sum"]
    assert first["inputs"][0]["files"][0]["size"] == (models["math"] / "model.safetensors").stat().st_size
    assert first["inputs"][0]["files"][0]["content_hash"] == _core.hash_file(
        str(models["math"] / "model.safetensors")
    )
    assert first["inputs"][0]["parameters"] == {"weight": 0.5}
    assert second["seed"] == 11
    assert second["options"]["dare_linear"]["rescale"] == "true"
    assert second["inputs"][1]["parameters"] == {"weight": 1.0, "density": 0.5}
    assert not any("tensors" in one for one in record["intermediates"].values())
    assert set(record["tensors"]) == set(load_file(out / "model.safetensors"))


def test_an_intermediate_that_is_kept_has_what_it_comes_from(config, out):
    package.merge(config, out, keep_intermediates=True)
    assert list(record_of(out.parent / "drop")["intermediates"]) == ["sum"]
    assert "intermediates" not in record_of(out.parent / "sum")


def test_the_card_names_each_input_once(models, out):
    other = models["base"].parent / ".." / models["base"].parent.name / "base"
    text = THREE.replace("{chat}", str(other)).format(
        **{n: models[n] for n in ("base", "math", "code")}, words=models["base"]
    )
    package.merge(models.text(text), out)
    assert "the inputs are `math`, `code` and `base`." in (out / "README.md").read_text()


def test_a_merge_of_one_document_has_no_intermediates(models, out):
    package.merge(models.config(), out)
    assert "intermediates" not in record_of(out)


def rewrite(models, what):
    """Change an input of the first document."""
    path = models["math"] / "model.safetensors"
    tensors = load_file(path)
    if what == "bytes":
        tensors["model.norm.weight"][0] += 1
        save_file(tensors, path, {"format": "pt"})
    else:
        save_file(tensors, path, {"format": "pt", "by": "someone else"})


@pytest.mark.parametrize("what", ["bytes", "header"])
def test_the_hash_of_the_plan_covers_what_the_intermediates_are_made_of(config, models, out, what):
    package.merge(config, out)
    package.merge(config, out.with_name("again"))
    assert record_of(out) == record_of(out.with_name("again"))
    rewrite(models, what)
    package.merge(config, out.with_name("changed"))
    assert record_of(out.with_name("changed"))["plan_hash"] != record_of(out)["plan_hash"]


def test_the_hash_of_the_plan_covers_the_options_of_the_intermediates(config, models, out):
    package.merge(config, out)
    # The mask of dare_linear at density 1 does not depend on the seed: the same bytes by another plan.
    for seed in (11, 12):
        text = config.read_text().replace("density: 0.5", "density: 1.0").replace("seed: 11", f"seed: {seed}")
        package.merge(models.text(text), out.with_name(str(seed)))
    one, other = (record_of(out.with_name(str(seed))) for seed in (11, 12))
    assert one["tensors"] == other["tensors"]
    assert one["plan_hash"] != other["plan_hash"]


@pytest.mark.parametrize(("first", "again"), [(False, False), (False, True), (True, False)])
def test_a_resumed_run_writes_the_same_record(config, out, monkeypatch, first, again):
    package.merge(config, out.with_name("whole"), hash_inputs=again)
    fail_at_the_output(config, out, monkeypatch, hash_inputs=first)
    package.merge(config, out, hash_inputs=again)
    for name in ("carrick.json", "README.md", "model.safetensors"):
        assert (out / name).read_bytes() == (out.with_name("whole") / name).read_bytes(), name


def test_the_card_names_the_real_inputs_and_no_path(config, models, out):
    package.merge(config, out, keep_intermediates=True)
    card = (out / "README.md").read_text()
    front = card.split("---")[1]
    assert front.split("tags:")[0].split() == [
        "base_model:", "-", '"math"', "-", '"code"', "-", '"base"', "-", '"chat"', "library_name:", "transformers",
    ]  # fmt: skip
    assert (
        "`drop` is an intermediate of the configuration below; the inputs are `math`, `code`, `base`" in card
    )
    for folder in (out, out.parent / "sum", out.parent / "drop"):
        for name in ("README.md", "carrick.json"):
            assert str(models.root) not in (folder / name).read_text(), folder / name
    assert "tokenizer_source: words" in card
    assert "- {model: math, parameters" in card


def test_the_path_of_a_tokenizer_alone_stays_out_of_the_card(models, out):
    package.merge(models.config(tokenizer_source=str(models["base"])), out)
    card = (out / "README.md").read_text()
    assert str(models.root) not in card
    assert '"tokenizer_source": "base"' in card
