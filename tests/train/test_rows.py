"""Rows from files: formats, columns, filters, seeded choices, mixing ratios, validation, errors with their line."""

from __future__ import annotations

import csv
import hashlib
import json

import pytest

from carrick.errors import ConfigError
from carrick.train.data_recipe import Data
from carrick.train.rows import read_rows
from train.tiny import jsonl

LANGUAGES = ("en", "de", "fr")


def data(**content):
    return Data.model_validate(content)


def sentences(language, count):
    return [
        {"text": f"{language} {number}", "label": number % 2, "language": language} for number in range(count)
    ]


@pytest.fixture
def files(tmp_path):
    for language in LANGUAGES:
        jsonl(tmp_path / f"{language}.jsonl", sentences(language, 20))
    jsonl(tmp_path / "all.jsonl", [row for language in LANGUAGES for row in sentences(language, 20)])
    return tmp_path


def source(files, name, **more):
    return {"file": str(files / name), **more}


def texts(rows):
    return [row.text for row in rows.examples]


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_formats_hold_the_same_rows(tmp_path, kind):
    rows = [('say "hi", you', "yes, \u2028 it is"), ("a, b", "ö")]
    path = tmp_path / f"rows.{kind}"
    if kind == "jsonl":
        jsonl(path, [{"q": q, "a": a} for q, a in rows])
    elif kind == "json":
        path.write_text(json.dumps([{"q": q, "a": a} for q, a in rows]))
    elif kind == "csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("q", "a"), *rows])
    elif kind == "tsv":
        path.write_text("q\ta\n" + "\n".join("\t".join(row) for row in rows), encoding="utf-8")
    else:
        pq = pytest.importorskip("pyarrow.parquet")
        pa = pytest.importorskip("pyarrow")
        pq.write_table(pa.table({"q": [q for q, _ in rows], "a": [a for _, a in rows]}), path)
    read, validation = read_rows(
        data(train={"file": str(path)}, columns={"prompt": "q", "completion": "a"}), "causal"
    )
    assert [(row.text, row.answer) for row in read.examples] == rows
    assert validation is None
    assert read.sources[0]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("character", ["\u2028", "\x85", "\x0b", "\x1e"])
@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv"])
def test_only_real_line_ends_end_a_row(tmp_path, kind, character):
    """str.splitlines cuts at more; the line of a later mistake is counted without them too."""
    text = f"one{character}two"
    path = tmp_path / f"rows.{kind}"
    lines = {
        "jsonl": [json.dumps({"text": text}, ensure_ascii=False), '{"text": "three"}', '{"text": " "}'],
        "csv": ["text,n", f"{text},1", "three,2", " ,3"],
        "tsv": ["text\tn", f"{text}\t1", "three\t2", " \t3"],
    }[kind]
    for end in ("\n", "\r\n"):
        path.write_bytes(end.join(lines[:-1]).encode())
        read, _ = read_rows(data(train={"file": str(path)}), "causal")
        assert texts(read) == [text, "three"]
    path.write_bytes("\n".join(lines).encode())
    with pytest.raises(ConfigError, match=rf"rows\.{kind}:{len(lines)}: row 3: the column `text` is empty"):
        read_rows(data(train={"file": str(path)}), "causal")


def test_a_line_end_in_quotes_is_part_of_the_cell(tmp_path):
    (tmp_path / "a.csv").write_bytes('text\n"one\r\ntwo\u2028three"\n'.encode())
    read, _ = read_rows(data(train={"file": str(tmp_path / "a.csv")}), "causal")
    assert texts(read) == ["one\r\ntwo\u2028three"]


def test_a_lone_carriage_return_ends_no_row(tmp_path):
    for name, content in [("a.csv", 'text,n\r\n"one\rtwo",1\r\n'), ("a.tsv", "text\tn\r\none\rtwo\t1\r\n")]:
        (tmp_path / name).write_bytes(content.encode())
        read, _ = read_rows(data(train={"file": str(tmp_path / name)}), "causal")
        assert texts(read) == ["one\rtwo"]
        assert [row.line for row in read.examples] == [2]
    (tmp_path / "a.csv").write_bytes(b"text,n\nzero,0\none\rtwo,1\n")
    with pytest.raises(ConfigError, match=r"a\.csv:3: a carriage return \(\\r\) without a line feed"):
        read_rows(data(train={"file": str(tmp_path / "a.csv")}), "causal")
    (tmp_path / "a.csv").write_bytes(b"text\rone\rtwo\r")
    with pytest.raises(ConfigError, match=r"a\.csv:1: a carriage return"):
        read_rows(data(train={"file": str(tmp_path / "a.csv")}), "causal")


@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_cells_may_be_long(tmp_path, kind):
    """The csv module's own limit is 131,072 characters; it holds for the rest of the program as before."""
    long, before = "x" * 200_000, csv.field_size_limit()
    (tmp_path / f"a.{kind}").write_text(f"text\n{long}\n")
    read, _ = read_rows(data(train={"file": str(tmp_path / f"a.{kind}")}), "causal")
    assert texts(read) == [long]
    assert csv.field_size_limit() == before


def test_numbers_are_text(tmp_path):
    jsonl(tmp_path / "a.jsonl", [{"text": 3}, {"text": 2.5}])
    read, _ = read_rows(data(train={"file": str(tmp_path / "a.jsonl")}), "causal")
    assert texts(read) == ["3", "2.5"]


def test_a_tsv_without_a_head(tmp_path):
    path = tmp_path / "mgsm_de.tsv"
    path.write_text('Wie viel?\t2,125\n"Zwei\t2', encoding="utf-8")
    read, _ = read_rows(
        data(
            train={"file": str(path), "names": ["question", "answer"], "language": "de"},
            columns={"prompt": "question", "completion": "answer"},
        ),
        "causal",
    )
    assert [(row.text, row.answer, row.language) for row in read.examples] == [
        ("Wie viel?", "2,125", "de"),
        ('"Zwei', "2", "de"),
    ]


def test_a_data_set_of_the_library(monkeypatch):
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_list([{"text": "one"}, {"text": "two"}])
    asked = []

    def load(*args, **options):
        asked.append((args, options))
        return made

    monkeypatch.setattr(datasets, "load_dataset", load)
    read, _ = read_rows(data(train={"dataset": "org/set", "config": "en", "split": "test"}), "causal")
    assert texts(read) == ["one", "two"]
    assert asked == [(("org/set", "en"), {"split": "test"})]


def test_a_data_set_that_cannot_be_had(monkeypatch):
    datasets = pytest.importorskip("datasets")

    def load(*_args, **_options):
        raise ConnectionError("Couldn't reach 'org/nothing-such' on the Hub\nand much more")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(
        ConfigError, match=r"org/nothing-such\[train\] cannot be loaded: Couldn't reach .* Hub$"
    ):
        read_rows(data(train={"dataset": "org/nothing-such"}), "causal")


def test_languages_by_column_and_by_source(files):
    by_column, _ = read_rows(data(train=source(files, "all.jsonl"), languages=["de", "fr"]), "classification")
    by_source, _ = read_rows(
        data(
            train=[source(files, f"{name}.jsonl", language=name) for name in LANGUAGES],
            languages=["de", "fr"],
        ),
        "classification",
    )
    assert texts(by_column) == texts(by_source)
    assert by_column.languages() == {"de": 20, "fr": 20}
    account = by_source.account()
    assert [(each["available"], each["rows"]) for each in account["sources"]] == [(20, 0), (20, 20), (20, 20)]


def test_rows_are_counted_for_each_language_and_chosen_alike(files):
    one, _ = read_rows(data(train=source(files, "all.jsonl", rows=5)), "classification")
    assert one.languages() == {"de": 5, "en": 5, "fr": 5}
    again, _ = read_rows(data(train=source(files, "all.jsonl", rows=5)), "classification")
    other, _ = read_rows(data(train=source(files, "all.jsonl", rows=5), seed=1), "classification")
    fewer, _ = read_rows(data(train=source(files, "all.jsonl", rows=5), languages=["de"]), "classification")
    assert one.examples == again.examples
    assert one.examples != other.examples
    # What is chosen of a language does not depend on the others that are asked for.
    assert texts(fewer) == [text for text in texts(one) if text.startswith("de")]


def test_more_rows_asked_for_hold_the_fewer(files):
    few, many = (
        set(texts(read_rows(data(train=source(files, "en.jsonl", rows=rows)), "classification")[0]))
        for rows in (5, 12)
    )
    assert few < many


def test_a_sample_is_a_share_of_each_language(files):
    rows, _ = read_rows(data(train=source(files, "all.jsonl"), sample=0.15), "classification")
    assert rows.languages() == {"de": 3, "en": 3, "fr": 3}


def test_ratios_cut_to_proportions_without_repeating_a_row(files):
    rows, _ = read_rows(
        data(
            train=[
                source(files, "en.jsonl", language="en", ratio=1.0),
                source(files, "de.jsonl", language="de", ratio=0.5),
                source(files, "fr.jsonl", language="fr", rows=4, ratio=0.25),
            ]
        ),
        "classification",
    )
    assert rows.languages() == {"de": 8, "en": 16, "fr": 4}
    assert len(set(texts(rows))) == 28


@pytest.mark.parametrize("chosen", [{"languages": ["en", "fr"]}, {"tasks": ["one"]}])
def test_a_source_that_is_not_asked_for_takes_no_part_in_the_mix(files, chosen):
    tasks = {"en": "one", "de": "two", "fr": "one"}
    sources = [source(files, f"{name}.jsonl", language=name, task=tasks[name], ratio=1) for name in LANGUAGES]
    rows, _ = read_rows(data(train=sources, **chosen), "classification")
    assert rows.languages() == {"en": 20, "fr": 20}


def test_validation_leaves_nothing_of_a_source_to_mix(files):
    jsonl(files / "one.jsonl", sentences("it", 1))
    both = [source(files, "en.jsonl", ratio=1), source(files, "one.jsonl")]
    content = {"train": both, "validation": {"fraction": 0.6}}
    with pytest.raises(ConfigError, match=r"one\.jsonl: `data\.validation\.fraction` takes all of its rows"):
        read_rows(data(**content), "classification")
    content["train"] = [source(files, "en.jsonl"), source(files, "one.jsonl")]  # nothing is mixed
    assert len(read_rows(data(**content), "classification")[0]) == 8


def test_plain_texts_have_no_chat(files):
    with pytest.raises(ConfigError, match=r"data\.chat: .*en\.jsonl holds plain texts"):
        read_rows(data(train=source(files, "en.jsonl"), columns={"text": "text"}, chat=True), "causal")


def test_validation_is_a_share_that_does_not_train(files):
    train, validation = read_rows(
        data(train=source(files, "all.jsonl"), validation={"fraction": 0.2}), "classification"
    )
    assert validation.languages() == {"de": 4, "en": 4, "fr": 4}
    assert not set(texts(train)) & set(texts(validation))
    assert len(train) + len(validation) == 60


def test_validation_may_lack_a_language(files):
    _, validation = read_rows(
        data(train=source(files, "all.jsonl"), languages=["de", "en"], validation=source(files, "de.jsonl")),
        "classification",
    )
    assert validation.languages() == {"de": 20}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"languages": ["dee"]}, "no row has the language `dee`; did you mean `de`"),
        ({"tasks": ["qa"]}, "no row has the task `qa`; no row says its task"),
        (
            {"columns": {"text": "txt"}},
            "there is no column `txt` for `text` (data.columns); did you mean `text`",
        ),
        ({"columns": {"text": "text", "label": "zzz"}}, "the columns are text, label, language"),
        ({"columns": {"prompt": "text", "completion": "label"}}, "needs the columns `text` and `label`"),
        ({"validation": {"fraction": 0.01}}, "none is left for validation"),
    ],
)
def test_mistakes(files, content, words):
    with pytest.raises(ConfigError) as caught:
        read_rows(data(train=source(files, "all.jsonl"), **content), "classification")
    assert words in str(caught.value)


def test_an_empty_split(files):
    with pytest.raises(ConfigError, match=r"`data\.validation` is empty"):
        read_rows(
            data(train=source(files, "all.jsonl"), languages=["en"], validation=source(files, "de.jsonl")),
            "classification",
        )


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", '{"text": "x"}\n\n{"text": "y"\n', "a.jsonl:3: this is not JSON"),
        ("a.jsonl", "[1]\n", "a.jsonl:1: a row is a JSON object"),
        ("a.jsonl", '{"text": "x"}\n{"text": ""}\n', "a.jsonl:2: row 2: the column `text` is empty"),
        ("a.jsonl", '{"text": "x"}\n{"txt": "y"}\n', "a.jsonl:2: row 2: the column `text` is missing"),
        ("a.jsonl", '{"text": ["x"]}\n', "is a list; it has to be text"),
        ("a.jsonl", "\n", "there are no rows in it"),
        ("a.csv", "text,label\nx,1\ny\n", "a.csv:3: 1 cells in a row of a table of 2 columns"),
        ("a.json", '{"text": "x"}', "one list of objects"),
        ("a.txt", "x", "none of them"),
        ("a.parquet", "x", "this is no Parquet file"),
        ("a.csv", "text,label,text\nx,1,y\n", "a.csv: two columns are called `text`; rename one of them"),
        ("a.tsv", "text\ttext\nx\ty\n", "a.tsv: two columns are called `text`"),
        (
            "a.jsonl",
            r'{"text": "x"}' + "\n" + r'{"text": "a\ud83d"}',
            "a.jsonl:2: row 2: the column `text` holds half",
        ),
        ("a.jsonl", '{"text": NaN}', "a.jsonl:1: row 1: the column `text` is nan; it has to be text"),
        ("a.jsonl", '{"text": -Infinity}', "the column `text` is -inf; it has to be text"),
        ("a.jsonl", '{"text": true}', "the column `text` is a bool; it has to be text"),
        ("a.jsonl", '{"text": "x"}\n' + "[" * 100_000, "a.jsonl:2: the JSON here nests too deeply"),
        (
            "a.jsonl",
            '{"text": ' + "1" * 5000 + "}",
            "a.jsonl:1: the JSON here nests too deeply or holds a number",
        ),
        ("a.json", "[" * 100_000, "a.json: the JSON here nests too deeply"),
    ],
)
def test_malformed_files(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError) as caught:
        read_rows(data(train={"file": str(tmp_path / name)}, columns={"text": "text"}), "causal")
    assert words in str(caught.value)


def test_names_given_twice(tmp_path):
    (tmp_path / "a.tsv").write_text("x\ty\n")
    with pytest.raises(ConfigError, match=r"a\.tsv: two columns are called `text`; rename one of them"):
        read_rows(data(train={"file": str(tmp_path / "a.tsv"), "names": ["text", "text"]}), "causal")


def test_a_missing_file_names_the_nearest(files):
    with pytest.raises(ConfigError, match=r"there is no such file; did you mean `en\.jsonl`"):
        read_rows(data(train=source(files, "enn.jsonl")), "classification")


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "a.jsonl").mkdir()
    with pytest.raises(ConfigError, match=r"a\.jsonl: this is a folder; give a file$"):
        read_rows(data(train={"file": str(tmp_path / "a.jsonl")}), "causal")


def test_no_text(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "\xff"}')
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_rows(data(train={"file": str(tmp_path / "a.jsonl")}), "causal")
