"""The chat templates that models bring along."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from carrick.checkpoints import read_json

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def template_of(folder: Path) -> str | None:
    """Return the chat template that a model has, None where it has none.

    Raises
    ------
    FormatError
        A file that should hold it is no JSON.
    """
    own = folder / "chat_template.jinja"
    if own.is_file():
        return own.read_text(encoding="utf-8")
    for name in ("tokenizer_config.json", "chat_template.json"):
        path = folder / name
        content = read_json(path) if path.is_file() else None
        found = _text(content.get("chat_template")) if isinstance(content, dict) else None
        if found is not None:
            return found
    return None


def template_of_most(folders: Iterable[Path]) -> str | None:
    """Return the template that most of the models have: of equally many the one met first, None without any."""
    found = Counter(text for folder in folders if (text := template_of(folder)) is not None)
    return max(found, key=lambda text: found[text], default=None)


def _text(entry: Any) -> str | None:
    """Return a template's text; of several with names, the one for ordinary conversations."""
    if isinstance(entry, list):
        named = [one for one in entry if isinstance(one, dict)]
        entry = next((one.get("template") for one in named if one.get("name") == "default"), None)
    return entry if isinstance(entry, str) else None
