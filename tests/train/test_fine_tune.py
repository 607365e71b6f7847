"""Fine-tuning of tiny models: the loss that is minimised, what moves, what is written."""

from __future__ import annotations

import json

import numpy as np
import pytest

import carrick
from carrick.classifier.head import Head, load_head
from carrick.classifier.predict import predict
from carrick.quiet import quiet_libraries
from train.tiny import bert, jsonl, llama, opinions, questions, torch, transformers

pytest.importorskip("trl")
load_file = pytest.importorskip("safetensors.torch").load_file
save_file = pytest.importorskip("safetensors.torch").save_file
peft = pytest.importorskip("peft")
LengthGrouped = pytest.importorskip("carrick.train.sampling").LengthGrouped

LORA = {"rank": 4, "alpha": 8.0, "targets": ["q_proj", "v_proj"]}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fine_tune")
    llama(folder / "llama")
    bert(folder / "bert")
    jsonl(folder / "qa.jsonl", questions(22))
    jsonl(folder / "opinions.jsonl", opinions(37))
    jsonl(folder / "plain.jsonl", [{"text": row["prompt"] + row["completion"]} for row in questions(10)])
    generator = np.random.default_rng(5)
    Head(
        generator.standard_normal((2, 32), dtype=np.float32) * 0.3,
        np.zeros(2, np.float32),
        ("bad", "good"),
        "bert",
    ).save(folder / "head")
    return folder


def causal(place, **changes):
    content = {
        "base": str(place / "llama"),
        "data": {"train": {"file": str(place / "qa.jsonl"), "language": "en"}},
        "adapter": LORA,
        "training": {"steps": 3, "batch_size": 4, "learning_rate": 0.01},
    }
    return {**content, **changes}


def classification(place, **changes):
    content = {
        "base": str(place / "bert"),
        "task": "classification",
        "head": str(place / "head"),
        "data": {"train": {"file": str(place / "opinions.jsonl"), "language": "en"}},
        "adapter": {"rank": 4, "targets": ["query", "value", "dense"]},
        "training": {"epochs": 1, "batch_size": 8, "learning_rate": 0.01, "schedule": "constant"},
    }
    return {**content, **changes}


def train(content, out, **options):
    return carrick.train(content, out, device="cpu", progress=False, **options)


def tensors(folder, name="adapter_model.safetensors"):
    return load_file(folder / name)


def test_the_loss_is_that_of_the_answer_alone(place, tmp_path):
    """Step 1 is recorded before any update: mean negative log-likelihood of answers and ends, in float64."""
    training = {"steps": 1, "batch_size": 22, "learning_rate": 1e-6}
    record = train(causal(place, training=training), tmp_path / "out").record
    tokenizer = transformers.AutoTokenizer.from_pretrained(place / "llama")
    model = transformers.AutoModelForCausalLM.from_pretrained(place / "llama").double()
    total, count = 0.0, 0
    for row in questions(22):
        prompt = tokenizer(row["prompt"])["input_ids"]
        ids = tokenizer(row["prompt"] + row["completion"])["input_ids"] + [tokenizer.eos_token_id]
        with torch.no_grad():
            scores = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        for position in range(len(prompt), len(ids)):
            total -= float(scores[position - 1, ids[position]])
            count += 1
    assert record["losses"][0][1] == pytest.approx(total / count, rel=1e-5)
    assert record["data"]["train"]["tokens"] == sum(
        len(tokenizer(row["prompt"] + row["completion"])["input_ids"]) + 1 for row in questions(22)
    )


def test_plain_text_is_learnt_whole(place, tmp_path):
    data = {"train": {"file": str(place / "plain.jsonl")}}
    training = {"steps": 1, "batch_size": 10, "learning_rate": 1e-6}
    record = train(causal(place, data=data, training=training), tmp_path / "out").record
    tokenizer = transformers.AutoTokenizer.from_pretrained(place / "llama")
    model = transformers.AutoModelForCausalLM.from_pretrained(place / "llama").double()
    losses = []
    for row in questions(10):
        ids = torch.tensor(
            tokenizer(row["prompt"] + row["completion"])["input_ids"] + [tokenizer.eos_token_id]
        )
        with torch.no_grad():
            scores = model(ids[None]).logits[0].log_softmax(-1)
        losses += [-float(scores[n, ids[n + 1]]) for n in range(len(ids) - 1)]
    assert record["losses"][0][1] == pytest.approx(np.mean(losses), rel=1e-5)


def test_a_classifier_learns_as_a_plain_loop_does(place, tmp_path):
    """The same rows in the same order through torch's own AdamW, written out: the same adapter."""
    training = {
        "epochs": 1, "batch_size": 8, "learning_rate": 0.01, "schedule": "constant", "seed": 3, "clip_norm": 0.5,
        "base_dropout": False,
    }  # fmt: skip
    report = train(classification(place, training=training), tmp_path / "out")
    model = transformers.AutoModel.from_pretrained(
        place / "bert", add_pooling_layer=False, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    transformers.set_seed(3)
    config = peft.LoraConfig(r=4, lora_alpha=4, target_modules=["query", "value", "dense"])
    with quiet_libraries():
        model = peft.get_peft_model(model, config).train()
    head = load_head(place / "head")
    weight, bias = torch.from_numpy(head.weight), torch.from_numpy(head.bias)
    tokenizer = transformers.AutoTokenizer.from_pretrained(place / "bert")
    rows = opinions(37)
    ids = [tokenizer(row["text"])["input_ids"] for row in rows]
    order = list(LengthGrouped([len(each) for each in ids], 8, 3))
    parameters = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.0)
    losses = []
    for start in range(0, 37, 8):
        batch = order[start : start + 8]
        # One at a time: no padding.
        pooled = [model(input_ids=torch.tensor([ids[row]])).last_hidden_state[0].mean(0) for row in batch]
        labels = torch.tensor([rows[row]["label"] for row in batch])
        loss = torch.nn.functional.cross_entropy(torch.stack(pooled) @ weight.T + bias, labels)
        losses.append(loss.item())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 0.5)
        optimizer.step()
        optimizer.zero_grad()
    np.testing.assert_allclose([loss for _, loss in report.record["losses"]], losses, rtol=1e-4)
    got = tensors(tmp_path / "out")
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(
                got[name.replace(".default", "")], parameter.detach(), atol=2e-4, rtol=1e-3, msg=name
            )


def test_only_the_adapter_is_written_for_the_bare_encoder(place, tmp_path):
    report = train(classification(place), tmp_path / "out")
    written = tensors(tmp_path / "out")
    assert all(name.startswith("base_model.model.encoder.layer.") for name in written)
    assert not any("pooler" in name or "head" in name for name in written)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["task_type"], config["modules_to_save"]) == ("FEATURE_EXTRACTION", None)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "training.json",
    ]  # fmt: skip
    assert report.record["trainable_parameters"] == sum(tensor.numel() for tensor in written.values())
    assert json.loads((tmp_path / "out" / "training.json").read_text()) == report.record


def test_it_learns(place, tmp_path):
    training = {"epochs": 12, "batch_size": 8, "learning_rate": 0.01}
    report = train(classification(place, training=training), tmp_path / "out")
    rows = opinions(37)
    texts, labels = [row["text"] for row in rows], [row["label"] for row in rows]
    before, after = (
        (predict(place / "bert", place / "head", texts, adapter=adapter).argmax(1) == labels).mean()
        for adapter in (None, tmp_path / "out")
    )
    assert after == 1.0
    assert before < 0.8
    assert report.record["final_epoch_loss"] < report.record["losses"][0][1]


def test_the_same_seed_gives_the_same_weights(place, tmp_path):
    first, again = (train(classification(place), tmp_path / name).out for name in ("one", "two"))
    training = {**classification(place)["training"], "seed": 1}
    other = train(classification(place, training=training), tmp_path / "three").out
    one, two, three = (tensors(folder) for folder in (first, again, other))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], three[name]) for name in one)


def test_full_fine_tuning_writes_a_model_of_the_bases_types(place, tmp_path):
    llama(tmp_path / "base", dtype=torch.bfloat16)
    content = causal(place, base=str(tmp_path / "base"))
    del content["adapter"]
    train(content, tmp_path / "out")
    base, tuned = (tensors(tmp_path / name, "model.safetensors") for name in ("base", "out"))
    assert base.keys() == tuned.keys()
    assert all(tensor.dtype == torch.bfloat16 for tensor in tuned.values())
    assert not any(torch.equal(base[name], tuned[name]) for name in base if "layernorm" not in name)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.config.num_hidden_layers == 2
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "out").eos_token == "<eos>"
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["dtype"] == "bfloat16"


def test_a_whole_encoder_keeps_what_it_does_not_train(place, tmp_path):
    content = classification(place)
    del content["adapter"]
    train(content, tmp_path / "out")
    base, tuned = tensors(place / "bert", "model.safetensors"), tensors(tmp_path / "out", "model.safetensors")
    assert base.keys() == tuned.keys()
    same = [name for name in base if torch.equal(base[name], tuned[name])]
    assert {name for name in same if "pooler" in name} == {name for name in base if "pooler" in name}
    assert not any("query.weight" in name for name in same)
    # The recipe switched no dropout off, nor does the saved configuration.
    assert json.loads((tmp_path / "out" / "config.json").read_text())["hidden_dropout_prob"] == 0.1


def test_rslora_layers_and_alpha(place, tmp_path):
    adapter = {
        "rank": 4,
        "alpha": 6.0,
        "rslora": True,
        "targets": "all-linear",
        "layers": [1],
        "dropout": 0.1,
    }
    train(causal(place, adapter=adapter), tmp_path / "out")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["use_rslora"], config["lora_alpha"], config["lora_dropout"]) == (True, 6, 0.1)
    names = tensors(tmp_path / "out")
    assert names
    assert all(".layers.1." in name for name in names)
    assert not any("lm_head" in name for name in names)
    assert {name.split(".")[-3] for name in names} == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    }  # fmt: skip


def test_precisions_one_after_another(place, tmp_path):
    """The libraries keep the precision of a process as global state; here each training has its own."""
    weights = {}
    for number, precision in enumerate(("bfloat16", "float32", "bfloat16")):
        training = {**classification(place)["training"], "precision": precision}
        out = train(classification(place, training=training), tmp_path / str(number)).out
        weights[number] = tensors(out)
        assert all(tensor.dtype == torch.float32 for tensor in weights[number].values())
    name = next(name for name in weights[0] if "lora_B" in name)
    assert torch.equal(weights[0][name], weights[2][name])
    assert not torch.equal(weights[0][name], weights[1][name])


def test_accumulation_is_a_larger_batch(place, tmp_path):
    """Every row has one label, so that the mean of the means of equal batches is the mean."""
    data = {"train": {"file": str(place / "opinions.jsonl"), "rows": 32}}
    shared = {"epochs": 1, "learning_rate": 0.01, "base_dropout": False, "group_by_length": False}
    whole, parts = (
        train(
            classification(
                place, data=data, training={**shared, "batch_size": batch, "accumulate": accumulate}
            ),
            tmp_path / f"{batch}",
        )
        for batch, accumulate in ((8, 1), (4, 2))
    )
    assert whole.record["steps"] == parts.record["steps"] == 4
    assert whole.record["samples_seen"] == parts.record["samples_seen"] == 32
    one, two = tensors(whole.out), tensors(parts.out)
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=1e-4, rtol=1e-3, msg=name)


def test_gradient_checkpointing_changes_no_weight(place, tmp_path):
    plain = {**classification(place)["training"], "base_dropout": False}
    for task, content in (("c", classification(place, training=plain)), ("l", causal(place))):
        again = {**content, "training": {**content["training"], "gradient_checkpointing": True}}
        one, two = (
            tensors(train(content, tmp_path / f"{task}1").out),
            tensors(train(again, tmp_path / f"{task}2").out),
        )
        for name, tensor in one.items():
            torch.testing.assert_close(two[name], tensor, atol=1e-5, rtol=1e-4, msg=name)


def test_the_best_checkpoint_is_kept(place, tmp_path):
    """The labels of the validation rows are the wrong way round: what is learnt makes them worse."""
    wrong = jsonl(tmp_path / "wrong.jsonl", [{**row, "label": 1 - row["label"]} for row in opinions(10)])
    data = {"train": {"file": str(place / "opinions.jsonl")}, "validation": {"file": str(wrong)}}
    training = {
        "steps": 8, "batch_size": 8, "learning_rate": 0.01, "evaluate_every": 2, "schedule": "constant",
        "snapshots": [2, 4, 6, 8], "base_dropout": False,
    }  # fmt: skip
    report = train(classification(place, data=data, training=training), tmp_path / "best")
    record = report.record
    assert [step for step, _ in record["validation"]] == [2, 4, 6, 8]
    best = min(record["validation"], key=lambda each: each[1])[0]
    assert record["best_step"] == best != 8, record["validation"]
    kept, snapshot = tensors(report.out), tensors(report.out / "snapshots" / f"step-{best}")
    assert all(torch.equal(kept[name], snapshot[name]) for name in kept)
    last = train(classification(place, data=data, training={**training, "keep": "last"}), tmp_path / "last")
    assert last.record["best_step"] is None
    kept, snapshot = tensors(last.out), tensors(last.out / "snapshots" / "step-8")
    assert all(torch.equal(kept[name], snapshot[name]) for name in kept)
    assert last.record["validation"] == record["validation"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_from_the_start_stops_the_training(place, tmp_path, value):
    base = llama(tmp_path / "base")
    weights = load_file(base / "model.safetensors")
    weights["model.norm.weight"][3] = value
    save_file(weights, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        carrick.CarrickError, match=r"the loss of the first step is (nan|inf), before anything"
    ):
        train(causal(place, base=str(base)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_chat_rows_go_through_the_template(place, tmp_path):
    base = llama(tmp_path / "base")
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ 'rain ' if m.role == 'user' else 'sun ' }}{{ m.content }}"
        "{{ ' <eos>' if m.role == 'assistant' else ' ' }}{% endfor %}{% if add_generation_prompt %}sun {% endif %}"
    )
    tokenizer.save_pretrained(base)
    data = {"train": {"file": str(place / "qa.jsonl")}, "chat": True}
    plain = train(causal(place, base=str(base)), tmp_path / "plain").record["data"]["train"]["tokens"]
    chat = train(causal(place, base=str(base), data=data), tmp_path / "chat").record["data"]["train"][
        "tokens"
    ]
    assert chat == plain + 2 * 22
