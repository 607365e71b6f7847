"""Perplexity per token and bits per byte of a model on the test texts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike

# Of each text: loss in nats, tokens that it is the loss of, and bytes of those tokens.
Losses = list[tuple[float, int, int]]


def score_texts(
    tests: Mapping[str, Sequence[str]], model: Path, *, base: Path | None, batch_size: int
) -> dict[str, Losses]:
    """Return (loss, tokens, bytes) of each text by test set.

    The first token of a text has nothing before it and counts nowhere, its bytes neither.

    Parameters
    ----------
    tests
        Texts by set.
    model
        A checkpoint, or an adapter with its ``base``.
    base
        The checkpoint under an adapter.
    batch_size
        Texts computed together; texts of like length are.
    """
    import torch  # noqa: PLC0415
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    from carrick.evaluate.perplexity import perplexity  # noqa: PLC0415

    folder = str(base or model)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    net = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if base is not None:
        from peft import PeftModel  # noqa: PLC0415

        net = PeftModel.from_pretrained(net, str(model)).eval()
    found: dict[str, Losses] = {}
    for name, texts in tests.items():
        tokens = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
        order = sorted(range(len(texts)), key=lambda i: len(tokens[i]))
        result = perplexity(
            net, [texts[i] for i in order], tokenizer=tokenizer, batch_size=batch_size, bos=False
        )
        losses: Losses = [(0.0, 0, 0)] * len(texts)
        for place, (loss, count) in zip(order, result.per_text, strict=True):
            first = len(tokenizer.convert_ids_to_tokens(tokens[place][:1])[0])  # a letter of it is a byte
            losses[place] = (round(loss, 6), count, len(texts[place].encode()) - first)
        found[name] = losses
    return found


def perplexity_of(losses: ArrayLike) -> float:
    """Return exp(Σ loss / Σ tokens): every token counts the same.

    >>> round(perplexity_of([(math.log(4) * 3, 3, 10)]), 6)
    4.0
    """
    loss, tokens, _ = np.asarray(losses, dtype=np.float64).sum(axis=0)
    return math.exp(loss / tokens)


def bits_per_byte(losses: ArrayLike) -> float:
    """Return Σ loss / (ln 2 · Σ bytes), which does not depend on the tokenizer.

    >>> round(bits_per_byte([(math.log(4) * 3, 3, 6)]), 6)
    1.0
    """
    loss, _, size = np.asarray(losses, dtype=np.float64).sum(axis=0)
    return float(loss / size / math.log(2))


def summary(found: Mapping[str, Losses]) -> dict[str, Any]:
    """Return perplexity and bits per byte of each test set."""
    return {
        name: {"perplexity": perplexity_of(losses), "bits_per_byte": bits_per_byte(losses)}
        for name, losses in found.items()
    }
