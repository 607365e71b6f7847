"""Whole evaluations of tiny random models: checkpoints, adapters, heads, perplexity; results on disk; the command."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest

import carrick
from carrick.evaluate import evaluate, read_report
from carrick.evaluate.model import find_subject, load_causal

from .conftest import with_nan
from .rigged import Rigged

pytest.importorskip("lm_eval")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
CPU = torch.device("cpu")


def logits(folder, *adapters):
    model, tokenizer = load_causal(find_subject(folder, adapters), CPU)
    with torch.inference_mode():
        return (
            model(input_ids=torch.tensor([tokenizer("a few words of text")["input_ids"]])).logits[0].numpy()
        )


def test_several_adapters_are_what_a_merge_makes_of_them(llama, adapters, tmp_path):
    german, mathematics, _ = adapters
    base = logits(llama)
    found = logits(llama, german, f"{mathematics}:0.5")
    carrick.adapters.apply(llama, [str(german), f"{mathematics}:0.5"], tmp_path / "merged")
    assert np.abs(found - logits(tmp_path / "merged")).max() < 1e-4
    assert np.abs(found - base).max() > 0.1
    assert np.abs(logits(llama, german) - found).max() > 0.1
    assert np.array_equal(logits(f"{llama}+{german}+{mathematics}:0.5"), found)


def test_choices_are_scored_by_the_models_own_probabilities(llama, adapters, data):
    """The log-likelihoods of the harness, with two adapters active, against a plain forward pass."""
    german, mathematics, _ = adapters
    report = evaluate(
        llama, [german, mathematics], tasks=["xcopa"], data=data, languages=["it"], device="cpu", batch_size=3
    )
    (result,) = report.results
    model, tokenizer = load_causal(find_subject(llama, [german, mathematics]), CPU)
    expected = []
    for place, connector in enumerate(["perché", "quindi"]):
        opening = tokenizer(f"L'ufficio era chiuso {connector}")["input_ids"]
        found = []
        for choice in (" era vacanza.", " era estate."):
            ending = tokenizer(choice)["input_ids"]
            with torch.inference_mode():
                logp = model(input_ids=torch.tensor([opening + ending])).logits[0].double().log_softmax(-1)
            start = len(opening) - 1
            found.append(sum(float(logp[start + n, token]) for n, token in enumerate(ending)))
        assert result.samples[place]["answer"] == pytest.approx(found, abs=1e-3)
        expected.append(float(np.argmax(found) == place))
    assert result.score.value == np.mean(expected)
    assert report.model == f"{llama}+{german}+{mathematics}"


def test_everything_at_once_on_disk_and_read_again(llama, data, tmp_path):
    tasks = ["mgsm", "belebele", "sentiment", "perplexity"]
    seen = []
    report = evaluate(
        llama, tasks=tasks, data=data, languages=["de", "en"], limit=2, max_new_tokens=4, device="cpu",
        out=tmp_path / "out", progress=lambda done, total, name: seen.append((done, total, name)),
    )  # fmt: skip
    assert report.tasks == tasks
    assert [(each.task, each.language) for each in report.results] == [
        (task, language) for task in tasks for language in ("de", "en")
    ]
    assert all(each.rows == 2 for each in report.results)
    assert seen[0] == (0, 8, f"loading {llama}")
    assert seen[1] == (0, 8, "mgsm de")
    assert seen[-1] == (8, 8, "")
    for task in tasks:
        values = [each.score.value for each in report.of(task)]
        assert report.overall(task)[report.of(task)[0].metric].value == pytest.approx(np.mean(values))
    read = read_report(tmp_path / "out")
    assert read.to_dict() == report.to_dict()
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == sorted(
        f"{task}.png" for task in tasks
    )
    samples = (tmp_path / "out" / "samples" / "mgsm_de.jsonl").read_text().splitlines()
    assert json.loads(samples[1])["target"] == "2,125"
    text = (tmp_path / "out" / "results.json").read_text()
    assert json.loads(text)["settings"]["limit"] == 2
    with pytest.raises(carrick.ConfigError, match="holds results already"):
        evaluate(llama, tasks=tasks, data=data, device="cpu", out=tmp_path / "out")


def test_perplexity_is_that_of_the_text(llama, data):
    report = evaluate(llama, tasks=["perplexity"], data=data, languages=["de"], device="cpu")
    (result,) = report.results
    model, tokenizer = load_causal(find_subject(llama), CPU)
    total, count = 0.0, 0
    for text in ("Ein Satz.", "Noch einer."):
        ids = torch.tensor([[0, *tokenizer(text, add_special_tokens=False)["input_ids"]]])
        with torch.inference_mode():
            loss = model(input_ids=ids, labels=ids).loss
        total, count = total + float(loss) * (ids.shape[1] - 1), count + ids.shape[1] - 1
    assert result.score.value == pytest.approx(math.exp(total / count), rel=1e-5)
    assert result.scores["nll_per_token"].value == pytest.approx(total / count, rel=1e-5)


def test_the_standard_error_of_the_mean_over_languages(llama, data):
    report = evaluate(llama, tasks=["sentiment"], data=data, device="cpu")
    errors = [each.score.standard_error for each in report.results]
    assert len(errors) == 2
    assert report.overall("sentiment")["macro_f1"].standard_error == pytest.approx(np.hypot(*errors) / 2)


def test_answers_leave_room_for_the_question(llama, data):
    report = evaluate(
        llama, tasks=["mgsm"], data=data, languages=["de"], limit=1, max_length=64, device="cpu"
    )
    assert any("answers are cut at 32 tokens" in text for text in report.notes)


@pytest.mark.parametrize(("task", "language"), [("mgsm", "de"), ("xcopa", "it")])
def test_prompts_that_are_cut_are_counted(llama, data, task, language):
    """A token of this model is a byte, so a prompt's length is known without a tokenizer."""
    chosen = {"tasks": [task], "languages": [language], "data": data, "device": "cpu", "max_new_tokens": 4}
    rigged = Rigged(write=lambda _: "", choose=lambda _: 0)
    evaluate(rigged, **chosen)
    if task == "mgsm":  # the answer takes four tokens
        needed = [len(prompt.encode()) + 4 for prompt in rigged.prompts]
    else:  # the last token is predicted and not seen
        texts = zip(rigged.prompts, rigged.choices, strict=True)
        needed = [max(len((prompt + each).encode()) for each in several) - 1 for prompt, several in texts]
    for length in (max(needed), max(needed) - 1, min(needed) - 1):
        report = evaluate(llama, **chosen, max_length=length)
        found = [text for text in report.notes if "cut off" in text]
        count = sum(each > length for each in needed)
        assert len(found) == (count > 0)
        assert all(f"of {count} of {len(needed)} rows" in text for text in found)


def test_bertscore_beside_rouge(llama, encoder, data):
    report = evaluate(
        llama, tasks=["summarisation"], data=data, languages=["en"], max_new_tokens=8, device="cpu",
        bertscore=encoder,
    )  # fmt: skip
    (result,) = report.results
    assert {"rouge1", "rougeL", "rougeL_english", "bertscore"} <= set(result.scores)
    assert "bertscore" in result.samples[0]["scores"]


def test_an_encoder_is_no_language_model(encoder, data):
    with pytest.raises(carrick.ConfigError, match="is no causal language model"):
        evaluate(encoder, tasks=["xcopa"], data=data, device="cpu")


def test_other_shapes_than_the_config_asks_for(llama, data, tmp_path):
    shutil.copytree(llama, tmp_path / "llama")
    config = json.loads((llama / "config.json").read_text())
    (tmp_path / "llama" / "config.json").write_text(json.dumps({**config, "intermediate_size": 40}))
    with pytest.raises(
        carrick.ConfigError, match=r"is stored as \[32, 48\], and its config.json asks for \[32, 40\]"
    ):
        evaluate(tmp_path / "llama", tasks=["xcopa"], data=data, device="cpu")


@pytest.mark.parametrize("value", ["four", 0])
def test_a_malformed_config(llama, data, tmp_path, value):
    shutil.copytree(llama, tmp_path / "llama")
    config = json.loads((llama / "config.json").read_text())
    (tmp_path / "llama" / "config.json").write_text(json.dumps({**config, "num_attention_heads": value}))
    with pytest.raises(carrick.ConfigError, match=r"the config.json of .*llama is malformed: "):
        evaluate(tmp_path / "llama", tasks=["xcopa"], data=data, device="cpu")


def test_a_model_of_nan_answers_nothing_and_says_so(llama, data, tmp_path):
    """By argmax the first choice would be right by chance: NaN is the greatest to it."""
    model = with_nan(llama, "model.norm.weight", tmp_path / "nan")
    report = evaluate(
        model,
        tasks=["xcopa", "perplexity"],
        languages=["it", "de"],
        data=data,
        device="cpu",
        out=tmp_path / "out",
    )
    assert [text.partition(";")[0] for text in report.notes if "NaN" in text] == [
        "xcopa_it: for 2 of 2 rows the model gives no numbers (NaN), so that its scores mean nothing",
        "perplexity_de: for 2 of 2 rows the model gives no numbers (NaN), so that its scores mean nothing",
    ]
    assert report.of("xcopa")[0].score.value == 0.0
    assert math.isnan(report.of("perplexity")[0].score.value)
    assert read_report(tmp_path / "out").notes == report.notes
    sound = evaluate(llama, tasks=["xcopa"], data=data, device="cpu")
    assert not any("NaN" in text for text in sound.notes)


def test_no_more_tokens_than_there_are_positions(llama, data, tmp_path):
    config = transformers.GPT2Config(vocab_size=259, n_positions=128, n_embd=16, n_layer=1, n_head=2)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    transformers.AutoTokenizer.from_pretrained(llama).save_pretrained(tmp_path / "gpt2")
    chosen = {"tasks": ["xcopa"], "data": data, "device": "cpu"}
    with pytest.raises(
        carrick.ConfigError, match=r"`max_length` is 129; .*gpt2 has positions for 128 tokens, choose"
    ):
        evaluate(tmp_path / "gpt2", **chosen, max_length=129)
    assert evaluate(tmp_path / "gpt2", **chosen, max_length=128).results


def test_the_command(command, llama, adapters, data, tmp_path):
    words = [llama, adapters[0], "--tasks", "xcopa,belebele", "--data", data, "--device", "cpu"]
    answer = command(*words, "--json", "--out", tmp_path / "out")
    assert answer.code == 0, answer.err
    assert [(each["task"], each["language"]) for each in answer.json["results"]] == [
        ("xcopa", "it"),
        ("belebele", "de"),
        ("belebele", "en"),
    ]
    assert (tmp_path / "out" / "belebele.png").read_bytes().startswith(b"\x89PNG")
    table = command(*words)
    assert table.code == 0
    assert all(len(line) <= 100 for line in table.out.splitlines()[1:])
    assert "overall" in table.out
    assert ": 2 tasks in 3 languages, " in table.out
    again = command(*words, "--out", tmp_path / "out")
    assert again.code == 2
    assert "--force" in again.err
    assert command(*words, "--out", tmp_path / "out", "--force").code == 0


def test_without_matplotlib_the_command_says_so(command, llama, data, tmp_path, monkeypatch):
    from carrick.evaluate import output  # noqa: PLC0415

    monkeypatch.setattr(output, "find_spec", lambda _: None)
    words = [llama, "--tasks", "xcopa", "--data", data, "--device", "cpu"]
    answer = command(*words, "--out", tmp_path / "out")
    assert answer.code == 0, answer.err
    assert "charts were not drawn" in answer.err
    assert "carrick[plot]" in answer.err
    assert f"results and answers are in {tmp_path / 'out'}" in answer.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["results.json", "samples"]
    assert any("not drawn" in text for text in read_report(tmp_path / "out").notes)
    assert "charts" not in command(*words).err


def test_the_list(command, data):
    answer = command("--list", "--data", data, "--json")
    assert answer.code == 0
    assert {each["task"]: each["languages"] for each in answer.json}["sentiment"] == ["de", "en"]
    assert all(len(line) <= 100 for line in command("--list").out.splitlines())


def test_published_rows_with_a_real_run(llama, shared):
    report = evaluate(
        llama, tasks=["mgsm", "belebele", "global_mmlu", "mmlu_prox"], data=shared / "data",
        languages=["en", "ja", "sw"], limit=1, shots=0, max_new_tokens=4, device="cpu",
    )  # fmt: skip
    assert [(each.task, each.language) for each in report.results] == [
        ("mgsm", "en"), ("mgsm", "ja"), ("mgsm", "sw"), ("belebele", "en"), ("global_mmlu", "en"),
        ("global_mmlu", "ja"), ("mmlu_prox", "en"),
    ]  # fmt: skip
