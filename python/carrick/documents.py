"""Configurations of several documents: each named one is a model that later ones merge further.

All of them are planned before the first is merged, the later ones against headers that do not exist yet, so
that a mistake in the last document costs no time.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrick.checkpoints import Checkpoint, find
from carrick.config import load
from carrick.config.seed import check_seed
from carrick.errors import ConfigError, PlanError
from carrick.held_folder import intermediates_folder
from carrick.knots.modules import scratch_bytes
from carrick.output_folder import check_replaceable
from carrick.plan import DEFAULT_SHARD_SIZE, Plan, build_plan, planned_checkpoint
from carrick.plan.output import check_apart, check_output_of_plan, check_room
from carrick.provenance import attach_provenance

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carrick.config import Document
    from carrick.plan import ShardSize


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
        self._planned: dict[str | None, Plan] = {}

    @property
    def names(self) -> list[str]:
        """Names of the intermediates, in the order in which they are merged."""
        return [document.name for document in self.documents if document.name is not None]

    @property
    def folder(self) -> Path:
        """Where the intermediates are merged, beside the output."""
        return intermediates_folder(self.out or Path.cwd() / "merged")

    def plans(self) -> list[Plan]:
        """Plan every document from headers alone; those of intermediates are what they are going to be.

        Raises
        ------
        PlanError
            Also where an input of any document lies in the output, or the disk has no room for all of them.
        """
        found: dict[str, Checkpoint] = {}
        for document in self.documents:
            plan = self._plan(document, found)
            self._planned[document.name] = plan
            if document.name is not None:
                found[document.name] = planned_checkpoint(plan, self.folder / document.name, document.name)
        plans = list(self._planned.values())
        for document, plan in zip(self.documents, plans, strict=True):
            attach_provenance(plan, self._planned, self.sources_of(document))
        if self.out is not None:
            for place in (self.out, self.folder):
                for plan in plans:
                    check_apart(place, plan)
            check_room(self.out, sum(plan.bytes_written + scratch_bytes(plan.jobs) for plan in plans))
        return plans

    def plan(self, document: Document) -> Plan:
        """Plan one document against the intermediates that lie on disk by now."""
        found = {name: find(str(self.folder / name)) for name in document.depends_on}
        plan = self._plan(document, found)
        attach_provenance(plan, self._planned, self.sources_of(document))
        return plan

    def sources_of(self, document: Document) -> list[str]:
        """Names of all documents that go into one, by way of others as well, in the order in which they run."""
        wanted = set(document.depends_on)
        for other in reversed(self.documents):
            if other.name in wanted:
                wanted.update(other.depends_on)
        return [name for name in self.names if name in wanted]

    def kept_place(self, name: str) -> Path:
        """Folder beside the output where an intermediate stays with ``keep_intermediates``."""
        return self.folder.with_name(name)

    def check_kept_places(self, plans: Sequence[Plan], *, force: bool) -> None:
        """Refuse to keep an intermediate where something else stands, an input or the output above all."""
        for name in self.names:
            place = self.kept_place(name)
            if place == self.out:
                raise ConfigError(
                    f"`{name}` would be kept at {place}, where the output goes; rename one of them"
                )
            for plan in plans:
                try:
                    check_output_of_plan(plan, place)
                except PlanError as error:
                    raise PlanError(f"`{name}` would be kept beside the output. {error}") from None
            check_replaceable(place, force=force)

    def _plan(self, document: Document, intermediates: Mapping[str, Checkpoint]) -> Plan:
        plan = build_plan(
            document,
            self.out if document.name is None else None,
            shard_size=self._shard_size,
            seed=self._seed,
            download=self._download,
            intermediates=intermediates,
        )
        made = {str(intermediates[name].folder) for name in document.depends_on}
        for model in plan.meta["models"]:
            if model["folder"] in made:
                model["intermediate"] = True
        return plan
