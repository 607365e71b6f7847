"""Names of the Hub where nothing is downloaded: an error that says how to fetch them."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from carrick.errors import FormatError
from carrick.suggestions import nearest_file

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def nothing_downloaded(what: str, name: str, revision: str | None = None) -> Iterator[None]:
    """Say for what is not in the local cache how to fetch it, in place of an option that is not there.

    Parameters
    ----------
    what
        What is looked for, such as the recipe's key.
    name, revision
        As it was asked for.

    Raises
    ------
    FormatError
        What is inside found neither a folder nor a snapshot in the cache.
    """
    from huggingface_hub.errors import LocalEntryNotFoundError  # noqa: PLC0415  (slow to import)

    try:
        yield
    except FormatError as error:
        if not isinstance(error.__cause__, LocalEntryNotFoundError):
            raise
        option = "" if revision is None else f" --revision {revision}"
        raise FormatError(
            f"{what}: `{name}` is neither a folder here nor in the Hugging Face cache; give a folder, or fetch it "
            f"first with `hf download {name}{option}`{nearest_file(Path(name))}"
        ) from None
