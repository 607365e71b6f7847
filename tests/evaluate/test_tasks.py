"""Every task on made-up rows: prompts word for word, and the right scores for answers that are known."""

from __future__ import annotations

import json

import pytest

from carrick.evaluate import evaluate
from carrick.evaluate.tasks.catalogue import FAMILIES, PERPLEXITY, yaml_file
from evaluate import rows
from evaluate.rigged import Rigged

pytest.importorskip("lm_eval")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]


def run(lm, data, task, language, **options):
    report = evaluate(lm, tasks=[task], data=data, languages=[language], device="cpu", **options)
    (result,) = report.results
    return result


@pytest.mark.parametrize("language", ["bn", "de", "en", "ja"])
def test_mgsm(data, language):
    end = rows.SHOTS[language][2]
    answers = [end.format(18), end.format("2125"), "…"]
    lm = Rigged(write=lambda doc: f"5 + 6 = 11. {answers[rows.NUMBERS.index(doc['answer_number'])]}")
    found = run(lm, data, "mgsm", language)
    assert (found.rows, found.shots, found.metric) == (3, 2, "exact_match")
    assert found.score.value == pytest.approx(2 / 3)
    assert found.score.standard_error == pytest.approx((2 / 9 / 2) ** 0.5)  # √(s²/n), s² = p(1-p)·n/(n-1)
    assert found.scores["flexible_match"].value == pytest.approx(2 / 3)
    ask, reply, _ = rows.SHOTS[language]
    assert lm.prompts[0] == (
        f"{ask}1 + 1?\n{reply.strip()} 1 + 1. {end.format(2)}\n\n"
        f"{ask}2 + 1?\n{reply.strip()} 2 + 1. {end.format(3)}\n\n"
        f"{ask}{rows.QUESTIONS[language][0]}\n{reply.strip()}"
    )
    assert ask.strip() in lm.until


@pytest.mark.parametrize("language", ["bn", "de", "en"])
def test_mgsm_asks_as_the_harness_does(data, language):
    """The prompt of our YAML file is, letter by letter, that of the harness's mgsm_native_cot task."""
    from pathlib import Path  # noqa: PLC0415

    import lm_eval.tasks  # noqa: PLC0415
    from datasets import Dataset  # noqa: PLC0415
    from lm_eval.api.task import ConfigurableTask  # noqa: PLC0415
    from lm_eval.tasks._yaml_loader import load_yaml  # noqa: PLC0415

    folder = Path(lm_eval.tasks.__file__).parent / "mgsm" / "native_cot"
    config = load_yaml(folder / f"mgsm_native_cot_{language}.yaml", resolve_func=True)
    exemplars = json.loads((data / "mgsm" / "exemplars.json").read_text())["MGSM_EXEMPLARS"][language]
    shots = [{"question": each["q"], "answer": each["a"], "answer_number": 0} for each in exemplars.values()]
    asked = [{"question": rows.QUESTIONS[language][0], "answer": None, "answer_number": 18}]
    splits = {"train": Dataset.from_list(shots), "test": Dataset.from_list(asked)}
    theirs = ConfigurableTask(
        config={
            **{key: value for key, value in config.items() if key != "tag"},
            "custom_dataset": lambda **_: splits,
            "fewshot_split": "train",
            "fewshot_config": {"sampler": "first_n"},
            "num_fewshot": 2,
        }
    )
    lm = Rigged(write=lambda _: "")
    run(lm, data, "mgsm", language, limit=1)
    assert lm.prompts == [theirs.fewshot_context(asked[0], 2)]


def test_the_harness_counts_wrong_points_as_right(data):
    """Where ours and the harness's exact match part: 21.25 is not 2125."""
    from lm_eval.api.metrics import exact_match_hf_evaluate  # noqa: PLC0415

    theirs = exact_match_hf_evaluate(
        references=["2125"], predictions=["21.25"], ignore_case=True, ignore_punctuation=True
    )
    assert theirs["exact_match"] == 1.0
    lm = Rigged(write=lambda _: "The answer is 21.25.")
    assert run(lm, data, "mgsm", "en").score.value == 0.0
    lm = Rigged(write=lambda _: "The answer is 2125.")
    assert run(lm, data, "mgsm", "en").score.value == pytest.approx(1 / 3)


def test_mgsm_direct_msvamp_and_gsm8k(data):
    lm = Rigged(write=lambda doc: doc["answer_number"])
    found = run(lm, data, "mgsm_direct", "de", shots=1)
    assert found.score.value == 1.0
    assert lm.prompts[0] == "Frage: 1 + 1?\nAnswer: 2\n\nFrage: Wie viele Äpfel sind es?\nAnswer:"

    lm = Rigged(write=lambda _: "Die Antwort lautet 2.125.")  # of 18.0, 2125.0 and 7.0
    found = run(lm, data, "msvamp", "de")
    assert found.score.value == pytest.approx(1 / 3)
    assert lm.prompts[0].startswith("Frage: 1 + 1?\nSchritt-für-Schritt-Antwort: 1 + 1.")

    lm = Rigged(write=lambda doc: "2 + 2 = 4. 1\n#### 1" if "0 + 1" in doc["question"] else "so 2")
    found = run(lm, data, "gsm8k", "en", shots=2)
    assert found.scores["exact_match"].value == pytest.approx(1 / 3)
    assert found.scores["flexible_match"].value == pytest.approx(2 / 3)
    shots = "".join(
        f"Question: What is {n} + 1?\nAnswer: {n} + 1 = {n + 1}\n#### {n + 1}\n\n" for n in (3, 4)
    )
    assert lm.prompts[0] == f"{shots}Question: What is 0 + 1?\nAnswer:"


CHOICES = {
    ("belebele", "en"): (
        "P: Passage 0.\nQ: Question 0?\nA: answer 0\nB: answer 1\nC: answer 2\nD: answer 3\nAnswer:",
        [" A", " B", " C", " D"],
    ),
    ("global_mmlu", "en"): ("Q0\nA. a0\nB. b0\nC. c0\nD. d0\nAnswer:", [" A", " B", " C", " D"]),
    ("xcopa", "it"): ("L'ufficio era chiuso perché", [" era vacanza.", " era estate."]),
    ("jcommonsenseqa", "ja"): (
        "質問0\nA. 答0\nB. 答1\nC. 答2\nD. 答3\nE. 答4\nAnswer:",
        [" A", " B", " C", " D", " E"],
    ),
    ("mcsqa", "de"): (
        "Frage 0?\nA. Antwort 0\nB. Antwort 1\nC. Antwort 2\nD. Antwort 3\nE. Antwort 4\nAnswer:",
        [" A", " B", " C", " D", " E"],
    ),
}


@pytest.mark.parametrize(("task", "language"), CHOICES)
def test_choices(data, task, language):
    lm = Rigged(choose=lambda doc: doc["gold"])
    found = run(lm, data, task, language)
    assert found.score.value == 1.0
    assert (lm.prompts[0], lm.choices[0]) == CHOICES[task, language]
    # The rows have the right answers 0, 1 (and 2) in this order.
    found = run(Rigged(choose=lambda _: 0), data, task, language)
    assert found.score.value == pytest.approx(1 / found.rows)


def test_shots_of_choices(data):
    lm = Rigged(choose=lambda doc: doc["gold"])
    run(lm, data, "xcopa", "it", shots=1, limit=1)
    assert lm.prompts == ["L'ufficio era chiuso perché era vacanza.\n\nL'ufficio era chiuso perché"]
    lm = Rigged(choose=lambda doc: doc["gold"])
    run(lm, data, "belebele", "de", shots=1, limit=1)
    # Belebele has a test split alone: the shot is its first row but the asked one.
    assert lm.prompts[0].startswith("P: Passage 1.\nQ: Question 1?")
    assert "D: answer 3\nAnswer: B\n\nP: Passage 0." in lm.prompts[0]


def exam(names, folder):
    """Write files of Global-MMLU whose questions say which file they are of."""
    for name in names:
        found = [
            {"question": f"{name} {n}", "answer": "ABCD"[n], **{f"option_{c}": c for c in "abcd"}}
            for n in range(3)
        ]
        rows.lines(folder / "global_mmlu" / f"{name}.jsonl", found)
    return folder


@pytest.mark.parametrize(
    ("names", "asked", "shown"),
    [
        (["de_dev", "de_test"], "de_test", "de_dev"),
        (["dev_de", "test_de"], "test_de", "dev_de"),
        (["global_mmlu_dev_de", "global_mmlu_test_de"], "global_mmlu_test_de", "global_mmlu_dev_de"),
        (["de", "de_dev"], "de", "de_dev"),
        (["de", "de_test", "de_dev"], "de", "de_dev"),
        (["de_dev", "de_full"], "de_full", "de_dev"),
        (["de"], "de", None),
        (["de_dev"], "de_dev", None),
        (["de_dev", "dev_de"], "de_dev", None),
    ],
)
def test_dev_rows_of_global_mmlu_are_shots(tmp_path, names, asked, shown):
    data = exam(names, tmp_path)
    lm = Rigged(choose=lambda doc: doc["gold"])
    report = evaluate(lm, tasks=["global_mmlu"], data=data, languages=["de"], device="cpu", shots=1)
    assert [prompt.split("\n\n")[1].partition("\n")[0] for prompt in lm.prompts] == [
        f"{asked} {n}" for n in range(3)
    ]
    first = [prompt.partition("\n")[0] for prompt in lm.prompts]
    if shown is None:  # test rows, but never the asked one, and a note says so
        assert first == [f"{asked} {n}" for n in (1, 0, 0)]
        assert any("are the first test rows but the one that is asked" in text for text in report.notes)
    else:
        assert first == [f"{shown} 0"] * 3
        assert report.notes == ()
    plain = evaluate(lm, tasks=["global_mmlu"], data=data, languages=["de"], device="cpu")
    assert plain.notes == ()


def test_mmlu_prox(data):
    answers = {"A": "Pensemos. La respuesta es (A).", "B": "la respuesta es B", "C": "no lo sé"}
    lm = Rigged(write=lambda doc: answers[doc["answer"]])
    found = run(lm, data, "mmlu_prox", "es")
    assert found.score.value == pytest.approx(2 / 3)
    assert found.scores["outside"].value == pytest.approx(1 / 3)
    assert "Las siguientes son preguntas de opción múltiple (con respuestas) sobre math." in lm.prompts[0]
    assert 'termine su respuesta con "La respuesta es (X)"' in lm.prompts[0]
    assert lm.prompts[0].endswith(
        "Pregunta:\n¿Qué es 0?\nOpciones:\nA. opción 0\nB. opción 1\nC. opción 2\nRespuesta: Pensemos paso a paso."
    )


def test_sentiment_by_likelihood(data):
    # Right 0 1 2 0 1 2, answered 0 2 2 0 2 2: F1 of the classes 1, 0 and 4/6.
    lm = Rigged(choose=lambda doc: [0, 2, 2][doc["gold"]])
    found = run(lm, data, "sentiment", "de")
    assert found.score.value == pytest.approx((1 + 0 + 2 / 3) / 3)
    assert found.scores["macro_precision"].value == pytest.approx((1 + 0 + 0.5) / 3)
    assert found.scores["macro_recall"].value == found.scores["accuracy"].value == pytest.approx(2 / 3)
    assert found.score.standard_error > 0
    assert lm.prompts[0] == "Text: schlecht\nSentiment:"
    assert lm.choices[0] == [" negative", " neutral", " positive"]


def test_sentiment_by_generation(data):
    said = ["Negative", "no idea", "positive!"]
    found = run(Rigged(write=lambda doc: said[doc["gold"]]), data, "sentiment_generation", "en")
    assert found.scores["outside"].value == pytest.approx(1 / 3)
    assert found.scores["accuracy"].value == pytest.approx(2 / 3)
    assert found.score.value == pytest.approx(2 / 3)


def test_summaries(data):
    lm = Rigged(write=lambda doc: doc["summary"])
    found = run(lm, data, "summarisation", "ja")
    assert [found.scores[name].value for name in ("rouge1", "rouge2", "rougeL")] == [1.0, 1.0, 1.0]
    assert found.scores["rougeL_english"].value == 0.0
    assert lm.prompts[0].endswith("猫がソファーで寝ています。犬は外です。\n\nSummary:")
    found = run(Rigged(write=lambda _: "the cat"), data, "summarisation", "en")
    assert found.score.value == found.scores["rougeL_english"].value == pytest.approx(0.8)


def test_supporting_examples(data):
    said = {
        "The bus was late.": "- the bus was late\n- The bus was late.\n- no bus",
        "No food.": '1. "Bad seats"',
    }
    lm = Rigged(write=lambda doc: said[doc["input"][0]])
    found = run(lm, data, "supporting_examples", "en")
    assert found.score.value == 1 / 4
    assert found.scores["hallucination_exact"].value == 2 / 4
    assert lm.prompts[1] == "No food.\nBad seats.\n\nQuote.\n\n"
    silent = run(Rigged(write=lambda _: ""), data, "supporting_examples", "en")
    assert silent.to_dict()["scores"]["hallucination"]["value"] is None


def test_the_harness_agrees_on_the_means(data):
    """The YAML files alone, run by the harness's own command path, give the same scores."""
    from lm_eval import simple_evaluate  # noqa: PLC0415
    from lm_eval.tasks import TaskManager  # noqa: PLC0415

    answer = Rigged(choose=lambda doc: [0, 2, 2][doc["gold"]])
    manager = TaskManager(
        include_path=str(yaml_file("sentiment").parent),
        include_defaults=False,
        metadata={"data": str(data), "language": "de"},
    )
    theirs = simple_evaluate(answer, tasks=["sentiment"], task_manager=manager, bootstrap_iters=100)
    ours = run(Rigged(choose=lambda doc: [0, 2, 2][doc["gold"]]), data, "sentiment", "de")
    found = theirs["results"]["sentiment"]
    assert found["accuracy,none"] == pytest.approx(ours.scores["accuracy"].value)
    assert found["accuracy_stderr,none"] == pytest.approx(ours.scores["accuracy"].standard_error)
    assert found["macro_f1,none"] == pytest.approx(ours.scores["macro_f1"].value)


def test_every_task_has_its_yaml_and_is_tried_here():
    names = {path.stem for path in yaml_file("mgsm").parent.glob("*.yaml")}
    assert names == set(FAMILIES) - {PERPLEXITY.name}


@pytest.mark.parametrize(
    ("task", "language"),
    [
        *(("mgsm", code) for code in ("bn", "de", "en", "es", "fr", "ja", "ru", "sw", "te", "th", "zh")),
        *(("msvamp", code) for code in ("bn", "de", "en", "es", "sw")),
        *(("xcopa", code) for code in ("et", "ht", "id", "it", "qu", "sw", "ta", "th", "tr", "vi", "zh")),
        ("gsm8k", "en"),
        ("belebele", "de"),
        ("belebele", "en"),
        ("global_mmlu", "en"),
        ("global_mmlu", "ja"),
        ("mmlu_prox", "en"),
        ("jcommonsenseqa", "ja"),
        ("sentiment", "de"),
        ("sentiment", "hi"),
    ],
)
def test_published_rows(shared, task, language):
    """Rows of the published files are read, and their own right answers score 1."""
    from carrick.evaluate.metrics.answers import PHRASES  # noqa: PLC0415
    from carrick.evaluate.tasks import gsm8k, mgsm, mmlu_prox  # noqa: PLC0415

    family = FAMILIES[task]
    splits = family.rows(shared / "data", language)
    expected = {
        "mgsm": 250, "msvamp": 1000, "xcopa": 500, "gsm8k": 1319, "belebele": 900, "global_mmlu": 285,
        "mmlu_prox": 588, "jcommonsenseqa": 1119, "sentiment": 870,
    }  # fmt: skip
    assert len(splits["test"]) == expected[task]
    if task in {"mgsm", "msvamp"}:
        said = PHRASES[language].replace(r"\s*", " ").replace("(?:", "(").split("(")[0].split("[")[0]
        for row in splits["test"]:
            tail = "— " if language == "ru" else " "
            phrase = "উত্তর হল" if language == "bn" else said + ("lautet" if language == "de" else "")
            assert mgsm.score(row, [f"{phrase}{tail}{row['answer_number']}."])["exact_match"] == 1.0
    elif task == "gsm8k":
        assert all(gsm8k.score(row, [row["worked"]])["exact_match"] for row in splits["test"])
    elif task == "mmlu_prox":
        assert all(
            mmlu_prox.score(row, [f"so the answer is ({row['answer']})."])["exact_match"]
            for row in splits["test"]
        )
    else:
        counts = {row["gold"] for row in splits["test"]}
        assert counts == set(range({"xcopa": 2, "jcommonsenseqa": 5, "sentiment": 3}.get(task, 4)))
