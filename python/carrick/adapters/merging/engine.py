"""How and where the core works on a merge of adapters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Engine:
    """How the engine works; none of it changes what is computed.

    `folder` is the partial folder, where decompositions lie until the merge has read them.
    """

    memory: int
    threads: int | None = None
    device: str = "cpu"
    download: bool = False
    progress: Callable[[str], Any] | None = None
    folder: Path = Path()

    @property
    def options(self) -> dict[str, Any]:
        """As the core takes them."""
        return {"memory": self.memory, "threads": self.threads}
