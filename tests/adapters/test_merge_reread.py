"""Biases beside modules of other adapters: what is written is read again, by Carrick and by PEFT, key for key."""

from __future__ import annotations

import numpy as np
import pytest

from adapters.dense import applied
from adapters.loading import merged_weights
from adapters.zoo import CASES, SMALL, case, make, peft, transformers, wrap
from carrick.adapters import merge
from carrick.adapters.adapter import read_adapter
from carrick.errors import PlanError
from oracles.files import write_model

LAYERS = 4


def bert():
    options = SMALL | {"num_hidden_layers": LAYERS}
    config = transformers.BertConfig(**options, vocab_size=32, max_position_embeddings=16, num_labels=3)
    return transformers.BertForSequenceClassification(config)


def bert_case(*targets, **options):
    return case(bert, *targets, task_type="SEQ_CLS", **options)


def write_base(made, folder):
    return write_model(folder, {key: np.ascontiguousarray(tensor) for key, tensor in made.base.items()})


@pytest.mark.parametrize("policy", ["1", "2", "merge"])
@pytest.mark.parametrize("kinds", [("lora_only", "all"), ("all", "lora_only"), ("none", "all")])
def test_biases_of_two_kinds(kinds, policy, tmp_path):
    """`all` is of every module, `lora_only` of those with factors: together they are of all."""
    chosen = [bert_case("query", bias=kinds[0]), bert_case("query", bias=kinds[1])]
    made = [make(one, tmp_path / f"adapter-{i}", i) for i, one in enumerate(chosen)]
    base = write_base(made[0], tmp_path / "base")
    merge([one.folder for one in made], tmp_path / "out", modules_to_save=policy, base=base)
    held = read_adapter(tmp_path / "out")
    assert held.config.bias == ("all" if policy == "merge" else kinds[int(policy) - 1])
    got = merged_weights(chosen[0], tmp_path / "out")
    alone = [applied(read_adapter(one.folder), made[0].base) for one in made]
    kept = alone if policy == "merge" else [alone[int(policy) - 1]]
    for key, tensor in made[0].base.items():
        if key.endswith(".bias") and tensor.dtype == np.float64:
            want = tensor + sum(one[key] - tensor for one in kept)
            np.testing.assert_allclose(got[key], want, atol=1e-12, err_msg=key)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_biases_of_b_beside_an_embedding(order, tmp_path):
    chosen = [bert_case("query", lora_bias=True), bert_case("word_embeddings")]
    folders = [make(one, tmp_path / f"adapter-{i}", i).folder for i, one in enumerate(chosen)]
    with pytest.raises(ValueError, match="lora_bias"):  # PEFT, of what would have been written
        peft.get_peft_model(
            bert(), peft.LoraConfig(target_modules=["query", "word_embeddings"], lora_bias=True)
        )
    with pytest.raises(PlanError) as caught:
        merge([folders[place] for place in order], tmp_path / "out", modules_to_save="1")
    for word in (
        f"{folders[0]} has biases of B (`lora_bias`)",
        f"{folders[1]} has factors of the embedding bert.embeddings.word_embeddings",
        "--base BASE --dense",
    ):
        assert word in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["all", "lora_only"])
def test_biases_beside_modules_that_a_swap_leaves_out(kind, tmp_path):
    """The language expert gives the outer layers and has no `value` there: those modules have a bias alone."""
    task, language = bert_case("query", "value", bias=kind), bert_case("query")
    made = [make(one, tmp_path / f"adapter-{i}", i) for i, one in enumerate((task, language))]
    folders = [one.folder for one in made]
    merge(folders, tmp_path / "out", method="layer_swap", modules_to_save="1")
    held = read_adapter(tmp_path / "out")
    path = "bert.encoder.layer.{}.attention.self.{}"
    values = {path.format(layer, "value") for layer in (1, 2)}
    assert held.modules.keys() == {path.format(layer, "query") for layer in range(LAYERS)} | values
    assert held.config.bias == "all"
    got = merged_weights(task, tmp_path / "out")
    want = applied(read_adapter(folders[0]), made[0].base)
    for key, tensor in want.items():
        if key.endswith(".bias") and tensor.dtype == np.float64:
            np.testing.assert_array_equal(got[key], tensor, err_msg=key)
    left_out = f"{path.format(0, 'value')}.weight"
    np.testing.assert_array_equal(got[left_out], made[0].base[left_out])


def test_saved_whole_where_the_swap_leaves_the_factors_out(tmp_path):
    """The head is the task expert's, who saved it whole; the language expert's factors of it are not written."""
    linear = CASES["linear"].model
    task = case(lambda: linear(num_hidden_layers=4), "q_proj", modules_to_save=["lm_head"])
    language = case(task.model, "q_proj", "lm_head")
    made = [make(one, tmp_path / f"adapter-{i}", i) for i, one in enumerate((task, language))]
    folders = [one.folder for one in made]
    merge(folders, tmp_path / "out", method="layer_swap", modules_to_save="1")
    got = merged_weights(task, tmp_path / "out")
    np.testing.assert_array_equal(got["lm_head.weight"], made[0].merged["lm_head.weight"])
    with pytest.raises(
        PlanError, match=r"lm_head: .*adapter-0 saves it whole and .*adapter-1 has LoRA factors"
    ):
        merge(folders, tmp_path / "sum", modules_to_save="1")


@pytest.mark.filterwarnings("ignore")  # what transformers and PEFT warn of is theirs
@pytest.mark.parametrize("policy", ["2", "merge"])
def test_a_head_that_one_trained_and_the_other_carries_along(policy, tmp_path):
    """PEFT stores embeddings and head as they were where it is told to: the trained head is written, once."""
    llama = CASES["linear"].model
    chosen = [case(llama, "q_proj"), case(llama, "q_proj", modules_to_save=["lm_head"])]
    made = [make(one, tmp_path / f"adapter-{i}", 0) for i, one in enumerate(chosen)]
    wrap(chosen[0], 0).save_pretrained(made[0].folder, save_embedding_layers=True)
    assert "lm_head.weight" in read_adapter(made[0].folder).carried
    base = write_base(made[0], tmp_path / "base")
    merge([one.folder for one in made], tmp_path / "out", modules_to_save=policy, base=base)
    got = merged_weights(chosen[1], tmp_path / "out")
    np.testing.assert_allclose(got["lm_head.weight"], made[1].merged["lm_head.weight"], rtol=1e-12)
