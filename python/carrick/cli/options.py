"""Options that several commands have, which mean the same in each."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Read(StrEnum):
    """How the inputs are read."""

    AUTO = "auto"
    PREAD = "pread"
    MMAP = "mmap"


Memory = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="What the engine may allocate, such as 512MiB; default 1GiB."),
]
Threads = Annotated[int | None, typer.Option(metavar="N", help="Worker threads; default: every CPU.")]
ShardSize = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Largest shard of the output, or `keep` for the base's; default 5GB."),
]
Seed = Annotated[int | None, typer.Option(metavar="N", help="Key of the random masks; default 0.")]
Download = Annotated[
    bool, typer.Option("--download", help="Fetch models from the Hub that are not in the local cache.")
]
ReadBy = Annotated[Read, typer.Option(help="How inputs are read.")]
