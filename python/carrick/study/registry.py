"""The studies by name."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from carrick.config.typed import Recipe, load_typed
from carrick.errors import ConfigError
from carrick.suggestions import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carrick.study.report import Report
    from carrick.study.stage import Finished, Stage


class StudyModule(Protocol):
    """What the module of a study holds.

    Attributes
    ----------
    RecipeType
        The pydantic model of its recipe, a `carrick.config.typed.Recipe`; a field ``seeds: list[int]`` takes
        ``--seeds``.
    """

    RecipeType: type[Recipe]

    def quick(self, recipe: Any) -> Any:
        """Return the recipe of ``--quick``: one seed, a few steps."""

    def make_up(self, folder: Path) -> None:
        """Write made-up data of the real format, and tiny random models, for ``--quick``; the same each time."""

    def stages(self, recipe: Any, data: Path) -> Sequence[Stage]:
        """Return the stages; nothing is read here, files that are missing are found by the plan."""

    def results(self, recipe: Any, finished: Mapping[str, Finished]) -> dict[str, Any]:
        """Return every number of the report as plain data, from the finished stages."""

    def report(self, results: Mapping[str, Any]) -> Report:
        """Return the report from those numbers alone."""


@dataclass(frozen=True, slots=True)
class Study:
    """A study by its name, what it is about, its module and its recipe."""

    name: str
    title: str
    module: str
    full_scale: bool = False

    def load(self) -> StudyModule:
        """Import the study's module."""
        return import_module(self.module)

    @property
    def recipe_file(self) -> Path:
        """The recipe that comes with Carrick."""
        return Path(str(files("carrick.study") / "recipes" / f"{self.name}.yml"))

    def recipe(self, file: Path | None = None) -> Recipe:
        """Return the study's recipe, or one of the same shape from another file.

        Raises
        ------
        ConfigError
            Anything in it that is unknown, missing or out of range.
        """
        return load_typed(file or self.recipe_file, self.load().RecipeType, f"a recipe of {self.name}")


STUDIES = (
    Study(
        "languages",
        "merging languages (LSM): tweets in six languages, MiniLM",
        "carrick.study.languages.study",
    ),
    Study(
        "task-language",
        "a task adapter and language adapters (MLM): the same tweets",
        "carrick.study.task_language.study",
    ),
    Study(
        "layer-swap",
        "layer swapping (XLT): a small Llama made by the study",
        "carrick.study.layer_swap.study",
    ),
    Study(
        "lsm",
        "merging languages (LSM) as in the paper: Llama 3.1 8B, three tasks",
        "carrick.study.lsm.study",
        full_scale=True,
    ),
    Study(
        "mlm",
        "task and language adapters (MLM) as in the paper: Llama 3.2, MMLU-ProX",
        "carrick.study.mlm.study",
        full_scale=True,
    ),
    Study(
        "xlt",
        "cross-lingual transfer (XLT) as in the paper: four models, three languages",
        "carrick.study.xlt.study",
        full_scale=True,
    ),
)


def find(name: str) -> Study:
    """Return a study by name.

    Raises
    ------
    ConfigError
        There is none of that name.

    Examples
    --------
    >>> find("languages").name
    'languages'
    >>> find("langauges")
    Traceback (most recent call last):
    carrick.errors.ConfigError: there is no study `langauges`; did you mean `languages`?
    """
    for study in STUDIES:
        if study.name == name:
            return study
    names = [study.name for study in STUDIES]
    raise ConfigError(
        f"there is no study `{name}`{nearest(name, names) or '; there are ' + ', '.join(names)}"
    )
