"""ROUGE of summaries in any language, by the `rouge_score` package with a tokenizer that knows Unicode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from carrick.errors import CarrickError
from carrick.evaluate.metrics.tokens import UnicodeTokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

VARIANTS = ("rouge1", "rouge2", "rougeL")


class Rouge(NamedTuple):
    """F measures between 0 and 1 of each text, shape (texts,)."""

    rouge1: NDArray[np.float64]
    rouge2: NDArray[np.float64]
    rougeL: NDArray[np.float64]  # noqa: N815  (its name)

    def means(self) -> dict[str, float]:
        """Mean over the texts of each variant."""
        return {name: float(values.mean()) for name, values in zip(VARIANTS, self, strict=True)}


def rouge(
    predictions: Sequence[str],
    references: Sequence[str],
    *,
    tokenizer: Literal["unicode", "english"] = "unicode",
) -> Rouge:
    """Score texts against references by ROUGE-1, ROUGE-2 and ROUGE-L.

    Parameters
    ----------
    predictions, references
        Texts, as long as each other.
    tokenizer
        ``unicode`` counts words of any language, and characters of scripts without spaces (see
        `carrick.evaluate.metrics.tokens`). ``english`` is the default of `rouge_score`, which keeps the letters a-z
        and the digits alone: identical texts in Japanese, Chinese, Bengali, Hindi, Telugu or Thai get 0 by
        it. It is here so that printed numbers can be compared.

    Raises
    ------
    CarrickError
        No texts, or lengths that differ.

    Notes
    -----
    Lin, "ROUGE: A Package for Automatic Evaluation of Summaries" (2004). Neither tokenizer stems.

    Examples
    --------
    >>> rouge(["猫がいる"], ["猫がいる"]).means()["rouge1"]
    1.0
    >>> rouge(["猫がいる"], ["猫がいる"], tokenizer="english").means()["rouge1"]
    0.0
    """
    from rouge_score.rouge_scorer import RougeScorer  # noqa: PLC0415  (an extra)

    if len(predictions) != len(references) or not predictions:
        raise CarrickError(f"{len(predictions)} texts stand against {len(references)} references")
    scorer = RougeScorer(list(VARIANTS), tokenizer=UnicodeTokenizer() if tokenizer == "unicode" else None)
    found = [
        scorer.score(reference, prediction)
        for prediction, reference in zip(predictions, references, strict=True)
    ]
    return Rouge(*(np.array([each[name].fmeasure for each in found]) for name in VARIANTS))
