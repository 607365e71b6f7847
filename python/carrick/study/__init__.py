"""Studies: the experiments of papers as recipes, from training to a report (`carrick study`)."""

from __future__ import annotations

from carrick.study.registry import STUDIES, Study
from carrick.study.run import StudyRun, report_study, run_study
from carrick.study.stage import Finished, Running, Stage, Work

__all__ = [
    "STUDIES",
    "Finished",
    "Running",
    "Stage",
    "Study",
    "StudyRun",
    "Work",
    "report_study",
    "run_study",
]
