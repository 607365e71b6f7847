"""Head and embeddings that adapters change as one (`ensure_weight_tying`): whether the result still does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carrick.adapters.keys import find_name
from carrick.plan.tied import VOCABULARY_HEAD, is_of_words

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from carrick.adapters.adapter import Adapter
    from carrick.adapters.merging.lineup import AdapterLineup, Entry
    from carrick.adapters.merging.outputs import Outputs
    from carrick.adapters.merging.recipe import Recipe


def settle_tying(lineup: AdapterLineup, recipe: Recipe, outputs: Outputs) -> None:
    """Decide what `ensure_weight_tying` says: true only where head and embeddings of the result are one.

    PEFT reads what a file holds of the two into one place then, and the later overwrites the earlier. Where they are
    not tied it loads both as they are stored, which is right whatever the inputs were.

    Parameters
    ----------
    lineup, recipe
        The merge.
    outputs
        All that will be written, whose `is_tied` is set.
    """
    written = {job.name for job in outputs.jobs}
    factors = [e for e in lineup.entries if written & set(e.names) and _is_concerned(e.path, e.kind)]
    # What is written of each of these is a sum over all, or that of one which is kept.
    holders = [a for a in lineup.adapters if _saved(a)] if outputs.kept is None else [outputs.kept]
    whole = {name for adapter in holders for name in _saved(adapter)}
    tied = [lineup.adapters[t.index] for e in factors for t in e.terms] + [a for a in holders if whole]
    outputs.is_tied = (
        bool(tied)
        and all(adapter.config.ensure_weight_tying for adapter in tied)
        and (not factors or _are_one_sum(factors, recipe))
        and (not whole or _are_one_module(holders, whole, recipe, outputs))
    )
    was = next((adapter for adapter in tied if adapter.config.ensure_weight_tying), None)
    if was is not None and not outputs.is_tied:
        outputs.notes.append(
            f"{was.ref} ties its head to its embeddings; the result holds each by itself (`ensure_weight_tying`: "
            "false)."
        )


def with_heads(listed: Iterable[str], saved: Iterable[str]) -> tuple[str, ...]:
    """Add heads that are saved whole to `modules_to_save`: where they are tied, PEFT leaves them out of the list.

    Examples
    --------
    >>> with_heads(["embed_tokens"], ["model.embed_tokens.weight", "lm_head.weight"])
    ('embed_tokens', 'lm_head')
    """
    modules = tuple(dict.fromkeys(listed))
    heads = [name.rpartition(".")[0] for name in saved if VOCABULARY_HEAD.search(name)]
    return (*modules, *(path for path in heads if not any(f".{m}." in f".{path}." for m in modules)))


def _is_concerned(path: str, kind: str = "") -> bool:
    name = f"{path}.weight"
    return kind == "embedding" or bool(VOCABULARY_HEAD.search(name)) or is_of_words(name)


def _saved(adapter: Adapter) -> set[str]:
    """Names of heads and embeddings that an adapter trained whole."""
    return {n for n in adapter.saved.keys() - adapter.carried if _is_concerned(n.rpartition(".")[0])}


def _are_one_sum(factors: list[Entry], recipe: Recipe) -> bool:
    """Whether the factors are side by side with the same scales: whatever decomposes them treats each by itself."""
    if not recipe.is_sum or recipe.truncates or recipe.adapter.space == "factors" or len(factors) != 2:
        return False
    first, other = factors
    alike = [t.index for t in first.terms] == [t.index for t in other.terms]
    return alike and first.kind != other.kind and recipe.term_scales(first) == recipe.term_scales(other)


def _are_one_module(holders: list[Adapter], whole: Collection[str], recipe: Recipe, outputs: Outputs) -> bool:
    """Whether each adapter saved both, and what is added to both is the same."""
    heads = {name for name in whole if VOCABULARY_HEAD.search(name)}
    if len(whole) != 2 or len(heads) != 1 or any(_saved(adapter) != whole for adapter in holders):
        return False
    if outputs.kept is not None:
        return True
    base = {} if outputs.base is None else outputs.base.tensors
    own_head = any(find_name(head, base) for head in heads)
    first, other = ([recipe.named(name).scale, *recipe.named(name).weights] for name in whole)
    return not own_head and first == other
