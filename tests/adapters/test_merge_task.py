"""A classifier's head goes with its task: PEFT loads the merged adapter on the model that has such a head."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

import carrick
from adapters.loading import updates_of
from adapters.merging import FILE
from adapters.zoo import SMALL, TOKENS, case, llama, make, peft, tensors, torch, transformers
from carrick.adapters import merge
from carrick.adapters.configured import plan_configured
from carrick.adapters.merging.engine import Engine
from oracles.files import read_file, write_model

Q = "model.layers.{}.self_attn.q_proj"
SCORE = "score.weight"


def classifier():
    options = {**SMALL, "vocab_size": 32, "num_key_value_heads": 1, "num_labels": 3, **TOKENS}
    return transformers.LlamaForSequenceClassification(transformers.LlamaConfig(**options))


LANGUAGE = case(llama, "q_proj", task_type="CAUSAL_LM")
TASK = case(classifier, "q_proj", "v_proj", task_type="SEQ_CLS")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("tasks")
    language, task = make(LANGUAGE, root / "language", 1), make(TASK, root / "task", 0)
    write_model(root / "base", {key: np.ascontiguousarray(tensor) for key, tensor in task.base.items()})
    return language, task, root / "base"


def on_the_classifier(folder):
    """What PEFT makes of an adapter on the classifier, in the class that `task_type` names."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message=".*(missing|unexpected|mismatch).*")
        model = peft.PeftModel.from_pretrained(classifier().double(), folder)
        assert type(model).__name__ == "PeftModelForSequenceClassification"
        return tensors(model.merge_and_unload())


def config_of(folder):
    return json.loads((folder / "adapter_config.json").read_text())


@pytest.mark.parametrize("task_first", [False, True])
def test_the_task_is_that_of_the_kept_head(made, tmp_path, *, task_first):
    language, task, _ = made
    folders = [task.folder, language.folder] if task_first else [language.folder, task.folder]
    report = merge(folders, tmp_path / "out", modules_to_save="1" if task_first else "2", dtype="float64")
    config = config_of(tmp_path / "out")
    assert config["task_type"] == "SEQ_CLS"
    assert config["auto_mapping"] == config_of(task.folder)["auto_mapping"]
    notes = [note for note in report.notes if "`task_type` differs" in note]
    assert len(notes) == 1
    for word in ("CAUSAL_LM", "SEQ_CLS", f"SEQ_CLS, that of {task.folder}, is written"):
        assert word in notes[0]
    got = on_the_classifier(tmp_path / "out")
    np.testing.assert_array_equal(got[SCORE], task.merged[SCORE])
    updates = [updates_of(one.folder) for one in (language, task)]
    for layer in range(2):
        path = Q.format(layer)
        want = task.base[f"{path}.weight"] + sum(one[path] for one in updates)
        np.testing.assert_allclose(got[f"{path}.weight"], want, atol=1e-12)


def test_without_the_head_it_is_the_language_model(made, tmp_path):
    """Keeping what the language adapter has, which is nothing, leaves the classifier's head and task out."""
    language, task, _ = made
    merge([task.folder, language.folder], tmp_path / "out", modules_to_save="2")
    assert config_of(tmp_path / "out")["task_type"] == "CAUSAL_LM"
    assert not [key for key in read_file(tmp_path / "out" / FILE) if "score" in key]


def test_merged_heads(made, tmp_path):
    language, task, base = made
    options = {"weights": [1, 0.5], "modules_to_save": "merge", "base": base}
    merge([language.folder, task.folder], tmp_path / "out", **options)
    want = 0.5 * task.base[SCORE] + 0.5 * task.merged[SCORE]
    np.testing.assert_allclose(on_the_classifier(tmp_path / "out")[SCORE], want, atol=1e-12)


def test_in_a_yaml_and_its_plan(made, tmp_path):
    """The plan of a document that others list has the task as well, since its adapter is one of theirs."""
    language, task, _ = made
    both = {"merge_method": "cat", "modules_to_save": 2}
    models = [{"model": str(one.folder)} for one in (language, task)]
    first = both | {"name": "both", "models": models}
    last = {"merge_method": "cat", "modules_to_save": 1, "models": [{"model": "both"}, models[0]]}
    carrick.merge([first, last], tmp_path / "out")
    assert config_of(tmp_path / "out")["task_type"] == "SEQ_CLS"
    on_the_classifier(tmp_path / "out")
    plans = plan_configured([first, last], None, Engine(1 << 28), seed=None)
    assert any("SEQ_CLS, that of both, is written" in note for note in plans[1].notes)


def test_one_task_is_no_news(made, tmp_path):
    _, task, _ = made
    other = make(TASK, tmp_path / "other", 3).folder
    report = merge([task.folder, other], tmp_path / "out", modules_to_save="2")
    assert not [note for note in report.notes if "task_type" in note]
