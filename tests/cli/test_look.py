"""`inspect`, `compare`, `plan`, `methods`, `schema`, `doctor`: what they print, for people and as JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from safetensors.numpy import save_file

from carrick import plan
from carrick.cli.output import WIDTH
from carrick.errors import PlanError


def narrow(text: str) -> bool:
    return all(len(line.rstrip()) <= WIDTH for line in text.splitlines())


def test_inspect_tells_kind_layers_and_sizes(carrick, models):
    answer = carrick("inspect", models["base"])
    assert answer.code == 0, answer.err
    for text in (
        "llama (LlamaForCausalLM)",
        "3 (model.layers)",
        "BF16",
        "model.layers.0 … 2",
        "lm_head",
        "not tied",
    ):
        assert text in answer.out
    assert narrow(answer.out)
    assert "q_proj" not in answer.out


def test_inspect_lists_tensors(carrick, models):
    answer = carrick("inspect", models["base"], "--tensors")
    for name in models.tensors["base"]:
        assert name in answer.out
    assert narrow(answer.out)


def test_inspect_json(carrick, models):
    found = carrick("inspect", models["base"], "--json").json
    assert found["layers"] == {"model.layers": 3}
    assert found["nbytes"] == 2 * found["elements"] == sum(t.nbytes for t in models.tensors["base"].values())
    assert {t["name"] for t in found["tensors"]} == set(models.tensors["base"])


def test_inspect_splits_runs_where_layers_differ(carrick, tmp_path):
    tensors = {}
    for layer in range(4):
        for part in ("a", "b", "c"):
            dtype = np.float32 if layer < 3 else np.float16
            tensors[f"h.{layer}.{part}.weight"] = np.zeros((2, 2), dtype)
    save_file(tensors, tmp_path / "model.safetensors")
    groups = carrick("inspect", tmp_path, "--json").json["by_group"]
    assert [(g["label"], g["layers"], g["tensors"]) for g in groups] == [("h.0 … 2", 3, 9), ("h.3", 1, 3)]


def test_inspect_of_nothing_is_exit_2(carrick, tmp_path):
    answer = carrick("inspect", tmp_path / "none")
    assert answer.code == 2
    assert answer.err.startswith("error: ")


def test_compare_same(carrick, models):
    answer = carrick("compare", models["base"], models["base"])
    assert answer.code == 0
    assert answer.out.startswith("the same: 12 tensors")
    assert carrick("compare", models["base"], models["base"], "--json").json["same"] is True


def test_compare_tells_each_difference(carrick, tmp_path):
    one = {
        "equal": np.arange(4, dtype=np.float32),
        "values": np.array([1.0, 2.0, 3.0, 4.0], np.float32),
        "shape": np.zeros((2, 3), np.float32),
        "dtype": np.ones(2, np.float32),
        "left": np.zeros(1, np.float32),
    }
    other = {
        **one,
        "values": np.array([1.0, 2.0, 3.0, 2.0], np.float32),
        "shape": np.zeros((3, 2), np.float32),
        "dtype": np.ones(2, np.float16),
        "right": np.zeros(1, np.float32),
    }
    del other["left"]
    save_file(one, tmp_path / "one.safetensors")
    save_file(other, tmp_path / "other.safetensors")
    answer = carrick("compare", tmp_path / "one.safetensors", tmp_path / "other.safetensors", "--json")
    assert answer.code == 1
    found = {t["name"]: t for t in answer.json["tensors"]}
    assert {name: t["status"] for name, t in found.items()} == {
        "equal": "equal",
        "values": "differs",
        "shape": "shape",
        "dtype": "dtype",
        "left": "only in A",
        "right": "only in B",
    }
    assert (found["values"]["max_abs"], found["values"]["mean_abs"]) == (2.0, 0.5)
    assert found["dtype"]["max_abs"] == 0.0
    text = carrick("compare", tmp_path / "one.safetensors", tmp_path / "other.safetensors")
    assert text.code == 1
    assert "\n1 of 6 tensors equal, 1 other values, " in text.out
    assert narrow(text.out)


def test_compare_with_a_broken_file_is_exit_2(carrick, models):
    path = models["math"] / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    answer = carrick("compare", models["base"], models["math"])
    assert answer.code == 2
    assert answer.err.startswith("error: ")


def test_plan_prints_what_would_run_and_writes_nothing(carrick, models, out):
    answer = carrick("plan", models.config(), out)
    assert answer.code == 0, answer.err
    assert "linear" in answer.out
    assert narrow(answer.out)
    assert not out.parent.exists()


def test_plan_json_is_the_whole_plan(carrick, models):
    plan = carrick("plan", models.config(), "--json").json
    assert plan["format"] == "carrick-plan"
    assert {job["name"] for job in plan["jobs"]} == set(models.tensors["math"])


def test_plan_of_a_bad_configuration_is_exit_2(carrick, models):
    answer = carrick("plan", models.config(merge_method="linaer"))
    assert answer.code == 2
    assert "linear" in answer.err


def test_plan_takes_a_seed(carrick, models):
    assert carrick("plan", models.config(seed=3), "--json").json["seed"] == 3
    assert carrick("plan", models.config(seed=3), "--json", "--seed", "4").json["seed"] == 4


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_plan_refuses_what_does_not_fit(carrick, models, out, words):
    config = models.config()
    planned = carrick("plan", config, "--memory", "1MiB", *words)
    merged = carrick("merge", config, out, "--dry-run", "--memory", "1MiB")
    assert (planned.code, planned.out, planned.err) == (2, "", merged.err)
    assert "allow more with --memory" in planned.err
    assert carrick("plan", config, "--threads", "0", *words).code == 2
    with pytest.raises(PlanError, match="allow more with --memory"):
        plan(config, memory="1MiB")


def test_plan_counts_the_threads_as_the_merge_does(carrick, models, out):
    def peak(*words):
        lines = carrick(*words).out.splitlines()
        return next(line.rstrip() for line in lines if line.startswith("peak memory"))

    config = models.config()
    one, four = (peak("plan", config, "--threads", number) for number in (1, 4))
    assert one != four
    assert peak("merge", config, out, "--dry-run", "--threads", 4) == four


def test_methods_are_listed(carrick):
    answer = carrick("methods")
    names = [row["name"] for row in carrick("methods", "--json").json]
    assert "ties" in names
    assert all(name in answer.out for name in names)
    assert narrow(answer.out)


def test_what_methods_do_is_not_cut(carrick):
    said = " ".join(carrick("methods").out.split())
    assert "…" not in said
    assert "one vector; nearly parallel tensors are interpolated linearly." in said


def test_the_list_and_the_page_agree_on_the_base(carrick):
    page = (Path(__file__).resolve().parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")
    listed = carrick("methods").out.splitlines()
    for row in carrick("methods", "--json").json:
        written = re.search(rf"^\| \[`{row['name']}`\].*\| ([^|]*) \| [^|]* \|$", page, re.MULTILINE)[1]
        at = next(number for number, line in enumerate(listed) if line.split()[0] == row["name"])
        below = listed[at + 1] if at + 1 < len(listed) and listed[at + 1].startswith(" ") else ""
        assert f"{listed[at][23:37].strip()} {below[23:37].strip()}".strip() == written.partition(",")[0]
        assert f"\nbase     {written}" in carrick("methods", row["name"]).out


def test_every_method_is_explained(carrick):
    for row in carrick("methods", "--json").json:
        answer = carrick("methods", row["name"])
        assert answer.code == 0
        assert narrow(answer.out)
        assert row["source"] in answer.out
        assert all(parameter["name"] in answer.out for parameter in row["parameters"])
        assert carrick("methods", row["name"], "--json").json == row


def test_schema_accepts_a_configuration_and_refuses_a_misspelt_one(carrick, models):
    schema = carrick("schema").json
    good = json.loads(models.config().read_text())
    jsonschema.validate(good, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**good, "merge_methd": "linear"}, schema)


def test_doctor(carrick, tmp_path):
    found = carrick("doctor", "--json").json
    assert found["simd"] in found["simd_available"]
    assert found["threads"] >= 1
    assert found["disk"] is None
    answer = carrick("doctor", tmp_path)
    assert answer.code == 0, answer.err
    assert "disk write" in answer.out
    assert list(tmp_path.iterdir()) == []


def test_doctor_of_a_file_is_exit_2(carrick, tmp_path):
    (tmp_path / "file").write_text("")
    assert carrick("doctor", tmp_path / "file").code == 2
