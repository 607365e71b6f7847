"""What cannot be evaluated is one clear error, before a model is loaded."""

from __future__ import annotations

import shutil

import pytest

import carrick
from carrick.evaluate import language_model, run
from carrick.evaluate.report import read_report

pytest.importorskip("lm_eval")
pytest.importorskip("torch")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
]


@pytest.fixture(autouse=True)
def nothing_is_loaded(monkeypatch):
    def load(*_):
        raise AssertionError("the model was loaded before the request was checked")

    monkeypatch.setattr(language_model, "load_causal", load)


CASES = {
    "an unknown task": (["--tasks", "mgms"], ["there is no task `mgms`; did you mean `mgsm`?"]),
    "no task": (["--tasks", ","], ["name a task with --tasks"]),
    "an unknown language": (
        ["--tasks", "mgsm", "--languages", "dee"],
        ["no language `dee`", "did you mean `de`?"],
    ),
    "a language without a file": (
        ["--tasks", "mgsm", "--languages", "fr"],
        ["mgsm_fr.tsv: there is no such file", "it has bn, de, en, ja"],
    ),
    "no language of one of the tasks": (
        ["--tasks", "mgsm,xcopa", "--languages", "de"],
        ["the task xcopa has none of the languages asked for; it has it"],
    ),
    "more shots than there are": (
        ["--tasks", "mgsm", "--languages", "de", "--shots", "3"],
        ["3 worked examples", "for `de` there are 2"],
    ),
    "shots that nobody has": (["--tasks", "mmlu_prox", "--shots", "1"], ["there are 0"]),
    "no rows": (["--tasks", "mgsm", "--limit", "0"], ["`limit` is 0; it is at least 1"]),
    "a strange precision": (["--tasks", "mgsm", "--precision", "fp8"], ["precision `fp8` is not one"]),
    "a strange device": (["--tasks", "mgsm", "--device", "tpu"], ["device `tpu`"]),
    "BERTScore of nothing": (
        ["--tasks", "mgsm", "--bertscore", "x"],
        ["the task summarisation is not among"],
    ),
    "a precision that a head does not have": (
        ["--tasks", "sentiment", "--head", "x", "--precision", "float16"],
        ["with --head a model runs in float32 or bfloat16, not in float16"],
    ),
    "a head for what has no classes": (["--tasks", "mgsm", "--head", "x"], ["x holds no head"]),
}


@pytest.mark.parametrize("case", CASES)
def test_requests(command, llama, data, case):
    words, parts = CASES[case]
    answer = command(llama, "--data", data, "--device", "cpu", *words)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: ")
    for part in parts:
        assert part in answer.err


def test_no_gpu_where_one_is_demanded(command, llama, data, monkeypatch):
    import torch  # noqa: PLC0415

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    answer = command(llama, "--tasks", "xcopa", "--data", data, "--device", "cuda")
    assert answer.code == 2
    assert "torch finds no GPU" in answer.err


def test_an_adapter_of_another_base(command, llama, adapters, data):
    answer = command(llama, adapters[2], "--tasks", "xcopa", "--data", data, "--device", "cpu")
    assert answer.code == 2
    assert "q_proj" in answer.err
    assert "64" in answer.err
    assert "32" in answer.err


def test_models_that_are_none(command, llama, adapters, data, tmp_path):
    words = ["--tasks", "xcopa", "--data", data, "--device", "cpu"]
    answer = command(adapters[0], *words)
    assert "is an adapter; give its base first" in answer.err
    answer = command(tmp_path / "nothing", *words)
    assert (answer.code, "no such file or folder" in answer.err) == (2, True)
    (tmp_path / "empty").mkdir()
    assert "no config.json" in command(tmp_path / "empty", *words).err
    assert command("--data", data).code == 2
    answer = command(llama, *words, "--chat")
    assert "no chat template" in answer.err


def test_data_folders(command, llama, data, tmp_path):
    answer = command(llama, "--tasks", "xcopa", "--data", tmp_path / "nowhere")
    assert "there is no folder" in answer.err
    (tmp_path / "xcop").mkdir()
    answer = command(llama, "--tasks", "xcopa", "--data", tmp_path)
    assert "a folder xcopa below it, which is not there; did you mean `xcop`?" in answer.err
    # The task's own folder will do as well.
    assert command("--list", "--data", data / "xcopa", "--json").json[7]["languages"] == ["it"]


BROKEN = {
    "mgsm/mgsm_de.tsv": [
        ("Frage ohne Zahl", "de.tsv:1: the line has 1 fields between tabs, not 2"),
        ("Frage?\t12\nFrage?\tzwölf", "de.tsv:2: the answer `zwölf` is no number"),
    ],
    "gsm8k/test.jsonl": [
        (
            '{"question": "?", "anwser": "#### 1"}',
            "test.jsonl:1: the row has no column `answer`; did you mean `anwser`?",
        ),
        ('{"question": "?", "answer": "1"}', "does not end in `#### ` and a number"),
        ('{"question": "?"\n', "test.jsonl:1: the line is no JSON"),
        ("[1]\n", "test.jsonl:1: the line is no JSON object"),
        ("", "the file has no rows"),
    ],
    "belebele/eng_Latn.jsonl": [
        ('{"text": "T"}', "no column `items`"),
        (
            '{"text": "T", "items": [{"question": "?", "answers": [{"text": "a", "correct": true}]}]}',
            "a question has 1 answers",
        ),
    ],
    "global_mmlu/global_mmlu_dev_en.json": [
        (
            '{"question": "?", "option_a": "", "option_b": "", "option_c": "", "option_d": "", "answer": "E"}',
            "the answer is 'E', not A, B, C or D",
        ),
    ],
    "xlmt_sentiment/german/test_labels.txt": [
        ("0\n1\n2", "test_labels.txt beside it 3"),
        ("0\n1\n2\n0\n1\n3", "test_labels.txt:6: the label is '3'"),
    ],
    "wikilingua/en.jsonl": [('{"summary": "s", "body": "b"}', "no column article, text or document")],
    "mcsqa/de.jsonl": [
        (
            '{"question": "?", "answerKey": "F", "choices": {"label": ["A"], "text": ["a"]}}',
            "has not five choices",
        )
    ],
}
TASKS = {
    "mgsm": "mgsm", "gsm8k": "gsm8k", "belebele": "belebele", "global_mmlu": "global_mmlu",
    "xlmt_sentiment": "sentiment", "wikilingua": "summarisation", "mcsqa": "mcsqa",
}  # fmt: skip


@pytest.mark.parametrize(
    ("path", "text", "message"), [(p, *each) for p, cases in BROKEN.items() for each in cases]
)
def test_broken_files(command, llama, data, tmp_path, path, text, message):  # noqa: PLR0917
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data" / path).write_text(text, "utf-8")
    task = TASKS[path.partition("/")[0]]
    language = "de" if "de." in path or "german" in path else "en"
    answer = command(llama, "--tasks", task, "--data", tmp_path / "data", "--languages", language)
    assert answer.code == 2
    assert message in answer.err


def test_a_missing_extra(command, llama, data, monkeypatch):
    from carrick import extras  # noqa: PLC0415

    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "lm_eval" else object())
    answer = command(llama, "--tasks", "xcopa", "--data", data)
    assert answer.code == 2
    assert "`carrick evaluate` needs lm_eval" in answer.err
    assert "pip install 'carrick[evaluate]'" in answer.err


def test_results_are_not_replaced_by_accident(tmp_path):
    with pytest.raises(carrick.ConfigError, match="something else than results"):
        run.check_out(tmp_path.parent, force=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(carrick.ConfigError, match="is a file"):
        run.check_out(tmp_path / "file", force=False)
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(carrick.ConfigError, match="no result of `carrick evaluate`"):
        read_report(tmp_path)


def test_tasks_of_the_hub_need_a_network(command, llama, monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError("no network\nand more")

    import datasets  # noqa: PLC0415

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    answer = command(llama, "--tasks", "mgsm", "--languages", "de")
    assert answer.code == 2
    assert (
        "juletxara/mgsm: the data set cannot be had from the Hub (no network); give local files" in answer.err
    )
    assert (
        "reads local files: give --data"
        in command(llama, "--tasks", "supporting_examples", "--languages", "en").err
    )
