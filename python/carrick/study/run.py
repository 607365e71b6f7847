"""`run_study` and `report_study`: a study from its recipe to its report."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrick.errors import CarrickError, ConfigError
from carrick.extras import require
from carrick.home import absolute, expanded
from carrick.output_folder import check_can_be_made
from carrick.study.data_folder import check_inputs
from carrick.study.keys import write_json
from carrick.study.planning import plan
from carrick.study.registry import Study, find
from carrick.study.report import write_report
from carrick.study.schedule import Moment, Outcome, Schedule
from carrick.study.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from carrick.config.typed import Recipe
    from carrick.study.planning import Planned

FORMAT, FORMAT_VERSION = "carrick-study", 1
RESULTS = "results.json"
_NEEDED = ("torch", "transformers", "peft", "trl", "datasets", "sklearn", "scipy", "matplotlib")
_VERSIONS = ("carrick", "torch", "transformers", "peft", "trl", "scikit-learn", "numpy", "scipy")


@dataclass(frozen=True)
class StudyRun:
    """What a run of a study did.

    Attributes
    ----------
    study, out
        Which study, and its folder.
    planned
        Its stages and their states before the run.
    outcome
        Which stages ran, were skipped, failed or wait for a failed one; empty for a dry run.
    files
        The report's files; empty where stages are missing.
    """

    study: Study
    out: Path
    planned: list[Planned]
    outcome: Outcome = field(default_factory=Outcome)
    files: list[Path] = field(default_factory=list)


def run_study(
    name: str,
    out: str | Path,
    *,
    data: str | Path | None = None,
    quick: bool = False,
    jobs: int = 1,
    devices: Sequence[int] | None = None,
    seeds: Sequence[int] | None = None,
    recipe: str | Path | None = None,
    dry_run: bool = False,
    tell: Callable[[Moment], None] | None = None,
) -> StudyRun:
    """Run a study, or what is left of it: stages whose inputs have not changed are skipped.

    Parameters
    ----------
    name
        A name of `carrick study list`.
    out
        Its folder: stages below ``stages/``, the report in ``report/``.
    data
        The folder with the data sets; ``quick`` makes its own.
    quick
        A few steps of tiny models on made-up data: whether everything works, not what comes out.
    jobs
        Worker processes, one thread each.
    devices
        GPUs that are shared out among the workers in turn; None leaves the environment as it is.
    seeds
        Instead of those of the recipe.
    recipe
        A recipe of the same shape instead of the one that comes with Carrick.
    dry_run
        Only plan.
    tell
        Called with a `Moment` at each change.

    Returns
    -------
    StudyRun
        With ``outcome.failed`` where stages failed: the others were run all the same.

    Raises
    ------
    ConfigError
        An unknown study, a wrong recipe, no data, another run in the same folder.
    PlanError
        There is no place for its folder.

    Examples
    --------
    >>> run_study("languages", "out", data="data", jobs=2)  # doctest: +SKIP
    """
    study = find(name)
    chosen = chosen_recipe(study, None if recipe is None else expanded(recipe), quick=quick, seeds=seeds)
    if jobs < 1:
        raise ConfigError(f"jobs is {jobs}: it must be at least 1")
    if data is None and not quick and not dry_run:
        raise ConfigError(
            f"`{name}` reads data: name its folder (--data DIR), or try --quick, which makes some up"
        )
    folder = absolute(out)
    check_can_be_made(folder, parent=folder)
    store = Store(folder)
    source = folder / "made-up" if quick else absolute("DATA" if data is None else data)
    module = study.load()
    stages = module.stages(chosen, source)
    if dry_run:
        return StudyRun(study, folder, plan(stages, store))
    require("`carrick study run`", "study", *_NEEDED)
    if not quick:
        check_inputs(name, stages, source, folder)
    with store.lock():
        if quick:
            _make_up(study, source)
            stages = module.stages(chosen, source)
        planned = plan(stages, store)
        store.checksums.save()
        write_json(folder / "recipe.json", chosen.model_dump(mode="json"))
        outcome = Schedule(planned, store, jobs, tell or _silent, devices or ()).run()
        files = []
        if not outcome.failed and not outcome.waiting:
            finished = {each.stage.name: store.finished(each.stage.name) for each in planned}
            results = {
                "format": FORMAT,
                "version": FORMAT_VERSION,
                "study": name,
                "quick": quick,
                "recipe": chosen.model_dump(mode="json"),
                "machine": machine(),
                "found": module.results(chosen, finished),
            }
            files = report_study(name, results, folder / "report")
    return StudyRun(study, folder, planned, outcome, files)


def report_study(name: str, results: str | Path | dict[str, Any], out: str | Path) -> list[Path]:
    """Write a study's report from its results alone.

    Parameters
    ----------
    name
        The study.
    results
        ``results.json`` of a run, or its content.
    out
        Folder of report.md, report.html, plots and results.json.

    Returns
    -------
    The files.

    Raises
    ------
    ConfigError
        No such file, or results of another study or format.
    PlanError
        There is no place for the report.
    """
    require("`carrick study report`", "study", "matplotlib")
    folder = absolute(out)
    check_can_be_made(folder, parent=folder)
    study = find(name)
    content = results if isinstance(results, dict) else read_results(expanded(results), name)
    return write_report(study.load().report(content), content, folder)


def read_results(file: Path, name: str) -> dict[str, Any]:
    """Read ``results.json`` of a study.

    Raises
    ------
    ConfigError
        No such file, or results of another study or format.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{file}: there is no such file; `carrick study run {name}` writes it at its end"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: these are no results of a study: {error}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ConfigError(f"{file}: these are no results of a study")
    if content.get("version") != FORMAT_VERSION:
        raise ConfigError(f"{file}: version {content.get('version')}; this Carrick reads {FORMAT_VERSION}")
    if content.get("study") != name:
        raise ConfigError(f"{file}: these are results of `{content.get('study')}`, not of `{name}`")
    return content


def chosen_recipe(
    study: Study, file: Path | None, *, quick: bool = False, seeds: Sequence[int] | None = None
) -> Recipe:
    """Return the recipe that a run follows.

    Raises
    ------
    ConfigError
        A wrong recipe, seeds where the study has none, or a seed twice.
    """
    recipe = study.recipe(file)
    if quick:
        recipe = study.load().quick(recipe)
    if seeds is None:
        return recipe
    if "seeds" not in type(recipe).model_fields:
        raise ConfigError(f"`{study.name}` has no seeds to choose")
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds {','.join(map(str, seeds))}: name each seed once")
    return recipe.model_copy(update={"seeds": list(seeds)})


def machine() -> dict[str, Any]:
    """Describe what the study ran on: processor, Python, versions of libraries."""
    return {
        "processor": _processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: found for name in _VERSIONS if (found := _version(name))},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} threads" if names else platform.processor()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _make_up(study: Study, folder: Path) -> None:
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        study.load().make_up(folder)
        (folder / "complete").touch()


def _silent(moment: Moment) -> None:
    del moment


__all__ = ["CarrickError", "StudyRun", "report_study", "run_study"]
