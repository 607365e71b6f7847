"""MLM at full scale, as `carrick.study.registry.StudyModule` describes a study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrick.study import made_up
from carrick.study.base_model import MADE_UP
from carrick.study.mlm import paper
from carrick.study.mlm.recipe import Experiment, Mlm, Search
from carrick.study.mlm.stages import Build, all_stages
from carrick.study.report import Report, Section, Table
from carrick.study.task_language.models import models
from carrick.study.task_language.recipe import Epochs
from carrick.study.task_language.wording import label

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carrick.study.stage import Finished, Stage

RecipeType = Mlm
_TASK = "mmlu_prox"


def quick(recipe: Mlm) -> Mlm:
    """Return the recipe on made-up rows: one tiny model, one split, one target, a grid of two points."""
    training = {"batch_size": 8, "max_length": 768, "precision": "float32", "gradient_checkpointing": False}
    model = recipe.models["1b"].model_copy(update={"base": f"{MADE_UP}/llama", "parameters": 5e4})
    return recipe.model_copy(
        update={
            "models": {"1b": model},
            "experiments": [Experiment(model="1b", split="80-20")],
            "languages": ["en", "es"],
            "shots": [0, 1],
            "adapter": recipe.adapter.model_copy(update={"rank": 2, "alpha": 4.0}),
            "search": Search(learning_rate=[1e-3, 1e-4], weight_decay=[0.0], select="training_loss"),
            "training": recipe.training.model_copy(update=training),
            "epochs": Epochs(task=1, language=1, alignment=1, mixture=1),
            "sample": 0.5,
            "initialisations": ["orthogonal"],
            "weights": [1.0],
            "coefficients": ["softmax"],
            "max_new_tokens": 4,
            "plan": recipe.plan.model_copy(update={"rows": 20}),
        }
    )


def make_up(folder: Path) -> None:
    """Write made-up questions in two languages, and a tiny Llama."""
    (folder / _TASK).mkdir(parents=True, exist_ok=True)
    for code in ("en", "es"):
        known = made_up.words(code)
        rows = [
            {
                "question_id": number,
                "question": " ".join(known[(number + place) % len(known)] for place in range(5)) + "?",
                **{f"option_{place}": known[(3 * number + place) % len(known)] for place in range(3)},
                "answer": "ABC"[number % 3],
                "category": "made up",
            }
            for number in range(20)
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / _TASK / f"{code}.jsonl").write_text(text, encoding="utf-8")
    made_up.llama(folder / MADE_UP / "llama")


def stages(recipe: Mlm, data: Path) -> Sequence[Stage]:
    """Return the stages of a recipe."""
    tiny = any(model.base.startswith(MADE_UP) for model in recipe.models.values())
    return all_stages(recipe, data, "cpu" if tiny else "cuda")


def results(recipe: Mlm, finished: Mapping[str, Finished]) -> dict[str, Any]:
    """Return accuracies of every row by experiment and target, mean over seeds, and what trainings took."""
    tables = []
    for experiment in recipe.experiments:
        build = Build(recipe, experiment, Path(), "cpu")
        for target in recipe.targets:
            rows: dict[str, dict[str, list[float]]] = {}
            for model in models(recipe):
                if model.scored and model.target in {None, target}:
                    scores = finished[f"score-{build.name(model.name)}"].result["scores"]
                    for name, by_language in scores.items():
                        shots = name.split("/")[1]
                        row = f"{model.family}/{shots}" if model.way == "none" else model.family
                        kept = rows.setdefault(row, {"task": [], "target": []})
                        kept["task"].append(by_language[recipe.task_language]["value"])
                        kept["target"].append(by_language[target]["value"])
            means = {row: {side: sum(v) / len(v) for side, v in kept.items()} for row, kept in rows.items()}
            name = f"{experiment.model}/{experiment.split}"
            tables.append({"table": name, "target": target, "rows": means})
    names = [name for name in finished if "wall_seconds" in finished[name].result]
    return {"tables": tables, "training": {name: dict(finished[name].result) for name in names}}


def report(results: Mapping[str, Any]) -> Report:
    """Return the report: the paper's tables with its numbers beside ours."""
    found, recipe = results["found"], results["recipe"]
    quick_note = ["**This is a quick run on made-up data and random models: its numbers mean nothing.**"]
    targets = [code for code in recipe["languages"] if code != recipe["task_language"]]
    cost = sum(one.get("cost") or 0.0 for one in found["training"].values())
    hours = sum(one["device_seconds"] for one in found["training"].values()) / 3600
    return Report(
        "Task and language adapters as in the paper",
        [
            *(quick_note if results["quick"] else []),
            "Accuracy on MMLU-ProX, ours and the paper's. The best aligned merge of a table is not chosen: the paper "
            "does not say how it chose initialisation and λ, so each is shown, beside its one row of MLM (and of CAT).",
            f"All trainings took {hours:,.1f} device hours, {cost:,.2f} {recipe['device']['currency']}.",
        ],
        [_section(one, recipe["task_language"], targets) for one in found["tables"]],
    )


def _section(one: Mapping[str, Any], task: str, targets: Sequence[str]) -> Section:
    target = one["target"]
    cells = []
    for family, row in one["rows"].items():
        shown = paper.printed(one["table"], family, targets.index(target))
        printed = ["", ""] if shown is None else [f"{value:.2f}" for value in shown]
        cells.append([_label(family), f"{row['task']:.3f}", f"{row['target']:.3f}", *printed])
    head = ["", task, target, f"paper {task}", f"paper {target}"]
    return Section(f"{one['table']}, {task.upper()}-{target.upper()}", [Table(head, cells, "Accuracy.")])


def _label(family: str) -> str:
    if family.startswith("zero_shot/"):
        shots = family.split("/")[1]
        return "zero-shot" if shots == "0" else f"few-shot ({shots})"
    return label(family)
