"""Tied embeddings: a head that is the embedding matrix, stored once, stays so.

A model is tied where its config.json says `tie_word_embeddings: true`, or says nothing and stores no head. A
tied model may store the head all the same; it is then compared with the embeddings, and left out when they
are equal.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carrick.errors import PlanError
from carrick.plan.roles import EMBEDDINGS, role_outside
from carrick.plan.same_bytes import same_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carrick.checkpoints.checkpoint import Checkpoint
    from carrick.plan.lineup import Model

TIED, UNTIED, NONE = "tied", "untied", "none"
_DECODER = "decoder."
# A head over the vocabulary; a classifier with two labels has the shape of two token types, and is none.
VOCABULARY_HEAD = re.compile(
    r"(^|\.)(\w*lm_head|embed_out|proj_out|cls\.predictions\.decoder|vocab_proj\w*)\.weight$|^(model\.)?output\.weight$"
)
NOT_WORDS = re.compile(r"position|token_type|wpe|patch|segment", re.IGNORECASE)


@dataclass(slots=True)
class TieDecision:
    """What becomes of tied embeddings: `state` of the output, whether config.json must say so, notes."""

    state: str
    untied: bool = False
    notes: tuple[str, ...] = ()


def decide_ties(
    models: list[Model],
    tie: str | None,
    roles: Mapping[str, tuple[re.Pattern[str], ...]],
) -> TieDecision:
    """Decide whether the output's embeddings are tied; mark in each model what to leave out or stand in for.

    Parameters
    ----------
    models
        Those whose weights are merged.
    tie
        The user's choice for models that differ: ``keep`` (tied) or ``untie`` (each with a head of its own).

    Raises
    ------
    PlanError
        Some models are tied and others not and `tie` is not given, or a tied model stores a head of its own.
    """
    heads = _heads(models, roles)
    if not heads:
        tied = any(m.checkpoint.tie_word_embeddings for m in models)
        if tie == "untie" and tied:
            raise PlanError(
                "`tie: untie` needs a model that stores a head; none of these does, so leave `tie` out"
            )
        return TieDecision(TIED if tied else NONE)
    pairs = {id(m): _pair(m.checkpoint, heads, roles) for m in models}
    tied_models = [m for m in models if pairs[id(m)] is not None and _is_tied(m.checkpoint, heads)]
    if not tied_models:
        return TieDecision(UNTIED)
    untied_models = [m for m in models if all(m is not t for t in tied_models)]
    if untied_models and tie is None:
        raise PlanError(
            f"{tied_models[0].ref} ties its head to its embeddings and {untied_models[0].ref} does not; "
            f"`tie: untie` gives the output {heads[0]!r} of its own, `tie: keep` leaves it out"
        )
    apart = [model for model in tied_models if model.apart is not None]
    if apart and tie == "keep":
        raise PlanError(f"{apart[0].apart} `tie: keep` cannot hold both; leave it out, or say `tie: untie`")
    if apart or tie == "untie":
        for model in tied_models:
            head, embeddings = pairs[id(model)] or ("", "")
            if head not in model.checkpoint.tensors:
                model.stand_ins[head] = embeddings
        note = f"`tie: untie`: {heads[0]} is written and config.json says tie_word_embeddings: false."
        notes = tuple(model.apart for model in apart if model.apart is not None)
        return TieDecision(UNTIED, untied=True, notes=notes or (note,))
    return _stay_tied(tied_models, untied_models, heads, pairs)


def in_a_document(model: Model) -> str:
    """Say where a model with adapters is untied: `carrick adapters apply` and `merge --dense` have no `tie`."""
    if not model.adapters:
        return ""
    document = f"{{merge_method: passthrough, models: [{{model: {model.ref}}}], tie: untie}}"
    return f" in a YAML for `carrick merge`, such as {document}"


def tied_embeddings(
    checkpoint: Checkpoint,
    head: str,
    shape: tuple[int, ...],
    roles: Mapping[str, tuple[re.Pattern[str], ...]],
) -> str | None:
    """Name the embedding matrix that is the head of a model which stores none; None where it has no such head.

    `shape` is that of the head, or the last part of it: the width alone.
    """
    if checkpoint.tie_word_embeddings is False or not VOCABULARY_HEAD.search(head):
        return None
    tensors = checkpoint.tensors
    fitting = [n for n in word_embeddings(checkpoint, roles) if tensors[n].shape[-len(shape) :] == shape]
    return _largest(checkpoint, fitting)


def tied_heads_follow(models: list[Model], roles: Mapping[str, tuple[re.Pattern[str], ...]]) -> list[str]:
    """Say of which models an adapter changes embeddings that the output's head is tied to."""
    notes = []
    for model in models:
        stored = model.origin.tensors
        changed = [
            name
            for name in (word_embeddings(model.checkpoint, roles) if model.adapters else [])
            if model.changes(model.checkpoint.tensors[name])
            or model.checkpoint.tensors[name] != stored.get(name)
        ]
        if changed:
            notes.append(
                f"{model.ref}: the head is tied to {changed[0]} and follows what adapters make of it."
                + _of_training(model)
            )
    return notes


def _of_training(model: Model) -> str:
    """Say where the head of the training did not follow: PEFT's merged model has another than its wrapped one."""
    for one in model.adapters:
        embeds = any(module.kind == "embedding" for module in one.adapter.modules.values())
        if embeds and one.adapter.config.ensure_weight_tying:
            return f" PEFT's merge_and_unload adds the factors of {one.adapter.ref} twice, its forward pass once."
        if embeds:
            return (
                f" So does PEFT's when {one.adapter.ref} is merged; in its training the head stayed the base's "
                "(`ensure_weight_tying` is not true)."
            )
    return ""


def _stay_tied(
    tied: list[Model], untied: list[Model], heads: list[str], pairs: dict[int, tuple[str, str] | None]
) -> TieDecision:
    notes: list[str] = []
    for model in tied:
        head, embeddings = pairs[id(model)] or ("", "")
        if head in model.checkpoint.tensors:
            tensors = model.checkpoint.tensors
            if same_bytes(model.checkpoint, tensors[head], model.checkpoint, tensors[embeddings]) is False:
                raise PlanError(
                    f"{model.ref}: config.json ties {head!r} to {embeddings!r}, yet their values differ; `tie: untie` "
                    f"keeps both{in_a_document(model)}, or set tie_word_embeddings to false in its config.json"
                )
            notes.append(f"{model.ref}: {head} equals {embeddings} and is tied to it; it is not written.")
        model.left_out.update(heads)
    for model in untied:
        model.left_out.update(heads)
        notes.append(
            f"`tie: keep`: {heads[0]} of {model.ref} is left out; the output's head is its embeddings."
        )
    return TieDecision(TIED, notes=tuple(notes))


def _heads(models: list[Model], roles: Mapping[str, tuple[re.Pattern[str], ...]]) -> list[str]:
    """Heads over the vocabulary that have the shape of a word embedding of the same model."""
    found: dict[str, None] = {}
    for model in models:
        tensors = model.checkpoint.tensors
        outside = model.checkpoint.outside
        heads = [name for name in outside if VOCABULARY_HEAD.search(name) and len(tensors[name].shape) == 2]
        if heads:
            shapes = {tensors[name].shape for name in word_embeddings(model.checkpoint, roles)}
            found.update({name: None for name in heads if tensors[name].shape in shapes})
    return list(found)


def word_embeddings(checkpoint: Checkpoint, roles: Mapping[str, tuple[re.Pattern[str], ...]]) -> list[str]:
    """Names of the embedding matrices outside the layers that may be those of words."""
    tensors = checkpoint.tensors
    return [n for n in checkpoint.outside if len(tensors[n].shape) == 2 and is_of_words(n, roles)]


def is_of_words(name: str, roles: Mapping[str, tuple[re.Pattern[str], ...]] | None = None) -> bool:
    """Whether a name outside the layers is that of embeddings that may be those of words.

    >>> is_of_words("model.embed_tokens.weight"), is_of_words("transformer.wpe.weight")
    (True, False)
    """
    return not NOT_WORDS.search(name) and role_outside(name, roles) == EMBEDDINGS


def _pair(
    checkpoint: Checkpoint, heads: list[str], roles: Mapping[str, tuple[re.Pattern[str], ...]]
) -> tuple[str, str] | None:
    """Find the head and the embedding matrix it would be tied to: a decoder's first, then the largest."""
    tensors = checkpoint.tensors
    own = tensors.get(heads[0])
    fitting = [n for n in word_embeddings(checkpoint, roles) if own is None or tensors[n].shape == own.shape]
    embeddings = _largest(checkpoint, fitting)
    return None if embeddings is None else (heads[0], embeddings)


def _largest(checkpoint: Checkpoint, embeddings: list[str]) -> str | None:
    """Choose the embedding matrix that a head would be tied to."""
    tensors = checkpoint.tensors
    return max(embeddings, key=lambda n: (_DECODER in n, tensors[n].elements), default=None)


def _is_tied(checkpoint: Checkpoint, heads: list[str]) -> bool:
    stated = checkpoint.tie_word_embeddings
    stores = any(head in checkpoint.tensors for head in heads)
    return (not stores) if stated is None else stated
