"""What an evaluation found, as typed values, as plain data and as a table."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from carrick.errors import ConfigError

FORMAT, VERSION = "carrick-evaluation", 1
OVERALL = "overall"


class Score(NamedTuple):
    """A score and its standard error over rows; None where it has none (a single row)."""

    value: float
    standard_error: float | None


@dataclass(frozen=True)
class TaskResult:
    """Scores of one task in one language.

    Attributes
    ----------
    task, language
        Which.
    metric
        Name of the score that stands for the task.
    rows, shots
        How many rows were scored, each behind how many worked ones.
    scores
        Every score by name.
    samples
        One record a row: what was answered and how it was scored. Not part of the JSON.
    """

    task: str
    language: str
    metric: str
    rows: int
    shots: int
    scores: dict[str, Score]
    samples: tuple[dict[str, Any], ...] = field(default=(), repr=False)

    @property
    def score(self) -> Score:
        """The score that stands for the task."""
        return self.scores[self.metric]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; a score that is no finite number is null."""
        return {
            "task": self.task,
            "language": self.language,
            "metric": self.metric,
            "rows": self.rows,
            "shots": self.shots,
            "scores": {
                name: {"value": _finite(score.value), "standard_error": _finite(score.standard_error)}
                for name, score in self.scores.items()
            },
        }


@dataclass(frozen=True)
class EvaluationReport:
    """Scores of one model.

    Attributes
    ----------
    model
        The model with its adapters, as it was asked for.
    device
        Where it ran.
    results
        One for each task and language.
    seconds
        Wall time, of loading too.
    settings
        What was asked for beside the tasks.
    versions
        Versions of the packages that did the work.
    notes
        Remarks, such as an answer length that was cut to what the model has room for.
    """

    model: str
    device: str
    results: tuple[TaskResult, ...]
    seconds: float
    settings: dict[str, Any]
    versions: dict[str, str]
    notes: tuple[str, ...] = ()

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks, in their order."""
        return list(dict.fromkeys(result.task for result in self.results))

    def of(self, task: str) -> list[TaskResult]:
        """Results of one task, a language each."""
        return [result for result in self.results if result.task == task]

    def overall(self, task: str) -> dict[str, Score]:
        """Unweighted means over the languages of a task, with the standard error √(Σ sᵢ²) / n."""
        results = self.of(task)
        return {name: _mean([each.scores[name] for each in results]) for name in results[0].scores}

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "model": self.model,
            "device": self.device,
            "seconds": self.seconds,
            "settings": self.settings,
            "versions": self.versions,
            "results": [result.to_dict() for result in self.results],
            "overall": {
                task: {
                    name: {"value": _finite(score.value), "standard_error": _finite(score.standard_error)}
                    for name, score in self.overall(task).items()
                }
                for task in self.tasks
            },
            "notes": list(self.notes),
        }

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Head and rows of a table: a row for each task and language, and one for the mean over languages."""
        head = ["task", "language", "rows", "metric", "score", "± s.e."]
        rows = []
        for task in self.tasks:
            results = self.of(task)
            for result in results:
                rows += _lines(task, result.language, str(result.rows), result.metric, result.scores)
            if len(results) > 1:
                total = str(sum(result.rows for result in results))
                rows += _lines(task, OVERALL, total, results[0].metric, self.overall(task))
        return head, rows

    def save(self, out: str | Path, *, force: bool = False) -> None:
        """Write ``results.json``, the answers, and a chart of each task where matplotlib is there.

        Parameters
        ----------
        out
            The folder, made by one rename.
        force
            Replace results that are there, with all their files.

        Raises
        ------
        ConfigError
            `out` holds results and `force` is not given, or it holds something else.
        """
        from carrick.evaluate.output import write  # noqa: PLC0415  (the charts need this module)

        write(self, out, force=force)


def read_report(path: str | Path) -> EvaluationReport:
    """Read a ``results.json`` again (or its folder), without the answers.

    Raises
    ------
    ConfigError
        No such file, or it holds something else.
    """
    file = Path(path)
    file = file / "results.json" if file.is_dir() else file
    try:
        content = json.loads(file.read_text("utf-8"))
        if content["format"] != FORMAT or content["version"] != VERSION:
            raise ConfigError(
                f"{file}: this is {content['format']} {content['version']}, not {FORMAT} {VERSION}"
            )
        results = tuple(_read_result(each) for each in content["results"])
        return EvaluationReport(
            content["model"],
            content["device"],
            results,
            content["seconds"],
            content["settings"],
            content["versions"],
            tuple(content["notes"]),
        )
    except FileNotFoundError:
        raise ConfigError(f"{file}: there is no such file") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{file}: this is no result of `carrick evaluate` ({type(error).__name__})"
        ) from None


def _read_result(content: dict[str, Any]) -> TaskResult:
    scores = {
        name: Score(math.nan if score["value"] is None else score["value"], score["standard_error"])
        for name, score in content["scores"].items()
    }
    return TaskResult(
        content["task"], content["language"], content["metric"], content["rows"], content["shots"], scores
    )


def _lines(task: str, language: str, rows: str, metric: str, scores: dict[str, Score]) -> list[list[str]]:
    """One line for each score, the leading one first; only the first says of what they are."""
    names = [metric, *(name for name in scores if name != metric)]
    lines = []
    for place, name in enumerate(names):
        value, error = scores[name]
        named = [task, language, rows] if place == 0 else ["", "", ""]
        shown = "" if error is None or not math.isfinite(error) else f"{error:.4f}"
        lines.append([*named, name, f"{value:.4f}" if math.isfinite(value) else "none", shown])
    return lines


def _mean(scores: list[Score]) -> Score:
    errors = [score.standard_error for score in scores]
    known = [error for error in errors if error is not None]
    value = sum(score.value for score in scores) / len(scores)
    if len(known) < len(scores):
        return Score(value, None)
    return Score(value, math.sqrt(sum(error**2 for error in known)) / len(scores))


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
