"""Files, mappings and the top level of a document."""

import re

import pytest

from carrick.config import load, loads
from carrick.errors import ConfigError

PAIR = "models: [{model: A, parameters: {weight: 1}}, {model: B, parameters: {weight: 2}}]\n"


def ties(models="- {model: A, parameters: {weight: 1}}", rest=""):
    return f"merge_method: ties\nbase_model: base\nmodels:\n{models}\n{rest}"


def test_errors_of_a_mapping_name_the_path_of_keys():
    config = {
        "merge_method": "ties",
        "base_model": "base",
        "models": [{"model": "A", "parameters": {"weight": 1, "density": 1.5}}],
    }
    with pytest.raises(ConfigError) as caught:
        load(config)
    assert (
        str(caught.value)
        == "models[0].parameters.density: `density` is `1.5`; it has to be a number between 0 and 1"
    )
    assert (caught.value.file, caught.value.line) == (None, None)
    with pytest.raises(ConfigError, match=r"^\[1\]: `merge_method` is missing"):
        load([config | {"models": [{"model": "A", "parameters": {"weight": 1}}]}, {}])
    with pytest.raises(ConfigError, match=r"^models\[0\]\.model: a set is not read"):
        load(config | {"models": [{"model": {"A"}}]})
    with pytest.raises(ConfigError, match="the configuration is empty"):
        load([])


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "config.yml").write_bytes(b"merge_method: linear\n# \xff\n")
    with pytest.raises(
        ConfigError, match=r"config.yml: the file is not UTF-8 text \(byte 23\); save it as UTF-8"
    ):
        load(tmp_path / "config.yml")
    with pytest.raises(ConfigError, match=r"confg.yml: there is no such file; did you mean `config.yml`\?"):
        load(tmp_path / "confg.yml")
    (tmp_path / "mergekit_config.yml").write_text("")
    with pytest.raises(ConfigError, match=r"this is a folder; did you mean `.*mergekit_config.yml`\?"):
        load(str(tmp_path))
    with pytest.raises(ConfigError, match=r"mergekit_config.yml: the configuration is empty"):
        load(tmp_path / "mergekit_config.yml")


def test_a_byte_order_mark_is_skipped(tmp_path):
    (tmp_path / "c.yml").write_bytes(b"\xef\xbb\xbfmerge_method: linear\n" + PAIR.encode())
    assert load(tmp_path / "c.yml")[0].method.name == "linear"


def test_a_path_that_exists_is_taken_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a+b@c").mkdir()
    (document,) = loads("merge_method: passthrough\nmodels: [{model: a+b@c}]")
    assert (document.donor.path, document.donor.revision) == ("a+b@c", None)


def test_references_as_text_and_as_mapping_are_equal():
    text = "merge_method: linear\nparameters: {weight: 1}\nmodels:\n- model: org/A@main\n- model: B\n"
    long = text.replace("org/A@main", "{model: {path: org/A, revision: main}, override_architecture: X}")
    (short_document,), (long_document,) = loads(text), loads(long, "c.yml")
    assert short_document.donor == long_document.donor
    assert str(long_document.donor) == "org/A@main"
    assert re.match(r"c.yml:4: `override_architecture` changes nothing", long_document.notes[0])


def test_the_rest_of_the_top_level_is_read():
    text = ties(
        rest="tokenizer_source: org/T@v1\nchat_template: '{{ messages }}'\nseed: 18446744073709551615\n"
        "tie: untie\nextra_tensors: base\nroles: {attention: [a, b], mlp: c}\ndtype: F8_E4M3\nparameters:\n"
    )
    (document,) = loads(text)
    assert str(document.tokenizer) == "org/T@v1"
    assert (document.chat_template.kind, document.chat_template.text) == ("jinja", "{{ messages }}")
    assert (document.seed, document.tie, document.extra_tensors) == (2**64 - 1, "untie", "base")
    assert [pattern.pattern for pattern in document.roles["attention"]] == ["a", "b"]
    assert document.dtype == "F8_E4M3"
    assert [str(ref) for ref in document.referenced_models] == ["base", "A", "org/T@v1"]
    assert document.text == text
    (plain,) = loads(ties(rest="tokenizer: {source: base}\nchat_template: llama3\n"))
    assert (plain.tokenizer, plain.chat_template.kind, plain.tie, plain.extra_tensors) == (
        "base",
        "named",
        None,
        "error",
    )
