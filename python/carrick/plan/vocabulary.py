"""A vocabulary that was resized in memory before an adapter was trained: which tensors have a row for each token.

PEFT stores the resized embeddings and head whole beside the adapter. They take the place of the base's, and all
tensors over the vocabulary have to come with them: rows that are stored nowhere were made up at random.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from carrick.checkpoints.layers import locate
from carrick.plan.roles import EMBEDDINGS, role_outside
from carrick.plan.tied import NOT_WORDS, VOCABULARY_HEAD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carrick.checkpoints.checkpoint import Checkpoint
    from carrick.checkpoints.headers import StoredTensor

RESIZE_FIRST = (
    "resize the base's vocabulary first, as it was for the training, save that, and name it as the base"
)
# Outside the module whose bias it is.
_BERT_BIAS = "cls.predictions.bias"
UNKNOWN_ROWS = "of a resized vocabulary the adapter holds no rows but those that were trained"


class Resized(NamedTuple):
    """A vocabulary that an adapter brings.

    Attributes
    ----------
    old, new
        Rows of the base's embeddings, and those in their place.
    adapter
        How the user calls the adapter that they are taken from.
    untrained
        They are as they were before the training.
    """

    old: int
    new: int
    adapter: str
    untrained: bool


def is_over_vocabulary(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor has a row for each token: embeddings of words, a head over them, or its bias.

    Examples
    --------
    >>> [is_over_vocabulary(name, (32, 16)) for name in ("wte.weight", "lm_head.weight", "wpe.weight", "score.weight")]
    [True, True, False, False]
    >>> [is_over_vocabulary(name, (32,)) for name in ("lm_head.bias", "cls.predictions.bias", "classifier.bias")]
    [True, True, False]
    """
    if locate(name) is not None:
        return False
    if name.endswith("bias"):
        weight = f"{name.removesuffix('bias')}weight"
        return name == _BERT_BIAS or VOCABULARY_HEAD.search(weight) is not None
    of_words = role_outside(name) == EMBEDDINGS and not NOT_WORDS.search(name)
    return len(shape) == 2 and (of_words or VOCABULARY_HEAD.search(name) is not None)


def resizes(name: str, old: tuple[int, ...], new: tuple[int, ...]) -> bool:
    """Whether one tensor is another with rows for more or fewer tokens."""
    return len(old) == len(new) > 0 and old[1:] == new[1:] and old != new and is_over_vocabulary(name, old)


def left_behind(origin: Checkpoint, tensors: Mapping[str, StoredTensor], resized: Resized) -> str | None:
    """Name a tensor over the vocabulary that still has the base's rows where others have been resized."""
    for name, stored in origin.tensors.items():
        if resized.old in stored.shape and is_over_vocabulary(name, stored.shape):
            shape = tensors[name].shape
            if resized.old in shape and resized.new not in shape:
                return name
    return None
