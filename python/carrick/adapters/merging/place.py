"""Whether a merge of adapters may go where the user wants it: in the place of one of them, and of nothing else read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from carrick.plan.output import check_output, check_trained_on, places_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from carrick.adapters.merging.lineup import AdapterLineup
    from carrick.config import Document


def check_place(out: Path, document: Document, lineup: AdapterLineup, made: Collection[str]) -> None:
    """Refuse an output that would take the base away, or an adapter other than the one it replaces.

    Parameters
    ----------
    out
        Folder of the merged adapter. That of one of the adapters it may be, since the result is whole before it goes.
    document, lineup
        The merge, and its adapters.
    made
        Names of other documents, whose adapters lie among the intermediates.

    Raises
    ------
    PlanError
        Names the input, or the adapter whose base it is.
    """
    target = out.resolve()
    adapters = [one for one in lineup.adapters if one.ref not in made and one.folder.resolve() != target]
    base = _places_of_base(document)
    files = [Path(file.path) for adapter in adapters for file in adapter.files]
    check_output(out, [*(adapter.folder for adapter in adapters), *base], [*files, *base])
    for adapter in lineup.adapters:
        check_trained_on(out, adapter.ref, adapter.config.base_model_name_or_path)


def _places_of_base(document: Document) -> list[Path]:
    """Where the base lies on disk, and adapters on it; it is named even where nothing of it is read."""
    base = document.base_model
    return [] if base is None else places_of([base.path, *(adapter.path for adapter in base.adapters)])
