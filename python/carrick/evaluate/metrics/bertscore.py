"""BERTScore with any encoder: how alike texts are in meaning, by the `bert_score` package."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from carrick.errors import CarrickError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray


class BertScore(NamedTuple):
    """Precision, recall and F1 of each text, shape (texts,), not rescaled by a baseline."""

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]


def bertscore(
    predictions: Sequence[str],
    references: Sequence[str],
    model: str | Path,
    *,
    layer: int | None = None,
    device: str = "cpu",
    batch_size: int = 64,
) -> BertScore:
    """Score texts against references by the likeness of their contextual embeddings.

    Parameters
    ----------
    predictions, references
        Texts, as long as each other. An empty text scores 0.
    model
        Folder of an encoder with its tokenizer, or a Hub id in the local cache.
    layer
        Whose output is compared, counted from 1; None takes the last one. (`bert_score` has chosen layers for models
        that it knows by name: give 9 for bert-base-multilingual-cased, 17 for xlm-roberta-large.)
    device
        ``cpu`` or ``cuda``.
    batch_size
        Texts embedded together.

    Raises
    ------
    CarrickError
        No texts, lengths that differ, or a layer that the model lacks.

    Notes
    -----
    Zhang et al., "BERTScore: Evaluating Text Generation with BERT" (2020); no weights by rarity, no baseline.
    """
    if len(predictions) != len(references) or not predictions:
        raise CarrickError(f"{len(predictions)} texts stand against {len(references)} references")
    from bert_score import score  # noqa: PLC0415  (an extra)
    from transformers import AutoConfig  # noqa: PLC0415

    layers = int(AutoConfig.from_pretrained(str(model)).num_hidden_layers)
    wanted = layers if layer is None else layer
    if not 1 <= wanted <= layers:
        raise CarrickError(f"{model}: there is no layer {wanted}; the layers are 1 to {layers}")
    # bert_score divides by a length of zero and warns about it.
    filled = [
        place
        for place, (prediction, reference) in enumerate(zip(predictions, references, strict=True))
        if prediction.strip() and reference.strip()
    ]
    parts = np.zeros((3, len(predictions)))
    if filled:
        found = score(
            [predictions[place] for place in filled],
            [references[place] for place in filled],
            model_type=str(model),
            num_layers=wanted,
            device=device,
            batch_size=batch_size,
        )
        parts[:, filled] = np.stack([part.double().numpy() for part in found])
    return BertScore(*parts)
