"""Hallucination of supporting examples: the share of quoted examples that the input does not contain."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carrick.errors import CarrickError
from carrick.evaluate.metrics.tokens import tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

_SPACED_BULLETS = "-*•–"  # without white space behind them they open bold text, a rule or a negative number
_BULLETS = "·・"
_RULE = re.compile(r"([-*_=–—])(\s*\1){2,}")
_BOLD = re.compile(r"(\*\*[^*]+\*\*|__[^_]+__):?")


@dataclass(frozen=True)
class HallucinationRate:
    """How many of the generated examples do not occur in the input.

    Attributes
    ----------
    exact
        Share of examples that are no part of the input, letter by letter; None without a single example.
    normalised
        The same by words, regardless of case, punctuation, spacing and compatibility forms (`tokens`).
    examples
        How many examples there are in all.
    silent
        How many inputs got no example at all: they count nowhere else.
    per_input
        (examples, not found exactly, not found after normalisation) of each input.
    """

    exact: float | None
    normalised: float | None
    examples: int
    silent: int
    per_input: tuple[tuple[int, int, int], ...]


def aggregated_hallucination_rate(
    examples: Sequence[Sequence[str]], inputs: Sequence[str | Sequence[str]]
) -> HallucinationRate:
    """Measure which share of generated supporting examples is not in the input.

    Examples are pooled over all inputs, so an input with more examples weighs more. A blank example is none.

    Parameters
    ----------
    examples
        The examples that were generated for each input.
    inputs
        Each input: one text, or several (comments, say), one of which must contain the example.

    Raises
    ------
    CarrickError
        Lengths that differ.

    Notes
    -----
    "The proportion of the number of LLM-generated examples that are not in the input": language-specific model
    merging, section 6. The paper does not say how occurrence is decided, hence both readings.

    Examples
    --------
    >>> found = aggregated_hallucination_rate([["Very slow!", "lost luggage"]], ["very slow, but friendly"])
    >>> found.exact, found.normalised
    (1.0, 0.5)
    """
    if len(examples) != len(inputs):
        raise CarrickError(f"examples of {len(examples)} inputs stand against {len(inputs)} inputs")
    counts = tuple(_counts(given, source) for given, source in zip(examples, inputs, strict=True))
    total = sum(count for count, _, _ in counts)
    return HallucinationRate(
        exact=sum(exact for _, exact, _ in counts) / total if total else None,
        normalised=sum(normalised for _, _, normalised in counts) / total if total else None,
        examples=total,
        silent=sum(count == 0 for count, _, _ in counts),
        per_input=counts,
    )


def _counts(examples: Sequence[str], source: str | Sequence[str]) -> tuple[int, int, int]:
    texts = [source] if isinstance(source, str) else list(source)
    spaced = [_spaced(text) for text in texts]
    given = [example.strip() for example in examples if example.strip()]
    exact = sum(not any(example in text for text in texts) for example in given)
    normalised = 0
    for example in given:
        words = _spaced(example)
        # An example of punctuation alone has no words to look for.
        found = any(words in text for text in spaced) if words.strip() else any(example in t for t in texts)
        normalised += not found
    return len(given), exact, normalised


def _spaced(text: str) -> str:
    """Words between spaces, so that one that is found is a whole one."""
    return f" {' '.join(tokens(text))} "


def listed_examples(answer: str) -> list[str]:
    r"""Take the examples out of a generated list: one a line, behind a bullet or a number, quotes dropped.

    Lines without a bullet or a number (headings, say) are no examples; an answer without any bullet is read
    line by line. Lines that are wholly bold, which are headings as well, and rules (``---``) never are examples.

    Examples
    --------
    >>> listed_examples('**Delays**\n- "an hour late"\n2. “no news”\n')
    ['an hour late', 'no news']
    >>> listed_examples("an hour late\n---\nno news")
    ['an hour late', 'no news']
    """
    lines = [line.strip() for line in answer.splitlines() if line.strip()]
    lines = [line for line in lines if not _RULE.fullmatch(line) and not _BOLD.fullmatch(line)]
    bare = [_behind_bullet(line) for line in lines]
    # A bullet without its space makes no list, but it is not quoted from the input either.
    unlisted = (line.lstrip(_SPACED_BULLETS) for line in lines)
    found = [text for text in bare if text is not None] if any(bare) else unlisted
    return [text for text in (each.strip().strip("\"'“”„«»「」『』").strip() for each in found) if text]


def _behind_bullet(line: str) -> str | None:
    if line[0] in _BULLETS or (line[0] in _SPACED_BULLETS and line[1:2].isspace()):
        return line[1:].strip()
    number, mark, rest = line.partition(".") if "." in line[:4] else line.partition(")")
    return rest.strip() if mark and number.strip().isdigit() else None
