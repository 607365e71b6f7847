"""How far a run has come, as it is told to whoever watches."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of a run; about ten come each second.

    Attributes
    ----------
    bytes_done, bytes_total
        Bytes moved and bytes to move, all passes together.
    tensors_done, tensors_total
        Tensors finished and tensors to write.
    tensor
        The tensor being worked on.
    stage
        What is being done, in a word or two.
    document
        Name of the intermediate model of a multi-document configuration, empty for the output itself.
    """

    bytes_done: int
    bytes_total: int
    tensors_done: int
    tensors_total: int
    tensor: str
    stage: str
    document: str = ""


def listener(watch: Callable[[Progress], None] | None, document: str = "") -> Callable[[str], None]:
    """Turn a watcher into the callback that the engine calls with JSON.

    There is always a callback: running a line of Python is what lets Ctrl-C arrive while the engine works.
    """

    def told(message: str) -> None:
        if watch is not None:
            moment = json.loads(message)
            moment["tensor"] = moment["tensor"] or ""  # between two tensors there is none
            watch(Progress(**moment, document=document))

    return told
