"""Tied embeddings that come apart: PEFT trains a module of the pair whole, and the other stays the base's.

With `ensure_weight_tying: true` PEFT trains both as one, and the model stays tied.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from carrick.adapters.extracting.naming import architecture, tied_head
from carrick.adapters.keys import find_name
from carrick.errors import PlanError
from carrick.plan.adapted import AsStored
from carrick.plan.same_bytes import same_bytes
from carrick.plan.tied import VOCABULARY_HEAD, tied_embeddings, word_embeddings
from carrick.plan.vocabulary import RESIZE_FIRST

if TYPE_CHECKING:
    from carrick.adapters import Adapter
    from carrick.checkpoints.checkpoint import Checkpoint
    from carrick.checkpoints.headers import StoredTensor

# Heads beside which nothing else is tied: a model loads with both matrices and tie_word_embeddings: false.
_PLAIN_HEADS = {"lm_head.weight", "embed_out.weight"}


def come_apart(
    origin: Checkpoint, adapters: list[tuple[Adapter, float]], tensors: dict[str, StoredTensor], ref: str
) -> str | None:
    """Give a model whose head adapters leave behind, or train by itself, a head of its own.

    Parameters
    ----------
    origin
        The checkpoint as it is stored.
    adapters
        What was put on, and how far.
    tensors
        The model's tensors, to which the head is added.
    ref
        What the user calls the model.

    Returns
    -------
    What a user should know; None for a model that stays as it was.

    Raises
    ------
    PlanError
        The head needs more than its weights, or rows that are stored nowhere.
    """
    head = None if origin.tie_word_embeddings is False else _head_of(origin)
    if head is None or (origin.tie_word_embeddings is None and head in origin.tensors):
        return None
    embeddings = tied_embeddings(origin, head, _width(origin), {})
    if embeddings is None:
        return None
    for adapter, weight in adapters:
        trained = _trained(adapter, origin, {head, embeddings}) if weight else None
        if trained is None:
            continue
        if head not in tensors:
            stored = origin.tensors[embeddings]
            _refuse_unknown(origin, adapter, trained, head, (stored, tensors[embeddings]))
            tensors[head] = AsStored(stored.file, stored.begin, stored.end, stored.dtype, stored.shape)
        return (
            f"{ref}: {adapter.ref} trained {trained} by itself (`ensure_weight_tying` is not true), so that head and "
            f"embeddings come apart, as in PEFT: {head} is written and config.json says tie_word_embeddings: false."
        )
    return None


def _width(origin: Checkpoint) -> tuple[int, ...]:
    """Width of the largest matrix of word embeddings, which a tied head has too."""
    found = [origin.tensors[name] for name in word_embeddings(origin, {})]
    largest = max(found, key=lambda tensor: tensor.elements, default=None)
    return () if largest is None else largest.shape[-1:]


def _head_of(origin: Checkpoint) -> str | None:
    """Name the head of a tied model: the one that it stores, or that of its class."""
    stored = next((name for name in origin.outside if VOCABULARY_HEAD.search(name)), None)
    if stored is not None:
        return stored
    # Where config.json says nothing, a model of words without a head is tied.
    config = {**(origin.config or {}), "tie_word_embeddings": True}
    if origin.tie_word_embeddings and not architecture(origin):
        config["architectures"] = ["ForCausalLM"]
    return tied_head(replace(origin, config=config))


def _trained(adapter: Adapter, origin: Checkpoint, pair: set[str]) -> str | None:
    """Name what an adapter trained whole of the two, and not as one."""
    if adapter.config.ensure_weight_tying:
        return None
    whole = [name for name in adapter.saved if name not in adapter.carried]
    found = [name for name in whole if (find_name(name, origin.tensors) or name) in pair]
    if len(found) == len(pair):
        checkpoint, (one, other) = adapter.checkpoint, (adapter.saved[name] for name in found)
        if same_bytes(checkpoint, one, checkpoint, other):
            return None
    return found[0] if found else None


def _refuse_unknown(
    origin: Checkpoint, adapter: Adapter, trained: str, head: str, pair: tuple[StoredTensor, StoredTensor]
) -> None:
    """Raise where the base's head by itself is not all that an untied model needs, or lacks rows."""
    key = adapter.keys[trained]
    reason = None
    if head not in _PLAIN_HEADS or (origin.config or {}).get("is_encoder_decoder"):
        reason = (
            "needs more than its weights to stand by itself; merge the adapter with PEFT (merge_and_unload)"
        )
    elif pair[0].shape != pair[1].shape:
        reason = f"lacks the rows of the new vocabulary; {RESIZE_FIRST}"
    if reason is not None:
        raise PlanError(
            f"{adapter.checkpoint.file_of(key)}: tensor {key!r} was trained by itself (`ensure_weight_tying` is not "
            f"true), so that {origin.ref} is tied no more, and {head!r} {reason}"
        )
