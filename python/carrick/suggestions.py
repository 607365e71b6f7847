"""The nearest valid name, for messages about a name that is not known."""

from __future__ import annotations

from difflib import SequenceMatcher, get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# An ending that two files share makes no misspelling of one out of the other.
_ALIKE = 0.65


def nearest_name(name: str, candidates: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the candidate most like `name`, or None when none is as near as `cutoff` (0 to 1).

    Examples
    --------
    >>> nearest_name("denisty", ["weight", "density"])
    'density'
    >>> nearest_name("colour", ["weight", "density"]) is None
    True
    """
    spelt = {candidate.lower(): candidate for candidate in candidates}
    found = get_close_matches(name.lower(), spelt, n=1, cutoff=cutoff)
    return spelt[found[0]] if found else None


def nearest(name: str, candidates: Iterable[str], cutoff: float = 0.6) -> str:
    """Return the end of a sentence that suggests the nearest valid name; empty when nothing is near.

    Examples
    --------
    >>> "unknown parameter `denisty`" + nearest("denisty", ["weight", "density"])
    'unknown parameter `denisty`; did you mean `density`?'
    """
    found = nearest_name(name, candidates, cutoff)
    return f"; did you mean `{found}`?" if found is not None else ""


def nearest_file(path: Path, *, whole: bool = False) -> str:
    """Return the end of a sentence that suggests the nearest file or folder beside a path; empty when none is near.

    Parameters
    ----------
    path
        What is not there.
    whole
        Name the found one by its whole path.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for name in ("config.yml", "plan.json", "nr.yml"):
    ...     (folder / name).touch()
    >>> nearest_file(folder / "confg.yml"), nearest_file(folder / "none.json"), nearest_file(folder / "nothere.yml")
    ('; did you mean `config.yml`?', '', '')
    """
    beside = path.parent.iterdir() if path.parent.is_dir() else ()
    near = [each for each in beside if _likeness(each.stem, path.stem) >= _ALIKE]
    if not near:
        return ""
    found = max(near, key=lambda each: _likeness(each.name, path.name))
    return f"; did you mean `{path.parent / found.name if whole else found.name}`?"


def _likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, one.lower(), other.lower()).ratio()
