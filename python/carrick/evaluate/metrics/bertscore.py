"""BERTScore with any encoder: how alike texts are in meaning, by the `bert_score` package."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from carrick.checkpoints.checkpoint import read_checkpoint
from carrick.classifier.encoder import check_config, encoder_options
from carrick.errors import CarrickError, ConfigError
from carrick.loading import load_complete
from carrick.positions import most_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    Zhang et al., "BERTScore: Evaluating Text Generation with BERT" (2020); no weights by rarity, no baseline. Of a
    text that is longer than the encoder sees, the end is cut off.
    """
    if len(predictions) != len(references) or not predictions:
        raise CarrickError(f"{len(predictions)} texts stand against {len(references)} references")
    from bert_score.utils import bert_cos_score_idf  # noqa: PLC0415  (an extra)
    from transformers import AutoTokenizer  # noqa: PLC0415

    encoder = _load(model, layer).to(device)
    tokenizer: Any = AutoTokenizer.from_pretrained(str(model))
    tokenizer.model_max_length = most_tokens(encoder, tokenizer)
    weights = defaultdict(lambda: 1.0, {tokenizer.sep_token_id: 0.0, tokenizer.cls_token_id: 0.0})
    # bert_score divides by a length of zero and warns about it.
    filled = [
        place
        for place, (prediction, reference) in enumerate(zip(predictions, references, strict=True))
        if prediction.strip() and reference.strip()
    ]
    parts = np.zeros((3, len(predictions)))
    if filled:
        found = bert_cos_score_idf(
            encoder,
            [references[place] for place in filled],
            [predictions[place] for place in filled],
            tokenizer,
            weights,
            device=device,
            batch_size=batch_size,
        )
        parts[:, filled] = found.double().cpu().numpy().T
    return BertScore(*parts)


def check_encoder(folder: Path) -> None:
    """Refuse a folder that no encoder can be loaded from, before anything is computed.

    Raises
    ------
    ConfigError
        It holds no configuration, or a malformed one.
    FormatError
        It holds no weights in safetensors, or unreadable ones.
    """
    if not (folder / "config.json").is_file():
        raise ConfigError(
            f"--bertscore: {folder} is no encoder, for it holds no config.json; give a model folder with its tokenizer"
        )
    read_checkpoint(folder, str(folder))
    check_config(folder, f"--bertscore: the config.json of {folder}")


def _load(model: str | Path, layer: int | None) -> Any:
    """Load the encoder up to a layer."""
    from transformers import AutoConfig, AutoModel  # noqa: PLC0415

    config = AutoConfig.from_pretrained(str(model))
    layers = int(config.num_hidden_layers)
    if layer is not None:
        if not 1 <= layer <= layers:
            raise CarrickError(f"{model}: there is no layer {layer}; the layers are 1 to {layers}")
        config.num_hidden_layers = layer
    found = load_complete(AutoModel, Path(model), str(model), config=config, **encoder_options(Path(model)))
    return found.encoder if hasattr(found, "decoder") and hasattr(found, "encoder") else found
