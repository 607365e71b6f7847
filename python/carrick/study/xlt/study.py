"""XLT at full scale, as `carrick.study.registry.StudyModule` describes a study."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from carrick.study import made_up
from carrick.study.base_model import MADE_UP
from carrick.study.layer_swap.recipe import Lora, Simultaneous
from carrick.study.xlt.recipe import Condition, Plan, Scored, Xlt
from carrick.study.xlt.stages import all_stages

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from carrick.study.report import Report
    from carrick.study.stage import Finished, Stage

RecipeType = Xlt
_ROWS = 24


def quick(recipe: Xlt) -> Xlt:
    """Return the recipe on made-up rows: one tiny model, one language, one step or two."""
    training = {
        "batch_size": 4,
        "accumulate": 1,
        "max_length": 96,
        "precision": "float32",
        "gradient_checkpointing": False,
        "learning_rate": 1e-3,
    }
    model = recipe.models["llama"].model_copy(update={"base": f"{MADE_UP}/llama", "parameters": 5e4})
    scored = Scored(rows=4, prompt=50, answer=4)
    return recipe.model_copy(
        update={
            "models": {"llama": model},
            "languages": ["sw"],
            "kinds": ["full"],
            "rows": _ROWS,
            "validation": 0.25,
            "sft": recipe.sft.model_copy(update=training),
            "lora": Lora(rank=2, alpha=2, learning_rate=1e-3),
            "simultaneous": Simultaneous(
                partitions=["C"], steps_per_switch=[1, 2], ablated="C", ablated_kinds=["full"]
            ),
            "ablation": Condition(model="llama", language="sw"),
            "continual": None,
            "max_new_tokens": 4,
            "shots": {"mgsm": 0},
            "selection_languages": [],
            "plan": Plan(tokens={"math": 50, "sw": 50}, mgsm=scored, choices=scored),
        }
    )


def make_up(folder: Path) -> None:
    """Write made-up math and Swahili rows, MGSM problems, and a Llama of four layers."""
    for place, code in (("math/train", "en"), ("language/sw", "sw")):
        known = made_up.words(code)
        rows = [
            {
                "prompt": f"{known[n % 20]} {known[(n + 3) % 20]}?",
                "completion": f" {known[(n + 1) % 20]} {n}.",
            }
            for n in range(_ROWS)
        ]
        _lines(folder / f"{place}.jsonl", rows)
    (folder / "mgsm").mkdir(parents=True, exist_ok=True)
    for code in ("en", "sw"):
        lines = [f"{' '.join(made_up.words(code)[n : n + 5])} {n}?\t{n}" for n in range(4)]
        (folder / "mgsm" / f"mgsm_{code}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    made_up.llama(folder / MADE_UP / "llama", layers=4)


def stages(recipe: Xlt, data: Path) -> Sequence[Stage]:
    """Return the stages of a recipe."""
    tiny = any(model.base.startswith(MADE_UP) for model in recipe.models.values())
    return all_stages(recipe, data, "cpu" if tiny else "cuda")


def results(recipe: Xlt, finished: Mapping[str, Finished]) -> dict[str, Any]:
    """Return every number of the report."""
    from carrick.study.xlt.numbers import found  # noqa: PLC0415

    return found(recipe, finished)


def report(results: Mapping[str, Any]) -> Report:
    """Return the report from its numbers."""
    from carrick.study.xlt.pages import report as written  # noqa: PLC0415

    return written(results)


def _lines(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
