"""Perplexity of a causal language model on texts, streamed in windows of bounded size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from carrick.errors import CarrickError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import torch


@dataclass(frozen=True)
class Perplexity:
    """How well a model predicts texts.

    Attributes
    ----------
    nll
        Negative log-likelihood of all predicted tokens together, in nats.
    tokens
        How many tokens were predicted.
    value
        exp(nll / tokens): every token counts the same, whichever text it is in.
    per_text
        (nll, tokens) of each text, in their order, for tests over texts.
    """

    nll: float
    tokens: int
    value: float
    per_text: tuple[tuple[float, int], ...]


class Window(NamedTuple):
    """A stretch of one text: its tokens, and from which on they are scored (the others are context)."""

    text: int
    tokens: Sequence[int]
    scored_from: int


def windows(text: int, tokens: Sequence[int], max_length: int, stride: int) -> Iterator[Window]:
    """Cut one text into windows that overlap, every token but the first scored in exactly one.

    Parameters
    ----------
    text
        Number of the text, which the windows carry.
    tokens
        All its tokens.
    max_length
        The most tokens of a window.
    stride
        How far the next window starts behind the one before: each token but those of the first window is
        predicted from at least `max_length - stride` tokens before it.

    Examples
    --------
    >>> for window in windows(0, [10, 11, 12, 13, 14, 15], max_length=4, stride=2):
    ...     print(window.tokens, window.scored_from)
    [10, 11, 12, 13] 1
    [12, 13, 14, 15] 2
    """
    scored = 1
    for start in range(0, max(1, len(tokens)), stride):
        end = min(start + max_length, len(tokens))
        if end > scored:
            yield Window(text, tokens[start:end], scored - start)
            scored = end
        if end == len(tokens):
            return


def perplexity(
    model: Any,
    texts: Iterable[str],
    *,
    tokenizer: Any,
    max_length: int | None = None,
    stride: int | None = None,
    batch_size: int = 8,
    bos: bool | None = None,
) -> Perplexity:
    """Score texts with a causal language model.

    Texts are read as they come and never held together; windows of different texts share batches. Logits are
    turned into log-probabilities in float32 (float64 for a float64 model) and summed in float64.

    Parameters
    ----------
    model
        A transformers model, or a PeftModel around one, on the device it shall run on.
    texts
        Any iterable of texts; an empty text counts nothing.
    tokenizer
        The model's tokenizer, or a function from a text to its token ids.
    max_length
        Tokens of a window; None takes the model's own maximum, at most 2048.
    stride
        Tokens between the starts of windows; None takes half of `max_length`.
    batch_size
        Windows computed together.
    bos
        Whether texts start with the beginning-of-sequence token, which makes their first token count. None
        adds it where the tokenizer has one.

    Raises
    ------
    CarrickError
        A stride that leaves tokens out, no beginning-of-sequence token where one is demanded, or texts
        without a single token to predict.

    Notes
    -----
    The sliding window of the transformers documentation ("Perplexity of fixed-length models"), token-weighted.
    """
    import torch  # noqa: PLC0415  (an extra)

    length = max_length or min(int(getattr(model.config, "max_position_embeddings", 2048)), 2048)
    step = stride or max(1, length // 2)
    if length < 2 or not 0 < step < length:
        raise CarrickError(
            f"windows of {length} tokens with a stride of {step} would leave tokens out; the stride is at "
            "least 1 and less than max_length, which is at least 2"
        )
    encode = _encoder(tokenizer, bos)
    losses: list[list[float]] = []
    counts: list[int] = []

    def score(batch: list[Window]) -> None:
        for window, nll in zip(batch, _window_losses(model, batch), strict=True):
            losses[window.text].append(nll)
            counts[window.text] += len(window.tokens) - window.scored_from

    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            waiting: list[Window] = []
            for number, text in enumerate(texts):
                losses.append([])
                counts.append(0)
                for window in windows(number, encode(text), length, step):
                    waiting.append(window)
                    if len(waiting) == batch_size:
                        score(waiting)
                        waiting = []
            if waiting:
                score(waiting)
    finally:
        model.train(was_training)
    per_text = tuple((math.fsum(parts), count) for parts, count in zip(losses, counts, strict=True))
    nll, tokens = math.fsum(loss for loss, _ in per_text), sum(counts)
    if tokens == 0:
        raise CarrickError(
            "the texts have no token to predict: each is empty, or a single token without a BOS"
        )
    mean = nll / tokens
    return Perplexity(nll, tokens, math.exp(mean) if mean < 700 else math.inf, per_text)


def _encoder(tokenizer: Any, bos: bool | None) -> Any:
    first = getattr(tokenizer, "bos_token_id", None)
    if bos and first is None:
        raise CarrickError("the tokenizer has no beginning-of-sequence token; leave `bos` out")

    def encode(text: str) -> list[int]:
        if not hasattr(tokenizer, "encode"):
            return list(tokenizer(text))
        tokens = list(tokenizer.encode(text, add_special_tokens=False))
        return [first, *tokens] if first is not None and bos is not False else tokens

    return encode


def _window_losses(model: Any, batch: list[Window]) -> list[float]:
    """Negative log-likelihood of each window's scored tokens, in nats."""
    import torch  # noqa: PLC0415

    device = next(model.parameters()).device
    longest = max(len(window.tokens) for window in batch)
    # Padding stands on the right, where a causal model does not see it from the tokens before.
    tokens = torch.zeros((len(batch), longest), dtype=torch.long)
    attended = torch.zeros((len(batch), longest), dtype=torch.long)
    for row, window in enumerate(batch):
        tokens[row, : len(window.tokens)] = torch.tensor(window.tokens)
        attended[row, : len(window.tokens)] = 1
    tokens = tokens.to(device)
    logits = model(input_ids=tokens, attention_mask=attended.to(device), use_cache=False).logits
    return [
        _loss(logits[row], tokens[row], window.scored_from, len(window.tokens))
        for row, window in enumerate(batch)
    ]


def _loss(logits: torch.Tensor, tokens: torch.Tensor, start: int, end: int) -> float:
    import torch  # noqa: PLC0415

    rows = logits[start - 1 : end - 1]
    exact = rows if rows.dtype == torch.float64 else rows.float()
    logp = exact.log_softmax(dim=-1).gather(1, tokens[start:end, None])
    return -float(logp.double().sum())
