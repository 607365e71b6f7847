"""The folder beside the output in which a run works until everything is done.

One run at a time holds it. After a failure there remains what the same command could continue with, and nothing else.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Self

from carrick.errors import CarrickError
from carrick.held_folder import LOCK, HeldFolder, partial_folder

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

JOURNAL = "journal.jsonl"

__all__ = ["JOURNAL", "LOCK", "PartialFolder"]


class PartialFolder(HeldFolder):
    """Context manager for ``OUT.carrick-partial``: creates it, locks it, and tidies up after a failure.

    Parameters
    ----------
    out
        The output folder, absolute; the partial one stands beside it.
    resumable
        Whether the same command continues with the tensors that are finished.

    Raises
    ------
    BusyError
        When another run holds the folder.
    """

    def __init__(self, out: Path, *, resumable: bool = False) -> None:
        super().__init__(partial_folder(out))
        self._resumable = resumable

    def __enter__(self) -> Self:
        self._take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.path.exists() and error is not None:
            # What Carrick refuses (changed inputs, NaN, an impossible plan) no second run would mend.
            if self._resumable and not isinstance(error, CarrickError) and self._worth_keeping():
                error.add_note(f"what is done stays in {self.path}: the same command goes on from there")
            else:
                self._remove()
        self._release()

    def prepare_commit(self, names: set[str]) -> None:
        """Remove all but ``names``: what a run of another configuration left, and at last the lock."""
        self._remove_all_but(names)

    def _worth_keeping(self) -> bool:
        """Whether a tensor is finished: the journal's first line only says which run this is."""
        with suppress(OSError):
            return (self.path / JOURNAL).read_bytes().count(b"\n") > 1
        return False
