"""Streamed perplexity against one pass in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest

from carrick.errors import CarrickError
from carrick.evaluate.perplexity import perplexity, windows

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

VOCABULARY = 50


@pytest.fixture(scope="module")
def model():
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
    )
    torch.manual_seed(0)
    made = transformers.LlamaForCausalLM(config)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # far from uniform answers
    return made.double()


class Letters:
    """One token a letter; 0 begins a text."""

    bos_token_id = 0

    def encode(self, text, add_special_tokens):
        assert add_special_tokens is False
        return [ord(letter) % (VOCABULARY - 1) + 1 for letter in text]


def one_shot(model, tokens, context=None):
    """Each token from all tokens before it (or the last `context`), float64, log-softmax in NumPy."""
    total = 0.0
    for place in range(1, len(tokens)):
        start = 0 if context is None else max(0, place - context)
        with torch.no_grad():
            logits = model(torch.tensor([tokens[start:place]])).logits[0, -1].numpy().astype(np.float64)
        top = logits.max()
        total += top + math.log(np.exp(logits - top).sum()) - logits[tokens[place]]
    return total


TEXTS = ["a short text", "", "x", "a rather longer text that fills a window", "äöü ありがとう"]


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_as_one_shot(model, batch_size):
    found = perplexity(model, iter(TEXTS), tokenizer=Letters(), max_length=64, batch_size=batch_size)
    expected = [one_shot(model, [0, *Letters().encode(text, add_special_tokens=False)]) for text in TEXTS]
    assert [nll for nll, _ in found.per_text] == pytest.approx(expected, rel=1e-10)
    assert [tokens for _, tokens in found.per_text] == [len(text) for text in TEXTS]
    assert found.tokens == sum(map(len, TEXTS))
    assert found.nll == pytest.approx(sum(expected))
    assert found.value == pytest.approx(math.exp(sum(expected) / found.tokens))


def test_windows_slide(model):
    text = "windows that overlap see no less than half"
    tokens = [0, *Letters().encode(text, add_special_tokens=False)]
    found = perplexity(model, [text], tokenizer=Letters(), max_length=16, stride=4)
    assert found.tokens == len(text)
    expected = 0.0
    for window in windows(0, tokens, 16, 4):
        inside = list(window.tokens)
        expected += one_shot(model, inside) - one_shot(model, inside[: window.scored_from])
    assert found.nll == pytest.approx(expected, rel=1e-10)
    # A stride of one token gives every token the fullest context that fits.
    finest = perplexity(model, [text], tokenizer=Letters(), max_length=16, stride=1)
    assert finest.nll == pytest.approx(one_shot(model, tokens, context=15), rel=1e-10)


@pytest.mark.parametrize("length", [1, 2, 3, 15, 16, 17, 40])
@pytest.mark.parametrize(("most", "stride"), [(16, 8), (16, 1), (16, 15), (2, 1)])
def test_every_token_once(length, most, stride):
    tokens = list(range(length))
    scored = [
        token for window in windows(0, tokens, most, stride) for token in window.tokens[window.scored_from :]
    ]
    assert scored == tokens[1:]
    for window in windows(0, tokens, most, stride):
        assert len(window.tokens) <= most
        assert window.scored_from >= (1 if window.tokens[0] == 0 else most - stride)


def test_float32_model_is_close_and_its_mode_is_kept(model):
    single = type(model)(model.config)
    single.load_state_dict(model.state_dict())
    single.train()
    exact = perplexity(model, TEXTS, tokenizer=Letters())
    assert perplexity(single, TEXTS, tokenizer=Letters()).nll == pytest.approx(exact.nll, rel=1e-5)
    assert single.training


def test_without_bos_the_first_token_is_not_scored(model):
    found = perplexity(model, ["abc"], tokenizer=Letters(), bos=False)
    assert found.tokens == 2
    assert found.nll == pytest.approx(one_shot(model, Letters().encode("abc", add_special_tokens=False)))
    assert perplexity(model, ["abc"], tokenizer=lambda _: [3, 4, 5]).tokens == 2


def test_a_generator_is_read_as_it_comes(model):
    read = []

    def texts():
        for number in range(20):
            read.append(number)
            yield "some text"

    perplexity(model, texts(), tokenizer=Letters(), batch_size=4)
    assert len(read) == 20


def test_refused(model):
    with pytest.raises(CarrickError, match="stride"):
        perplexity(model, ["abc"], tokenizer=Letters(), max_length=8, stride=8)
    with pytest.raises(CarrickError, match="no token to predict"):
        perplexity(model, ["", "x"], tokenizer=Letters(), bos=False)
    with pytest.raises(CarrickError, match="no beginning-of-sequence"):
        perplexity(model, ["abc"], tokenizer=lambda _: [1, 2], bos=True)
