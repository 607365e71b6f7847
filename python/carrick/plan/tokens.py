"""Whether rows of embeddings stand for the same tokens, where a configuration says whose tokenizer it wants.

Rows are merged by their number. Models whose tokenizers disagree about a number would give the mean of two tokens.
"""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrick.errors import PlanError
from carrick.plan.tied import is_of_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carrick.plan.lineup import Model
    from carrick.plan.match import Target

_MATRIX = 2
_REMEDY = "leave out `tokenizer_source` to merge rows by their number, with the tokenizer of the base or first model"


def check_tokens(source: Mapping[str, Any], targets: Sequence[Target]) -> None:
    """Refuse models and a chosen tokenizer that mean different tokens by one row of the embeddings.

    Parameters
    ----------
    source
        Name and folder of the chosen tokenizer.
    targets
        What is merged; models that give layers alone may have any tokenizer.

    Raises
    ------
    PlanError
        Names two models and a token of each, or a token without a row.
    """
    embeddings = [target for target in targets if _is_embedding(target)]
    models = [model for target in embeddings for model in _models(target)]
    if not models or any(model.adapted for model in models):
        return  # rows of a vocabulary that an adapter resized are settled with the adapter
    rows = max(target.tensors[0].shape[0] for target in embeddings)
    folders = {str(model.ref): Path(model.origin.folder) for model in models} | {
        str(source["ref"]): Path(source["folder"])
    }
    read = {name: tokens for name, folder in folders.items() if (tokens := _tokens(folder)) is not None}
    chosen = read.get(str(source["ref"]), {})
    # A merged model's own tokenizer may have tokens without rows, as some on the Hub have a padding token.
    is_own = any(Path(model.origin.folder) == Path(source["folder"]) for model in models)
    if chosen and max(chosen) >= rows and not is_own:
        raise PlanError(
            f"{source['ref']}: its tokenizer has {chosen[max(chosen)]!r} as number {max(chosen)}, and the merged "
            f"embeddings have {rows} rows; take the tokenizer of a model that is merged, or leave out "
            "`tokenizer_source`"
        )
    for (first, ours), (second, theirs) in combinations(read.items(), 2):
        if ours == theirs:
            continue
        other = next(
            (n for n in sorted(ours.keys() & theirs.keys()) if n < rows and ours[n] != theirs[n]), None
        )
        if other is not None:
            raise PlanError(
                f"row {other} of the embeddings is {ours[other]!r} for {first} and {theirs[other]!r} for {second}; "
                f"{_REMEDY}"
            )


def _is_embedding(target: Target) -> bool:
    return len(target.tensors[0].shape) == _MATRIX and is_of_words(target.name)


def _models(target: Target) -> list[Model]:
    return target.lineup.everyone if target.copied_from is None else [target.copied_from]


def _tokens(folder: Path) -> dict[int, str] | None:
    """Return what each number stands for; None where the files are not of a kind that is read here."""
    try:
        return _numbered(folder)
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None  # what a loader of the model would say is not said here


def _numbered(folder: Path) -> dict[int, str]:
    whole = _json(folder / "tokenizer.json")
    if whole is not None:
        vocabulary = whole["model"]["vocab"]
        if isinstance(vocabulary, list):  # Unigram: tokens with their scores
            vocabulary = {entry[0]: number for number, entry in enumerate(vocabulary)}
        added = {entry["content"]: entry["id"] for entry in whole.get("added_tokens") or []}
    else:
        vocabulary, added = _json(folder / "vocab.json"), _json(folder / "added_tokens.json") or {}
    return {int(number): token for token, number in (vocabulary | added).items()}


def _json(path: Path) -> Any:
    """Return what a file holds; None where there is none."""
    return json.loads(path.read_text("utf-8")) if path.is_file() else None
