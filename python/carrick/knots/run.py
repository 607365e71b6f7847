"""The stages before the output: bases and coordinates, and the merge of the coordinates."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from carrick import _core
from carrick.checkpoints.headers import read_file
from carrick.knots.stages import MERGED, Bases, coordinates, joint_jobs, output, updates
from carrick.knots.uniqueness import Spectrum, cut_between_equals, not_unique

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from carrick.plan.job import Job, Plan

FOLDER = "knots"


@dataclass(slots=True)
class Prepared:
    """The plan that is left to run, and what was found on the way.

    Attributes
    ----------
    plan
        The output: base + U·X.
    modules
        For each module `name`, `rank`, `sigma`, `min_gap` and `route`: `gram_shared` and `gram_joined` for a Gram
        matrix of either side, `svd` for a decomposition of the whole matrix.
    bytes_read, bytes_written
        What the engine moved.
    notes
        What a user should know.
    """

    plan: Plan
    modules: list[dict[str, Any]] = field(default_factory=list)
    bytes_read: int = 0
    bytes_written: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def record(self) -> list[dict[str, Any]]:
        """What carrick.json says about the bases."""
        return [{key: module[key] for key in ("name", "rank", "route", "min_gap")} for module in self.modules]


def prepare(plan: Plan, partial: Path, options: dict[str, Any], told: Callable[[str], Any]) -> Prepared:
    """Carry out what comes before the output; a plan without KnOTS is returned as it is.

    Parameters
    ----------
    plan
        The plan as it was made.
    partial
        The partial folder; what lies between the stages goes to a folder in it.
    options
        Those of the engine.
    told
        Called with the engine's progress.

    Raises
    ------
    CarrickError
        A module does not fit the memory, or its updates hold NaN or infinities.
    """
    if not joint_jobs(plan):
        return Prepared(plan)
    folder = partial / FOLDER
    folder.mkdir(exist_ok=True)
    first, request = updates(plan)
    path = folder / "bases.factors"
    path.unlink(missing_ok=True)
    text = json.dumps({**options, "fresh": True})
    report = json.loads(_core.joint(first.to_json(), json.dumps(request), str(path), text, told))
    bases = Bases(report["modules"], *read_file(path, 0))
    read, written = report["bytes_read"], report["bytes_written"]
    second = coordinates(plan, bases)
    merged = None
    if second.jobs:
        done = json.loads(_core.execute(second.to_json(), str(folder), text, told))
        read, written = read + done["bytes_read"], written + done["bytes_written"]
        merged = read_file(folder / f"{MERGED}.part", 0)
    notes = _notes(plan, bases.modules)
    return Prepared(output(plan, bases, merged), bases.modules, read, written, notes)


def _notes(plan: Plan, modules: list[dict[str, Any]]) -> list[str]:
    routes = Counter(module["route"] for module in modules)
    names = {
        "gram_shared": "a Gram matrix of the shared side",
        "gram_joined": "a Gram matrix of the joined sides",
        "svd": "a decomposition of the whole matrix",
    }
    how = ", ".join(f"{count} by {names[route]}" for route, count in sorted(routes.items()))
    notes = [f"KnOTS: the bases of {len(modules)} modules were found, {how}."]
    gaps = [(module["name"], module["min_gap"]) for module in modules]
    first = joint_jobs(plan)[0]
    return [*notes, *not_unique(first.method, gaps), *cut_between_equals(_spectra(first, modules))]


def _spectra(job: Job, modules: list[dict[str, Any]]) -> list[Spectrum]:
    """Return the singular values of the modules, and where the tolerance cuts them."""
    tolerance, relative = float(job.options["rank_tolerance"]), job.options["rank_cut"] == "relative"
    return [
        Spectrum(
            module["name"],
            sigma := module["sigma"],
            module["rank"],
            tolerance * sigma[0] if relative and sigma else tolerance,
        )
        for module in modules
    ]
