"""Configurations of several documents: each named one is a model that later ones merge further.

All of them are planned before the first is merged, the later ones against headers that do not exist yet, so
that a mistake in the last document costs no time.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrick.checkpoints import Checkpoint, find
from carrick.config import load
from carrick.config.seed import check_seed
from carrick.errors import ConfigError, PlanError
from carrick.output_folder import check_replaceable, put_in_place
from carrick.plan import DEFAULT_SHARD_SIZE, Plan, build_plan, planned_checkpoint
from carrick.plan.output import check_output_of_plan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carrick.config import Document
    from carrick.plan import ShardSize

SUFFIX = ".carrick-intermediates"


class Series:
    """The documents of a configuration, in the order in which they are merged.

    Parameters
    ----------
    config
        Path of a YAML file, or its content as Python objects.
    out
        The output folder; None plans without one.
    shard_size, seed, download
        As for :func:`carrick.merge.merge`.
    """

    def __init__(
        self,
        config: str | Path | Mapping[str, Any] | Sequence[Mapping[str, Any]],
        out: Path | None,
        *,
        shard_size: ShardSize | None = None,
        seed: int | None = None,
        download: bool = False,
    ) -> None:
        self.documents: list[Document] = load(config)
        self.out = out
        self._shard_size: ShardSize = DEFAULT_SHARD_SIZE if shard_size is None else shard_size
        check_seed(seed)
        self._seed = seed
        self._download = download

    @property
    def folder(self) -> Path:
        """Where the intermediates are merged, beside the output."""
        out = self.out or Path.cwd() / "merged"
        return out.with_name(out.name + SUFFIX)

    def plans(self) -> list[Plan]:
        """Plan every document from headers alone; those of intermediates are what they are going to be."""
        found: dict[str, Checkpoint] = {}
        plans = []
        for document in self.documents:
            plan = self._plan(document, found)
            plans.append(plan)
            if document.name is not None:
                found[document.name] = planned_checkpoint(plan, self.folder / document.name, document.name)
        return plans

    def plan(self, document: Document) -> Plan:
        """Plan one document against the intermediates that lie on disk by now."""
        found = {name: find(str(self.folder / name)) for name in document.depends_on}
        return self._plan(document, found)

    def is_merged(self, document: Document, plan: Plan) -> bool:
        """Whether an interrupted run has finished this intermediate, from the very same files."""
        mark = self._mark(document)
        return mark.is_file() and mark.read_text() == _identity(plan) and self.place(document).is_dir()

    def mark_merged(self, document: Document, plan: Plan) -> None:
        """Remember that an intermediate is finished."""
        self._mark(document).write_text(_identity(plan))

    def place(self, document: Document) -> Path:
        """Folder that a document is merged into."""
        if document.name is not None:
            return self.folder / document.name
        if self.out is None:
            raise ConfigError("there is no output folder to merge into")
        return self.out

    def kept_place(self, document: Document) -> Path:
        """Folder beside the output where an intermediate stays with ``keep_intermediates``."""
        return self.folder.with_name(str(document.name))

    def check_kept_places(self, plans: Sequence[Plan], *, force: bool) -> None:
        """Refuse to keep an intermediate where something else stands, an input or the output above all."""
        for document in self.documents[:-1]:
            place = self.kept_place(document)
            if place == self.out:
                raise ConfigError(
                    f"`{document.name}` would be kept at {place}, where the output goes; rename one of them"
                )
            for plan in plans:
                try:
                    check_output_of_plan(plan, place)
                except PlanError as error:
                    raise PlanError(f"`{document.name}` would be kept beside the output. {error}") from None
            check_replaceable(place, force=force)

    def clear(self, *, keep: bool) -> None:
        """Delete the intermediates, or move them beside the output."""
        if keep:
            for document in self.documents[:-1]:
                put_in_place(self.place(document), self.kept_place(document))
        shutil.rmtree(self.folder, ignore_errors=True)

    def _mark(self, document: Document) -> Path:
        return self.folder / f"{document.name}.finished"

    def _plan(self, document: Document, intermediates: Mapping[str, Checkpoint]) -> Plan:
        out = None if self.out is None else self.place(document)
        return build_plan(
            document,
            out,
            shard_size=self._shard_size,
            seed=self._seed,
            download=self._download,
            intermediates=intermediates,
        )


def _identity(plan: Plan) -> str:
    """Hash a plan with its files' sizes, times and inodes, which the record's hash leaves out."""
    return hashlib.sha256(plan.to_json().encode()).hexdigest()
