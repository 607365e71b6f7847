"""How many tokens a model has positions for."""

from __future__ import annotations

from typing import Any

_LEARNT = ("position_embeddings", "wpe", "embed_positions")
_USUAL = 512
_UNSTATED = 10**20


def learnt_positions(model: Any) -> int | None:
    """Tokens that a table of learnt positions has room for; a longer text cannot be computed.

    Parameters
    ----------
    model
        A transformers model, whether it holds weights or not.

    Returns
    -------
    int | None
        None where positions are computed (rotary, relative), which goes on beyond what was trained.
    """
    tables = (each for name, each in model.named_modules() if name.rpartition(".")[2] in _LEARNT)
    table = next((each for each in tables if hasattr(each, "num_embeddings")), None)
    declared = _declared(model)
    if table is None or declared is None:
        return None
    # RoBERTa and its kin number positions from behind the one that padding has.
    return declared if table.padding_idx is None else declared - table.padding_idx - 1


def most_tokens(model: Any, tokenizer: Any) -> int:
    """Tokens of the longest text that a model and its tokenizer are meant for; 512 where neither says.

    Parameters
    ----------
    model
        A transformers model.
    tokenizer
        Its tokenizer, whose `model_max_length` is 10³⁰ where it states none.
    """
    of_model = learnt_positions(model) or _declared(model)
    of_tokenizer = tokenizer.model_max_length if tokenizer.model_max_length < _UNSTATED else None
    return min((length for length in (of_model, of_tokenizer) if length is not None), default=_USUAL)


def _declared(model: Any) -> int | None:
    declared = getattr(model.config, "max_position_embeddings", None)
    return declared if isinstance(declared, int) and declared > 0 else None  # XLNet says -1
