"""The stages of the paper's experiments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carrick.study.base_model import locate
from carrick.study.lsm import estimates, rows, work
from carrick.study.stage import Stage, Work

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from carrick.study.lsm.recipe import LsmRecipe, Merge, TaskPlan

CASE = "themes"
COMBINED = "comb"
SPLITS = {"train": "{}_train.jsonl", "validation": "{}_validation.jsonl", "test": "{}.jsonl"}


class Build:
    """Stages of one recipe over one folder of data.

    Names are ``train-<model>-<task>-<language or comb>-<seed>``, and so on; a ``+`` marks more rows.

    Parameters
    ----------
    recipe, data, device
        What is done, where the data sets lie, and the torch device of training and scoring.
    """

    def __init__(self, recipe: LsmRecipe, data: Path, device: str) -> None:
        self._recipe, self._data, self._device = recipe, data, device
        self._stages: dict[str, Stage] = {}

    def all(self) -> list[Stage]:
        """Return every stage."""
        recipe = self._recipe
        for seed in recipe.seeds:
            for name, task in recipe.tasks.items():
                self._task(recipe.main, name, task, seed)
                self._clusters(name, task, seed)
            self._multitask(seed)
            self._update(seed)
            for name in recipe.size_ablation.tasks:
                self._small(name, recipe.tasks[name], seed)
            self._case_study(seed)
        return list(self._stages.values())

    def _task(self, model: str, name: str, task: TaskPlan, seed: int) -> None:
        """Add INDV, COMB and every merge of a task."""
        codes = self._recipe.languages
        self._individual(model, name, task, codes, seed)
        self._train(model, name, task, codes, COMBINED, seed)
        self._score(model, name, task, codes, f"train-{model}-{name}-{COMBINED}-{seed}", COMBINED, seed)
        for merge in self._recipe.merges:
            self._merged(model, name, task, codes, merge, merge.id, seed)

    def _small(self, name: str, task: TaskPlan, seed: int) -> None:
        """Add the second model: INDV, COMB and the best merge (section 5.2)."""
        model, codes = self._recipe.size_ablation.model, self._recipe.languages
        self._individual(model, name, task, codes, seed)
        self._train(model, name, task, codes, COMBINED, seed)
        self._score(model, name, task, codes, f"train-{model}-{name}-{COMBINED}-{seed}", COMBINED, seed)
        self._merged(model, name, task, codes, task.best, task.best.id, seed)

    def _individual(self, model: str, name: str, task: TaskPlan, codes: Sequence[str], seed: int) -> None:
        for code in codes:
            adapter = self._train(model, name, task, [code], code, seed)
            self._score(model, name, task, [code], adapter, code, seed)

    def _clusters(self, name: str, task: TaskPlan, seed: int) -> None:
        for cluster, codes in self._recipe.clusters.items():
            self._merged(self._recipe.main, name, task, codes, task.best, cluster, seed)

    def _multitask(self, seed: int) -> None:
        """TIES_All merges every adapter at once, TIES_Each the tasks' merges (section 5.4)."""
        recipe = self._recipe
        model, merge = recipe.main, recipe.multitask
        every = [f"train-{model}-{task}-{code}-{seed}" for task in recipe.tasks for code in recipe.languages]
        each = [f"merge-{model}-{name}-{task.best.id}-{seed}" for name, task in recipe.tasks.items()]
        for kind, adapters in (("all", every), ("each", each)):
            merged = self._merge(model, "multitask", merge, kind, adapters, seed)
            for name, task in recipe.tasks.items():
                self._score(model, name, task, recipe.languages, merged, f"ties-{kind}", seed)

    def _update(self, seed: int) -> None:
        """More rows for one language: its adapter again, merged again, against COMB again (section 5.1)."""
        recipe, update = self._recipe, self._recipe.update
        task, model = recipe.tasks[update.task], recipe.main
        more = {update.language: update.more}
        self._train(model, update.task, task, [update.language], f"{update.language}+", seed, more)
        self._merged(model, update.task, task, recipe.languages, task.best, "updated", seed, more=more)
        comb = self._train(model, update.task, task, recipe.languages, f"{COMBINED}+", seed, more)
        self._score(model, update.task, task, recipe.languages, comb, f"{COMBINED}+", seed)

    def _case_study(self, seed: int) -> None:
        """Unequal weights, and an update of the weakest language (section 6)."""
        recipe, case = self._recipe, self._recipe.case_study
        task, model, codes = case.task, recipe.main, case.languages
        weights = [case.weights[code] for code in codes]
        more = {case.update.language: case.update.more}
        self._individual(model, CASE, task, codes, seed)
        for suffix, extra in (("", {}), ("+", more)):
            comb = self._train(model, CASE, task, codes, f"{COMBINED}{suffix}", seed, extra)
            self._score(model, CASE, task, codes, comb, f"{COMBINED}{suffix}", seed)
        self._train(model, CASE, task, [case.update.language], f"{case.update.language}+", seed, more)
        self._merged(model, CASE, task, codes, task.best, "equal", seed)
        self._merged(model, CASE, task, codes, task.best, "weighted", seed, weights=weights)
        self._merged(model, CASE, task, codes, task.best, "weighted+", seed, weights=weights, more=more)

    def _merged(  # noqa: PLR0917
        self,
        model: str,
        name: str,
        task: TaskPlan,
        codes: Sequence[str],
        merge: Merge,
        title: str,
        seed: int,
        *,
        weights: Sequence[float] | None = None,
        more: Mapping[str, int] | None = None,
    ) -> None:
        """Merge languages' adapters and score the result in these languages."""
        adapters = [
            f"train-{model}-{name}-{code}{'+' if code in (more or {}) else ''}-{seed}" for code in codes
        ]
        merged = self._merge(model, name, merge, title, adapters, seed, weights)
        self._score(model, name, task, codes, merged, title, seed)

    def _add(self, stage: Stage) -> str:
        self._stages.setdefault(stage.name, stage)
        return stage.name

    def _rows(self, name: str, task: TaskPlan, code: str, more: int = 0) -> str:
        folder = self._data / task.folder
        count = task.train + more
        return self._add(
            Stage(
                f"data-{name}-{code}{'+' if more else ''}",
                rows.prepare,
                {
                    "task": task.evaluate,
                    "language": code,
                    "train": count,
                    "validation": task.validation,
                },
                files={split: folder / pattern.format(code) for split, pattern in SPLITS.items()},
                version=rows.VERSION,
                work=Work(data=f"{count:,} + {task.validation:,} + {task.test:,} rows, {task.folder}"),
            )
        )

    def _train(  # noqa: PLR0917
        self,
        model: str,
        name: str,
        task: TaskPlan,
        codes: Sequence[str],
        title: str,
        seed: int,
        more: Mapping[str, int] | None = None,
    ) -> str:
        recipe = self._recipe
        extra = more or {}
        sources = [(code, self._rows(name, task, code, extra.get(code, 0))) for code in codes]
        count = len(codes) * task.train + sum(extra.values())
        params: dict[str, Any] = {
            "rows": [list(source) for source in sources],
            "seed": seed,
            "chat": recipe.chat,
            "device": self._device,
            "adapter": recipe.adapter.model_dump(),
            "training": recipe.training.model_dump(),
            "price": recipe.device.price,
            "currency": recipe.device.currency,
        }
        parameters = recipe.models[model].parameters
        data = f"{count:,} rows of {' '.join(codes)}"
        return self._add(
            Stage(
                f"train-{model}-{name}-{title}-{seed}",
                work.train,
                params,
                needs=tuple(stage for _, stage in sources),
                files={"base": locate(recipe.models[model].base, self._data)},
                version=work.VERSION,
                work=estimates.training(
                    recipe, parameters, task, languages=len(codes), rows=count, data=data
                ),
            )
        )

    def _merge(  # noqa: PLR0917
        self,
        model: str,
        name: str,
        merge: Merge,
        title: str,
        adapters: Sequence[str],
        seed: int,
        weights: Sequence[float] | None = None,
    ) -> str:
        params = {
            **merge.model_dump(),
            "adapters": list(adapters),
            "weights": list(weights or [1.0] * len(adapters)),
            "seed": seed,
        }
        return self._add(
            Stage(
                f"merge-{model}-{name}-{title}-{seed}",
                work.merge,
                params,
                needs=tuple(adapters),
                version=work.VERSION,
                work=estimates.merging(self._recipe, self._recipe.models[model].parameters, len(adapters)),
            )
        )

    def _score(  # noqa: PLR0917
        self,
        model: str,
        name: str,
        task: TaskPlan,
        codes: Sequence[str],
        adapter: str,
        title: str,
        seed: int,
    ) -> None:
        recipe = self._recipe
        sources = [(code, self._rows(name, task, code)) for code in codes]
        files = {"base": locate(recipe.models[model].base, self._data)}
        if task.bertscore is not None:
            files["bertscore"] = locate(task.bertscore, self._data)
        params = {
            "task": task.evaluate,
            "folder": task.folder,
            "limit": task.test,
            "rows": [list(source) for source in sources],
            "adapter": adapter,
            "chat": recipe.chat,
            "device": self._device,
        }
        data = f"{len(codes) * task.test:,} test rows of {' '.join(codes)}"
        self._add(
            Stage(
                f"score-{model}-{name}-{title}-{seed}",
                work.score,
                params,
                needs=(adapter, *(stage for _, stage in sources)),
                files=files,
                version=work.VERSION,
                work=estimates.scoring(
                    recipe, recipe.models[model].parameters, task, languages=len(codes), data=data
                ),
            )
        )
