"""Tokenizers that come from a document of the same file, which is no model of the merge."""

from __future__ import annotations

import pytest

from cli.test_documents import two


def of_tokenizer(out):
    return {
        name: (out / name).read_text()
        for name in ("tokenizer.json", "tokenizer_config.json", "merges.txt", "generation_config.json")
    }


@pytest.mark.parametrize(
    "wanted",
    ["tokenizer_source: sum", "tokenizer: {source: sum}", "tokenizer_source: {model: {path: sum}}"],
)
@pytest.mark.parametrize("later", [False, True])
def test_a_tokenizer_comes_from_a_document_that_is_no_model(carrick, models, out, wanted, later):
    """`sum` has the tokenizer of `code`; the output merges neither, and is its own generation config's."""
    of_sum = f"""name: sum
merge_method: linear
models:
  - {{model: {models["code"]}, parameters: {{weight: 1}}}}
"""
    output = f"""merge_method: linear
models:
  - {{model: {models["math"]}, parameters: {{weight: 0.5}}}}
  - {{model: {models["base"]}, parameters: {{weight: 0.5}}}}
{wanted}
"""
    config = models.text("---\n".join([output, of_sum] if later else [of_sum, output]))
    assert carrick("plan", config).code == 0
    answer = carrick("merge", config, out)
    assert answer.code == 0, answer.err
    assert "no other document refers" not in answer.out + answer.err
    code, math = of_tokenizer(models["code"]), of_tokenizer(models["math"])
    assert of_tokenizer(out) == {**code, "generation_config.json": math["generation_config.json"]}
    assert [p.name for p in out.parent.iterdir()] == ["merged"]
    written = (out / "carrick.json").read_text() + (out / "README.md").read_text()
    assert str(models.root) not in written
    assert str(out.parent) not in written


def test_the_tokenizer_of_a_document_that_is_kept(carrick, models, out):
    config = models.text(
        two(models, extra="tokenizer_source: sum")
        .read_text()
        .replace("model: sum", f"model: {models['code']}")
    )
    assert carrick("merge", config, out, "--keep-intermediates").code == 0
    assert of_tokenizer(out)["merges.txt"] == of_tokenizer(out.parent / "sum")["merges.txt"] == "math\n"


def test_a_tokenizer_of_a_document_in_a_circle(carrick, models, out):
    config = models.text(two(models).read_text().replace("---", "tokenizer_source: sum\n---"))
    answer = carrick("merge", config, out)
    assert answer.code == 2
    assert "documents refer to one another in a circle: sum → sum; break it" in answer.err
    assert not out.parent.exists()
