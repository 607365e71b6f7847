"""What cannot be evaluated is one clear error, before a model is loaded."""

from __future__ import annotations

import json
import shutil

import pytest

import carrick
from carrick.evaluate import language_model, run
from carrick.evaluate.report import read_report
from carrick.evaluate.tasks import files

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
    "a strange precision": (
        ["--tasks", "mgsm", "--precision", "fp8"],
        ["precision is `fp8`; it is one of auto, float32"],
    ),
    "a strange device": (
        ["--tasks", "mgsm", "--device", "tpu"],
        ["no device `tpu`; it is one of auto, cpu, cuda"],
    ),
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
    (tmp_path / "mgsm").mkdir()
    answer = command(llama, "--tasks", "mgsm", "--data", tmp_path)
    assert f"{tmp_path}/mgsm: no file of the task mgsm is there; that of `" in answer.err
    assert f"` is {tmp_path}/mgsm/mgsm_" in answer.err
    # The task's own folder will do as well.
    assert command("--list", "--data", data / "xcopa", "--json").json[7]["languages"] == ["it"]


PASSAGE = {
    "flores_passage": "P",
    "question": "?",
    "correct_answer_num": 1,
    **{f"mc_answer{n}": "a" for n in range(1, 5)},
}
PREMISE = {"premise": "P.", "choice1": "a", "choice2": "b", "question": "cause", "label": 0}
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
        ("[" * 100_000, "test.jsonl:1: the JSON here nests too deeply"),
        (
            '{"question": ' + "1" * 5000 + "}",
            "test.jsonl:1: the JSON here nests too deeply or holds a number",
        ),
        (
            r'{"question": "a\ud83d", "answer": "#### 1"}',
            "test.jsonl:1: `question` holds half of a surrogate pair",
        ),
        ('{"question": null, "answer": "#### 1"}', "test.jsonl:1: `question` is missing; it has to be text"),
        ('{"question": ["?"], "answer": "#### 1"}', "`question` is a list; it has to be text"),
        ('{"question": NaN, "answer": "#### 1"}', "`question` is nan; it has to be text"),
        # The line is that of the file, blank ones counted.
        (
            '\n{"question": "?", "answer": "#### 1"}\n\n{"question": "?"}',
            "test.jsonl:4: the row has no column",
        ),
    ],
    "gsm8k/train.jsonl": [
        ('{"question": "?", "answer": "one"}', "train.jsonl:1: the answer does not end in `#### `"),
    ],
    "msvamp/test_German.json": [
        ('[{"m_query": "?", "response": "zwölf"}]', "German.json:1: the answer `zwölf` is no number"),
        ('[{"m_query": "?", "response": 1},\n{"m_query": "?"', "German.json:2: this is no JSON"),
        ("[1]", "the list holds something else than objects"),
        ("[]", "the file has no rows"),
        ("[" * 100_000, "the JSON here nests too deeply"),
        ('[{"m_query": null, "response": 1}]', "`m_query` is missing"),
    ],
    "belebele/eng_Latn.jsonl": [
        ('{"text": "T"}', "no column `items`"),
        (
            '{"text": "T", "items": [{"question": "?", "answers": [{"text": "a", "correct": true}]}]}',
            "a question has 1 answers",
        ),
        ('{"text": "T", "items": 3}', "Latn.jsonl:1: `items` is no list of questions"),
        ('{"text": "T", "items": [{"question": "?"}]}', "`items` is no list of questions"),
        ('{"text": null, "items": []}', "`text` is missing; it has to be text"),
        (
            json.dumps({**PASSAGE, "correct_answer_num": "5"}),
            "`correct_answer_num` is '5'; it is a whole number from 1 to 4",
        ),
        (json.dumps({**PASSAGE, "correct_answer_num": 0}), "`correct_answer_num` is 0;"),
        (json.dumps({**PASSAGE, "mc_answer2": None}), "Latn.jsonl:1: `mc_answer2` is missing"),
        (json.dumps({"flores_passage": "P"}), "no column `question`"),
    ],
    "xcopa/it/test.it.jsonl": [
        (json.dumps({**PREMISE, "label": 2}), "it.jsonl:1: `label` is 2; it is a whole number from 0 to 1"),
        (json.dumps({**PREMISE, "label": True}), "`label` is True; it is a whole number"),
        (json.dumps({**PREMISE, "question": "why"}), "`question` is 'why'; it is cause or effect"),
        (json.dumps({**PREMISE, "choice1": ""}), "a choice is empty"),
    ],
    "xcopa/it/val.it.jsonl": [(json.dumps({**PREMISE, "label": -1}), "val.it.jsonl:1: `label` is -1")],
    "jcommonsenseqa/valid-v1.3.json": [
        (
            json.dumps({"question": "?", **{f"choice{n}": "a" for n in range(5)}, "label": 5}),
            "v1.3.json:1: `label` is 5; it is a whole number from 0 to 4",
        ),
    ],
    "mmlu_prox/es.jsonl": [
        (
            '{"question": "?", "option_0": "a", "answer": "K"}',
            "es.jsonl:1: the answer is 'K', not a letter from A to J",
        ),
        ('{"question": {}, "option_0": "a", "answer": "A"}', "es.jsonl:1: `question` is a dict"),
    ],
    "texts/en.jsonl": [('{"text": 1.5}\n{"text": []}', "en.jsonl:2: `text` is a list")],
    "texts/de.txt": [("\n \n", "de.txt: the file has no rows")],
    "supporting_examples/en.jsonl": [
        ('{"input": ["a", null]}', "en.jsonl:1: `input` is missing"),
        ('{"input": "a", "instruction": 3.5}\n{"input": {}}', "en.jsonl:2: `input` is a dict"),
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
    "wikilingua/en.jsonl": [
        ('{"summary": "s", "body": "b"}', "no column article, text or document"),
        ('{"summary": "s", "text": null}', "en.jsonl:1: `text` is missing"),
    ],
    "mcsqa/de.jsonl": [
        (
            '{"question": "?", "answerKey": "F", "choices": {"label": ["A"], "text": ["a"]}}',
            "has not five choices",
        ),
        (
            '{"question": "?", "answerKey": "A", "choices": "abcde"}',
            "de.jsonl:1: the row has not five choices",
        ),
    ],
}
TASKS = {
    "mgsm": "mgsm", "gsm8k": "gsm8k", "belebele": "belebele", "global_mmlu": "global_mmlu",
    "xlmt_sentiment": "sentiment", "wikilingua": "summarisation", "mcsqa": "mcsqa", "msvamp": "msvamp",
    "xcopa": "xcopa", "jcommonsenseqa": "jcommonsenseqa", "mmlu_prox": "mmlu_prox", "texts": "perplexity",
    "supporting_examples": "supporting_examples",
}  # fmt: skip


@pytest.mark.parametrize(
    ("path", "text", "message"), [(p, *each) for p, cases in BROKEN.items() for each in cases]
)
def test_broken_files(command, llama, data, tmp_path, path, text, message):  # noqa: PLR0917
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data" / path).write_text(text, "utf-8")
    task = TASKS[path.partition("/")[0]]
    names = {"de": ("de.", "erman"), "it": ("xcopa",), "ja": ("jcomm",), "es": ("/es.",)}
    language = next((name for name, parts in names.items() if any(part in path for part in parts)), "en")
    answer = command(llama, "--tasks", task, "--data", tmp_path / "data", "--languages", language)
    assert answer.code == 2
    assert message in answer.err


@pytest.mark.parametrize("task", ["mmlu_prox", "gsm8k"])
def test_files_that_hold_no_text(command, llama, data, tmp_path, task):
    shutil.copytree(data, tmp_path / "data")
    path = tmp_path / "data" / "gsm8k" / "test.jsonl"
    if task == "mmlu_prox":
        path = tmp_path / "data" / "mmlu_prox_lite_en" / "data-00000-of-00001.arrow"
        path.parent.mkdir()
        shutil.rmtree(tmp_path / "data" / "mmlu_prox")
    path.write_bytes(b"\xff\x00\x93" * 50)
    words = [llama, "--tasks", task, "--languages", "en", "--data", tmp_path / "data"]
    answer = command(*words)
    assert answer.code == 2
    assert f"{path}: " in answer.err
    assert ("is no Arrow file" if task == "mmlu_prox" else "is not UTF-8 text (byte 0)") in answer.err
    path.unlink()
    path.mkdir()
    answer = command(*words)
    assert (answer.code, answer.err.startswith("error: ")) == (2, True)
    assert path.name in answer.err


def test_rows_of_several_lines_stay_whole(tmp_path):
    """str.splitlines cuts at U+2028 and U+0085, which may stand in a JSON string."""
    path = tmp_path / "a.jsonl"
    path.write_bytes('{"text": "one\u2028two\x85three"}\r\n{"text": 4}\r\n'.encode())
    assert files.json_lines(path, [], ["text"]) == [{"text": "one\u2028two\x85three"}, {"text": "4"}]
    (tmp_path / "a.tsv").write_bytes("one\u2028two\t1\nthree\x85four\t2".encode())
    assert [row["q"] for row in files.tab_separated(tmp_path / "a.tsv", ["q", "n"])] == [
        "one\u2028two",
        "three\x85four",
    ]


def test_what_is_not_in_the_cache(command, llama, data):
    """`evaluate` has an option to download, and names it."""
    words = ["--tasks", "xcopa", "--data", data, "--device", "cpu"]
    for model in (["org/nowhere"], [llama, "org/nowhere"]):
        answer = command(*model, *words)
        assert answer.code == 2
        assert "org/nowhere: neither a local folder" in answer.err
        assert "--download" in answer.err
        assert "hf download" in answer.err
    scored = ["--tasks", "summarisation", "--languages", "en", "--bertscore", "org/nowhere"]
    assert "--download" in command(llama, "--data", data, *scored).err


def test_weights_that_cannot_be_read(command, llama, data, tmp_path):
    shutil.copytree(llama, tmp_path / "llama")
    weights = tmp_path / "llama" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    answer = command(tmp_path / "llama", "--tasks", "xcopa", "--data", data, "--device", "cpu")
    assert answer.code == 2
    assert "model.safetensors" in answer.err


def test_an_encoder_for_bertscore_that_is_none(command, llama, data, tmp_path):
    words = [llama, "--tasks", "summarisation", "--languages", "en", "--data", data, "--bertscore", tmp_path]
    answer = command(*words)
    assert answer.code == 2
    assert f"--bertscore: {tmp_path} is no encoder, for it holds no config.json" in answer.err
    (tmp_path / "config.json").write_text("{}")
    assert command(*words).code == 2  # nor weights


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
