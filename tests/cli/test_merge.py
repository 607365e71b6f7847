"""`carrick merge` from the configuration to the folder: weights, companions, record, refusals."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

import carrick as package
from carrick.errors import ConfigError, PlanError

if TYPE_CHECKING:
    from pathlib import Path


def everything_in(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def expected(models) -> dict[str, np.ndarray]:
    """0.25 math + 0.75 code; the weights' sum is 1, and both products are exact."""
    math, code = models.tensors["math"], models.tensors["code"]
    return {
        name: (0.25 * math[name].astype(np.float64) + 0.75 * code[name].astype(np.float64)).astype(
            ml_dtypes.bfloat16
        )
        for name in math
    }


def check_weights(folder: Path, models) -> None:
    found = {}
    for shard in folder.glob("*.safetensors"):
        found |= load_file(shard)
    wanted = expected(models)
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        np.testing.assert_array_equal(found[name].view(np.uint16), tensor.view(np.uint16), err_msg=name)


def test_merge_makes_a_model(carrick, models, out):
    answer = carrick("merge", models.config(), out)
    assert answer.code == 0, answer.err
    assert str(out) in answer.out
    check_weights(out, models)
    assert {p.name for p in out.iterdir()} == {
        "README.md",
        "carrick.json",
        "config.json",
        "generation_config.json",
        "merges.txt",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert [p.name for p in out.parent.iterdir()] == ["merged"]


def test_files_beside_the_weights_are_the_donors_bytes(carrick, models, out):
    carrick("merge", models.config(), out)
    for name in (
        "config.json",
        "generation_config.json",
        "merges.txt",
        "tokenizer.json",
        "tokenizer_config.json",
    ):
        assert (out / name).read_bytes() == (models["math"] / name).read_bytes()


def test_pickles_and_other_weights_are_never_copied(carrick, models, out):
    for name in ("pytorch_model.bin", "vocab.pkl", "tokenizer.pickle", "rust_model.ot", "training_args.bin"):
        (models["math"] / name).write_bytes(b"\x80\x04.")
    carrick("merge", models.config(), out)
    assert not {p.suffix for p in out.iterdir()} & {".bin", ".pkl", ".pickle", ".ot"}


def test_remote_code_is_copied_where_the_config_asks_for_it(carrick, models, out):
    (models["math"] / "modeling_own.py").write_text("own = 1\n")
    carrick("merge", models.config(), out)
    assert not (out / "modeling_own.py").exists()
    config = json.loads((models["math"] / "config.json").read_text())
    (models["math"] / "config.json").write_text(
        json.dumps({**config, "auto_map": {"AutoModel": "modeling_own.Own"}})
    )
    carrick("merge", models.config(), out, "--force")
    assert (out / "modeling_own.py").read_text() == "own = 1\n"


def test_tokenizer_comes_from_its_source(carrick, models, out):
    answer = carrick("merge", models.config(tokenizer_source=str(models["code"])), out)
    assert answer.code == 0, answer.err
    assert json.loads((out / "tokenizer.json").read_text())["from"] == "code"
    assert json.loads((out / "generation_config.json").read_text())["from"] == "math"


def test_shards_have_an_index(carrick, models, out):
    answer = carrick("merge", models.config(), out, "--shard-size", "700B")
    assert answer.code == 0, answer.err
    check_weights(out, models)
    index = json.loads((out / "model.safetensors.index.json").read_text())
    for name, shard in index["weight_map"].items():
        assert name in load_file(out / shard)
    assert len(set(index["weight_map"].values())) > 1
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in models.tensors["math"].values())


@pytest.mark.parametrize(
    ("template", "text"),
    [("chatml", "<|im_start|>"), ("{% for m in messages %}{{ m }}{% endfor %}", "{% for m in messages %}")],
)
def test_chat_template_of_the_configuration(carrick, models, out, template, text):
    (models["math"] / "chat_template.jinja").write_text("old")
    answer = carrick("merge", models.config(chat_template=template), out)
    assert answer.code == 0, answer.err
    written = (out / "chat_template.jinja").read_text()
    assert text in written
    edited = json.loads((out / "tokenizer_config.json").read_text())
    assert edited == {"from": "math", "file": "tokenizer_config.json", "chat_template": written}


def test_single_files_merge_without_any_config(carrick, models, out, tmp_path):
    for name in ("math", "code"):
        (tmp_path / f"{name}.safetensors").write_bytes((models[name] / "model.safetensors").read_bytes())
    sources = [
        {"model": str(tmp_path / f"{n}.safetensors"), "parameters": {"weight": w}}
        for n, w in [("math", 0.25), ("code", 0.75)]
    ]
    answer = carrick("merge", models.config(models=sources), out)
    assert answer.code == 0, answer.err
    check_weights(out, models)
    assert {p.name for p in out.iterdir()} == {"README.md", "carrick.json", "model.safetensors"}
    assert "math.safetensors" in (out / "README.md").read_text()


def test_json_report(carrick, models, out):
    answer = carrick("merge", models.config(), out, "--json")
    report = answer.json
    assert report["out"] == str(out)
    assert report["tensors"] == len(report["checksums"]) == len(models.tensors["math"])
    assert report["bytes_written"] == (out / "model.safetensors").stat().st_size
    assert report["dry_run"] is False


def test_model_card_says_what_was_merged(carrick, models, out):
    carrick("merge", models.config(seed=11), out)
    card = (out / "README.md").read_text()
    assert card.startswith('---\nbase_model:\n- "math"\n- "code"\n')
    for text in (
        "- merge\n- carrick\n",
        "| math | model | 0.25 |",
        "| code | model | 0.75 |",
        "| seed | 11 |",
        '"merge_method": "linear"',
    ):
        assert text in card
    assert str(models.root) not in card


def test_record_is_the_same_wherever_the_inputs_lie(carrick, make_models, tmp_path):
    folders = []
    for parent in ("one", "another/place"):
        models = make_models(tmp_path / parent)
        answer = carrick("merge", models.config(), tmp_path / parent / "merged", "--hash-inputs")
        assert answer.code == 0, answer.err
        folders.append(everything_in(tmp_path / parent / "merged"))
    assert folders[0] == folders[1]
    assert str(tmp_path).encode() not in b"".join(folders[0].values())


def test_record_tells_inputs_plan_and_checksums(carrick, models, out):
    carrick("merge", models.config(), out)
    record = json.loads((out / "carrick.json").read_text())
    assert [entry["name"] for entry in record["inputs"]] == ["math", "code"]
    file = record["inputs"][0]["files"][0]
    assert file["name"] == "model.safetensors"
    assert file["size"] == (models["math"] / "model.safetensors").stat().st_size
    assert "content_hash" not in file
    assert record["tensors"].keys() == models.tensors["math"].keys()
    assert all(len(tensor["checksum"]) == 32 for tensor in record["tensors"].values())
    assert record["inputs"][1]["parameters"] == {"weight": 0.75}


def test_record_changes_with_weights_and_contents(carrick, models, out):
    hashes = set()
    for number, weight in enumerate((0.5, 0.5, 0.6)):
        sources = [
            {"model": str(models["math"]), "parameters": {"weight": weight}},
            {"model": str(models["code"]), "parameters": {"weight": 0.5}},
        ]
        folder = out.with_name(f"merged{number}")
        carrick("merge", models.config(models=sources), folder, "--hash-inputs")
        hashes.add(json.loads((folder / "carrick.json").read_text())["plan_hash"])
    assert len(hashes) == 2


def test_dry_run_writes_nothing(carrick, models, out, tmp_path):
    config = models.config()
    before = everything_in(tmp_path)
    answer = carrick("merge", config, out, "--dry-run")
    assert answer.code == 0, answer.err
    assert "linear" in answer.out
    assert everything_in(tmp_path) == before
    assert not out.parent.exists()
    assert carrick("merge", config, out, "--dry-run", "--json").json["dry_run"] is True


def test_existing_output_needs_force(carrick, models, out):
    config = models.config()
    carrick("merge", config, out)
    (out / "left over.txt").write_text("from before")
    before = everything_in(out)
    answer = carrick("merge", config, out)
    assert answer.code == 2
    assert "--force" in answer.err
    assert everything_in(out) == before
    assert carrick("merge", config, out, "--force").code == 0
    assert not (out / "left over.txt").exists()
    assert [p.name for p in out.parent.iterdir()] == ["merged"]


def test_force_replaces_models_only(carrick, models, out):
    out.mkdir(parents=True)
    (out / "thesis.tex").write_text("years")
    answer = carrick("merge", models.config(), out, "--force")
    assert answer.code == 2
    assert (out / "thesis.tex").read_text() == "years"


def test_an_empty_output_folder_is_filled(carrick, models, out):
    out.mkdir(parents=True)
    assert carrick("merge", models.config(), out).code == 0
    check_weights(out, models)


def test_output_that_is_an_input_is_refused_even_with_force(carrick, models):
    before = everything_in(models["math"])
    answer = carrick("merge", models.config(), models["math"], "--force")
    assert answer.code == 2
    assert everything_in(models["math"]) == before


def test_saved_plan_gives_the_same_bytes(carrick, models, out, tmp_path):
    config = models.config()
    saved = tmp_path / "plan.json"
    saved.write_text(carrick("plan", config, "--json").out)
    assert carrick("merge", "--plan", saved, out).code == 0
    direct = out.with_name("direct")
    assert carrick("merge", config, direct).code == 0
    assert everything_in(out) == everything_in(direct)


def test_saved_plan_without_its_meta_is_refused(carrick, models, out, tmp_path):
    plan = carrick("plan", models.config(), "--json").json
    del plan["meta"]["donor"]
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    answer = carrick("merge", "--plan", tmp_path / "plan.json", out)
    assert answer.code == 2
    assert "donor" in answer.err
    assert not out.parent.exists()


def test_saved_plan_fixes_seed_and_shards(carrick, models, out, tmp_path):
    (tmp_path / "plan.json").write_text(carrick("plan", models.config(), "--json").out)
    answer = carrick("merge", "--plan", tmp_path / "plan.json", out, "--seed", "3")
    assert answer.code == 2
    assert "seed" in answer.err


def test_notes_go_to_stderr(carrick, models, out):
    answer = carrick("merge", models.config(parameters={"int8_mask": True}), out)
    assert answer.code == 0, answer.err
    assert "int8_mask" in answer.err
    assert "int8_mask" not in answer.out


def test_python_call_returns_a_report_and_tells_progress(models, out):
    seen = []
    report = package.merge(models.config(), out, memory="64MiB", threads=1, progress=seen.append)
    check_weights(out, models)
    assert report.out == out
    assert report.tensors == len(models.tensors["math"])
    assert report.bytes_written == (out / "model.safetensors").stat().st_size
    assert seen == [] or seen[-1].bytes_total > 0


def test_python_call_takes_a_dict_and_a_plan(models, out):
    config = json.loads(models.config().read_text())
    plan = package.plan(config)
    package.merge(None, out, plan=plan)
    check_weights(out, models)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"threads": 0}, ConfigError),
        ({"seed": -1}, ConfigError),
        ({"seed": 1 << 64}, ConfigError),
        ({"memory": "lots"}, ConfigError),
        ({"shard_size": "0GB"}, ConfigError),
        ({"read": "magic"}, ConfigError),
        ({"config": None}, ConfigError),
        ({"plan": "none.json"}, PlanError),
    ],
)
def test_wrong_arguments_leave_no_folder(models, out, arguments, error):
    if "plan" in arguments:
        arguments = {**arguments, "config": None}
    with pytest.raises(error):
        package.merge(**{"config": models.config(), "out": out, **arguments})
    assert not out.parent.exists()
