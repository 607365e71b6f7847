"""The merge from disk to disk: configuration, plan, engine, files beside the weights, one rename."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from carrick import _core
from carrick.documents import Series
from carrick.errors import ConfigError
from carrick.finish import check_meta, companions, write_companions
from carrick.held_folder import intermediates_folder
from carrick.home import absolute
from carrick.intermediates import Intermediates
from carrick.knots.run import prepare
from carrick.memory import budget, container_limit, memory_in_use, parse_size
from carrick.output_folder import check_replaceable, must_be_forced, put_in_place
from carrick.partial import JOURNAL, PartialFolder
from carrick.plan import KEEP, Plan, check_output_of_plan, estimate_of, load_plan
from carrick.plan.output import check_apart
from carrick.progress import listener
from carrick.record import NAME as RECORD
from carrick.record import inputs, record, write_record
from carrick.report import MergeReport
from carrick.threads import check_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from carrick.adapters.merging.plan import AdapterPlan
    from carrick.finish import Companions
    from carrick.plan import ShardSize
    from carrick.progress import Progress
    from carrick.record import Records

    Config = str | Path | Mapping[str, Any] | Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class EngineOptions:
    """How the engine works; none of it changes a byte of the output."""

    memory: int
    threads: int | None
    read: Literal["auto", "pread", "mmap"]
    check_finite: bool
    tile: int | None = None
    fresh: bool = False

    def to_json(self) -> str:
        """As the engine takes them."""
        return json.dumps(asdict(self))


def merge(
    config: Config | None,
    out: str | Path,
    *,
    memory: str | int | None = None,
    threads: int | None = None,
    shard_size: str | int | None = None,
    seed: int | None = None,
    dry_run: bool = False,
    force: bool = False,
    read: Literal["auto", "pread", "mmap"] = "auto",
    check_finite: bool = False,
    hash_inputs: bool = False,
    keep_intermediates: bool = False,
    download: bool = False,
    device: str = "cpu",
    progress: Callable[[Progress], None] | None = None,
    plan: Plan | str | Path | None = None,
) -> MergeReport:
    """Merge checkpoints from disk to disk.

    Interrupted or failed midway, the same call again continues after the last finished tensor.

    Parameters
    ----------
    config
        Path of a YAML file (mergekit's or ours), its content as a dict, or several documents as a list; None
        with ``plan``.
    out
        Folder of the merged model, made by one rename at the end.
    memory
        What the engine may allocate, such as ``"512MiB"`` or bytes; 1 GiB by default, never more than a
        container allows.
    threads
        Worker threads; all usable CPUs by default.
    shard_size
        Largest shard, such as ``"5GB"`` (the default) or bytes; ``"keep"`` keeps the base's shards.
    seed
        Key of the random masks; over the configuration's, 0 by default.
    dry_run
        Plan and check everything, write nothing.
    force
        Replace a model that is already at ``out``.
    read
        How inputs are read; ``auto`` chooses.
    check_finite
        Refuse inputs with NaN or infinities.
    hash_inputs
        Record a checksum of every input file, which reads them once more.
    keep_intermediates
        Leave the models of a configuration's named documents beside ``out``.
    download
        Fetch models from the Hub that are not in the local cache.
    device
        As for :func:`carrick.adapters.merge`, where the models are adapters; merges of checkpoints run on the CPU.
    progress
        Called about ten times a second; an exception from it stops the run.
    plan
        A saved plan (or its file) to run instead of a configuration.

    Returns
    -------
    MergeReport

    Raises
    ------
    ConfigError, PlanError, FormatError
        What was asked for cannot be done; nothing is left behind.
    OSError
        Reading or writing failed; what is done stays in ``OUT.carrick-partial`` for the next run.

    Examples
    --------
    >>> import numpy as np, pathlib, safetensors.numpy, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for name, value in [("a", 1.0), ("b", 3.0)]:
    ...     safetensors.numpy.save_file({"w": np.full(4, value, np.float32)}, folder / f"{name}.safetensors")
    >>> models = [{"model": str(folder / f"{n}.safetensors"), "parameters": {"weight": 0.5}} for n in "ab"]
    >>> report = merge({"merge_method": "linear", "models": models}, folder / "merged")
    >>> report.tensors, safetensors.numpy.load_file(folder / "merged" / "model.safetensors")["w"].tolist()
    (1, [2.0, 2.0, 2.0, 2.0])
    """
    start = time.perf_counter()
    target = absolute(out)
    check_replaceable(target, force=force)
    engine, capped = engine_options(memory, threads, read, check_finite=check_finite)
    if plan is None and config is not None and _has_models_that_are_adapters(config):
        from carrick.adapters import configured  # noqa: PLC0415
        from carrick.adapters.merging.engine import Engine  # noqa: PLC0415

        configured.refuse_for_adapters(shard_size=shard_size, hash_inputs=hash_inputs)
        how = Engine(engine.memory, threads, device, download, listener(progress))
        asked: dict[str, Any] = {"seed": seed, "force": force, "keep": keep_intermediates}
        if dry_run:
            made = configured.report_of(configured.plan_configured(config, target, how, **asked), target)
        else:
            made = configured.merge_configured(config, target, how, **asked)
        made.notes += capped
        return made
    if device != "cpu":
        raise ConfigError(
            f"--device {device} is for adapters whose merge decomposes something, and this is a merge of checkpoints, "
            "which runs on the CPU: leave it out"
        )
    report = MergeReport(target, notes=capped, dry_run=dry_run)
    run = _Run(report, engine, force=force, hash_inputs=hash_inputs, progress=progress)
    if plan is not None:
        _refuse_beside_plan(config=config, seed=seed, shard_size=shard_size)
        if not isinstance(plan, Plan | str | Path):
            raise ConfigError("the plan is none of a merge of checkpoints: merge its configuration instead")
        run.saved(plan if isinstance(plan, Plan) else load_plan(plan))
    elif config is None:
        raise ConfigError("nothing to merge: give a configuration or a saved plan")
    else:
        size = _shard_size(shard_size)
        series = Series(config, target, shard_size=size, seed=seed, download=download)
        run.series(series, keep=keep_intermediates)
    report.seconds = time.perf_counter() - start
    return report


def plan(
    config: Config,
    out: str | Path | None = None,
    *,
    memory: str | int | None = None,
    threads: int | None = None,
    shard_size: str | int | None = None,
    seed: int | None = None,
    download: bool = False,
) -> Plan | AdapterPlan:
    """Plan a merge from headers alone: what would run, to print, save, or pass to :func:`merge`.

    Parameters
    ----------
    config, memory, threads, shard_size, seed, download
        As for :func:`merge`; what does not fit the memory is refused.
    out
        The output folder, when room on its disk, overlap with the inputs and what stands there are to be checked;
        a model or adapter there is no mistake, since :func:`merge` can replace it.

    Returns
    -------
    Plan
        Of the output; the plans of a configuration's named documents are left out. Of a merge of adapters an
        `AdapterPlan`, which is shown and not run.

    Raises
    ------
    ConfigError, PlanError, FormatError
        What was asked for cannot be done.
    """
    return plan_documents(
        config, out, memory=memory, threads=threads, shard_size=shard_size, seed=seed, download=download
    )[-1]


def plan_documents(
    config: Config,
    out: str | Path | None = None,
    *,
    memory: str | int | None = None,
    threads: int | None = None,
    shard_size: str | int | None = None,
    seed: int | None = None,
    download: bool = False,
) -> list[Plan] | list[AdapterPlan]:
    """Plan every document of a configuration, the output's last; the parameters are those of :func:`plan`."""
    engine, _ = engine_options(memory, threads)
    target = None if out is None else absolute(out)
    if target is not None:
        must_be_forced(target)  # raises where not even that would do
    if _has_models_that_are_adapters(config):
        from carrick.adapters.configured import plan_configured, refuse_for_adapters  # noqa: PLC0415
        from carrick.adapters.merging.engine import Engine  # noqa: PLC0415

        refuse_for_adapters(shard_size=shard_size)
        how = Engine(engine.memory, threads, download=download)
        return plan_configured(config, target, how, seed=seed)
    size = _shard_size(shard_size)
    plans = Series(config, target, shard_size=size, seed=seed, download=download).plans()
    for each in plans:
        companions(each)
        estimate_of(each, asdict(engine))  # raises for what does not fit
    return plans


def engine_options(
    memory: str | int | None,
    threads: int | None,
    read: Literal["auto", "pread", "mmap"] = "auto",
    *,
    check_finite: bool = False,
) -> tuple[EngineOptions, list[str]]:
    """Return how the engine works when it is asked so, and a note where the container leaves it less memory."""
    allowed, capped = budget(memory, container_limit(), memory_in_use())
    engine = EngineOptions(allowed, threads, read, check_finite)
    _check(engine)
    return engine, [capped] if capped else []


def _has_models_that_are_adapters(config: Config) -> bool:
    from carrick.adapters.configured import merges_adapters  # noqa: PLC0415  (merges of checkpoints do without)

    return merges_adapters(config)


class _Run:
    """One call of :func:`merge`: plans in, a report filled."""

    def __init__(
        self,
        report: MergeReport,
        engine: EngineOptions,
        *,
        force: bool,
        hash_inputs: bool,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._report = report
        self._engine = engine
        self._force = force
        self._hash_inputs = hash_inputs
        self._progress = progress

    def saved(self, plan: Plan) -> None:
        """Run a plan that was made before."""
        check_meta(plan)
        out = self._report.out
        check_output_of_plan(plan, out)
        check_apart(intermediates_folder(out), plan)
        beside = companions(plan)
        self._announce([plan])
        if not self._report.dry_run:
            with Intermediates(out, ()):
                self._execute(plan, out, beside)

    def series(self, series: Series, *, keep: bool) -> None:
        """Plan all documents of a configuration, then merge one after the other."""
        plans = series.plans()
        if keep:
            series.check_kept_places(plans, force=self._force)
        beside = [companions(plan) for plan in plans]
        self._announce(plans)
        if self._report.dry_run:
            return
        records: dict[str, dict[str, Any]] = {}
        with Intermediates(self._report.out, series.names, keep=keep) as held:
            for document, plan, files in zip(series.documents, plans, beside, strict=True):
                if document.depends_on:
                    plan = series.plan(document)  # noqa: PLW2901  (now against the files that were merged meanwhile)
                    files = companions(plan)  # noqa: PLW2901
                sources = {name: records[name] for name in series.sources_of(document)}
                if document.name is None:
                    self._execute(plan, self._report.out, files, sources=sources)
                    continue
                records[document.name] = self._intermediate(held, document.name, plan, files, sources)
            for name in series.names if keep else ():
                put_in_place(held.place(name), series.kept_place(name))

    def _intermediate(
        self, held: Intermediates, name: str, plan: Plan, files: Companions, sources: Records
    ) -> dict[str, Any]:
        """Merge a named document, unless an interrupted run has done so, and return its record."""
        if held.is_merged(name, plan):
            # As this call would have written it, whatever the interrupted one was asked to hash.
            return held.record(name) | {"inputs": inputs(plan, hash_inputs=self._hash_inputs)}
        held.discard(name)
        content = self._execute(plan, held.place(name), files, name, sources=sources)
        held.mark_merged(name, plan)
        return content

    def _announce(self, plans: list[Plan]) -> None:
        """Take what is known before the engine runs."""
        self._report.plans = plans
        self._report.notes += dict.fromkeys(note for plan in plans for note in plan.notes)
        if self._report.dry_run:
            costs = [estimate_of(plan, asdict(self._engine)) for plan in plans]
            self._report.tensors = len(plans[-1].jobs)
            self._report.bytes_read = sum(cost.bytes_read for cost in costs)
            self._report.bytes_written = sum(cost.bytes_written for cost in costs)

    def _execute(
        self,
        plan: Plan,
        out: Path,
        files: Companions,
        name: str | None = None,
        *,
        sources: Records = MappingProxyType({}),
    ) -> dict[str, Any]:
        shards = [shard.name for shard in plan.shards]
        force = self._force if name is None else True  # an intermediate that stands there is stale, and ours
        with PartialFolder(out, resumable=True) as partial:
            told = listener(self._progress, name or "")
            staged = prepare(plan, partial.path, asdict(self._engine), told)
            text = _core.execute(staged.plan.to_json(), str(partial.path), self._engine.to_json(), told)
            report = json.loads(text)
            content = record(plan, report, hash_inputs=self._hash_inputs, intermediates=sources)
            if staged.modules:
                content["knots"] = staged.record
            write_record(content, partial.path)
            write_companions(files, partial.path)
            parts = {*shards, *(f"{shard}.part" for shard in shards)}
            folders = {name.split("/", 1)[0] for name in files}
            partial.prepare_commit({*parts, *folders, JOURNAL, RECORD})
            _core.commit(str(partial.path), str(out), shards, force)
        self._report.take(report)
        self._report.bytes_read += staged.bytes_read
        self._report.bytes_written += staged.bytes_written
        self._report.notes += staged.notes
        return content


def _shard_size(given: str | int | None) -> ShardSize | None:
    if given is None:
        return None
    if given == KEEP:
        return KEEP
    return parse_size(given, "shard size")


def _check(engine: EngineOptions) -> None:
    check_threads(engine.threads)
    if engine.read not in {"auto", "pread", "mmap"}:
        raise ConfigError(f"read is {engine.read!r}: it must be auto, pread or mmap")


def _refuse_beside_plan(**given: object) -> None:
    for name, value in given.items():
        if value is not None:
            what = name.replace("_", " ")
            raise ConfigError(f"a saved plan fixes the {what}: leave the {what} out, or plan again with it")
