"""The stages of the study of languages, from the tweets to the logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carrick.study.base_model import locate
from carrick.study.languages import merging, scoring, training, tweets
from carrick.study.stage import Stage, Work

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from carrick.study.languages.recipe import LanguagesRecipe, Merge

NO_ADAPTER, INDIVIDUAL, COMBINED, COMBINED_HALF, TWO_LEVEL, BEFORE_UPDATE = (
    "no-adapter", "indv", "comb", "comb-half", "two-level", "before-update",
)  # fmt: skip


def merged_without(code: str) -> str:
    """Name of the row that merges all languages but one: the model before that language is added."""
    return f"without-{code}"


def combined_without(code: str) -> str:
    """Name of the row that is trained on all languages but one."""
    return f"{COMBINED}-without-{code}"


class Build:
    """Stages of one recipe over one folder of data.

    Parameters
    ----------
    recipe
        What is done.
    data
        Folder that holds the data set.
    """

    def __init__(self, recipe: LanguagesRecipe, data: Path) -> None:
        self._recipe, self._data = recipe, data
        self._files = {"base": locate(recipe.base, data)}
        self._codes = list(recipe.languages)

    def all(self) -> list[Stage]:
        """Return every stage."""
        stages = [*self._prepared(), self._head(), self._score(NO_ADAPTER, None, self._codes)]
        for seed in self._recipe.seeds:
            stages += [*self._trained(seed), *self._merged(seed), *self._scored(seed), *self._without(seed)]
        return stages

    def _prepared(self) -> list[Stage]:
        folder = self._data / self._recipe.data_set
        return [
            Stage(
                f"data-{code}",
                tweets.prepare,
                {"language": code, "labels": self._recipe.labels, "share": self._recipe.update.share},
                files=tweets.files_of(folder, name),
                version=tweets.VERSION,
                work=Work(data=f"tweets, {name}", seconds=0.2),
            )
            for code, name in self._recipe.languages.items()
        ]

    def _head(self) -> Stage:
        recipe, pace = self._recipe, self._recipe.pace
        return Stage(
            "head",
            training.fit,
            {
                "language": recipe.head_language,
                "labels": recipe.labels,
                "max_length": recipe.training.max_length,
            },
            needs=(f"data-{recipe.head_language}",),
            files=self._files,
            version=training.HEAD_VERSION,
            work=Work(
                data=f"{pace.train_rows:,} rows of {recipe.head_language}, frozen features",
                tokens=round(pace.train_rows * pace.tokens),
                seconds=2 * pace.thousand_rows * pace.train_rows / 1000,
            ),
        )

    def _trained(self, seed: int) -> list[Stage]:
        recipe, steps = self._recipe, self._recipe.training.steps
        every = self._train(
            f"train-comb-{seed}",
            self._codes,
            recipe.combined_steps,
            seed,
            snapshots=[recipe.combined_steps // 2],
        )
        single = [self._train(f"train-{code}-{seed}", [code], steps, seed) for code in self._codes]
        updated = recipe.update.language
        share = self._train(
            f"train-{updated}-share-{seed}", [updated], recipe.share_steps, seed, rows="train-share"
        )
        return [every, *single, share]

    def _train(
        self,
        name: str,
        codes: Sequence[str],
        steps: int,
        seed: int,
        *,
        rows: str = "train",
        snapshots: Sequence[int] = (),
    ) -> Stage:
        recipe = self._recipe
        trained = recipe.training
        return Stage(
            name,
            training.train,
            {
                "languages": list(codes),
                "rows": rows,
                "steps": steps,
                "seed": seed,
                "snapshots": list(snapshots),
                "adapter": recipe.adapter.model_dump(),
                "training": trained.model_dump(exclude={"steps"}),
            },
            needs=("head", *(f"data-{code}" for code in codes)),
            files=self._files,
            version=training.VERSION,
            work=Work(
                data=f"{trained.batch_size} rows a step of {' '.join(codes)}"
                + (f", a share of {recipe.update.share:g}" if rows != "train" else ""),
                steps=steps,
                tokens=round(steps * trained.batch_size * recipe.pace.tokens),
                seconds=steps * recipe.pace.step + 6,
            ),
        )

    def _merged(self, seed: int) -> list[Stage]:
        recipe, trained = self._recipe, [f"train-{code}-{seed}" for code in self._codes]
        stages = [self._merge(merge, merge.id, seed, trained) for merge in recipe.merges]
        clusters = []
        for name, codes in recipe.clusters.items():
            clusters.append(f"merge-{name}-{seed}")
            stages.append(self._merge(recipe.within, name, seed, [f"train-{code}-{seed}" for code in codes]))
        stages.append(self._merge(recipe.within, TWO_LEVEL, seed, clusters))
        before = [
            f"train-{code}-share-{seed}" if code == recipe.update.language else f"train-{code}-{seed}"
            for code in self._codes
        ]
        stages.append(self._merge(recipe.within, BEFORE_UPDATE, seed, before))
        alike = Stage(
            f"cosine-{seed}",
            merging.compare,
            {"adapters": trained},
            needs=tuple(trained),
            version=merging.VERSION,
            work=Work(data=f"{len(trained)} adapters", seconds=1),
        )
        return [*stages, alike]

    def _without(self, seed: int) -> list[Stage]:
        """Stages of the models before a language is added; those after it are all languages' own."""
        recipe = self._recipe
        if recipe.new_language is None:
            return []
        added = recipe.new_language.language
        others = [code for code in self._codes if code != added]
        merged, combined = f"{merged_without(added)}-{seed}", f"{combined_without(added)}-{seed}"
        adapters = [f"train-{code}-{seed}" for code in others]
        return [
            self._train(f"train-{combined}", others, recipe.training.steps * len(others), seed),
            self._merge(recipe.within, merged_without(added), seed, adapters, others),
            self._score(combined, f"train-{combined}", self._codes),
            self._score(merged, f"merge-{merged}", self._codes),
        ]

    def _merge(
        self, merge: Merge, name: str, seed: int, adapters: Sequence[str], codes: Sequence[str] | None = None
    ) -> Stage:
        """Return a merge; λ is chosen on the validation rows of ``codes``, all languages by default."""
        pace, codes = self._recipe.pace, self._codes if codes is None else list(codes)
        params: dict[str, Any] = {
            # What a row is called in the report is no part of what it is.
            "merge": merge.model_dump(exclude={"name"}, exclude_none=True),
            "adapters": list(adapters),
            "seed": seed,
        }
        needs = tuple(adapters)
        work = Work(data=f"{len(adapters)} adapters", seconds=8)
        if merge.lambdas is not None:
            params |= {"languages": codes, **self._inference()}
            needs = (*needs, "head", *(f"data-{code}" for code in codes))
            rows = len(merge.lambdas) * len(codes) * pace.validation_rows
            work = Work(
                data=f"{len(merge.lambdas)} λ on the validation rows of {len(codes)} languages",
                tokens=round(rows * pace.tokens),
                seconds=rows / 1000 * pace.thousand_rows + 2 * len(merge.lambdas),
            )
        return Stage(
            f"merge-{name}-{seed}",
            merging.merge if merge.lambdas is None else merging.choose,
            params,
            needs=needs,
            files=self._files,
            version=merging.VERSION,
            work=work,
        )

    def _scored(self, seed: int) -> list[Stage]:
        recipe = self._recipe
        half = recipe.combined_steps // 2
        comb = f"train-comb-{seed}"
        stages = [
            *(self._score(f"{code}-{seed}", f"train-{code}-{seed}", [code]) for code in self._codes),
            self._score(f"{COMBINED}-{seed}", comb, self._codes),
            self._score(f"{COMBINED_HALF}-{seed}", comb, self._codes, snapshot=half),
        ]
        known = {merge.id for merge in recipe.merges}
        for merge in recipe.merges:
            # At density 1 nothing is dropped: DARE-TIES should be TIES. If the bytes agree, so do the answers.
            twin = merge.id.replace("dare-", "")
            stages.append(
                self._score(
                    f"{merge.id}-{seed}",
                    f"merge-{merge.id}-{seed}",
                    self._codes,
                    twin=f"{twin}-{seed}"
                    if twin != merge.id and twin in known and merge.density == 1
                    else None,
                )
            )
        for name, codes in recipe.clusters.items():
            stages.append(self._score(f"{name}-{seed}", f"merge-{name}-{seed}", codes))
        whole = (
            self._score(f"{name}-{seed}", f"merge-{name}-{seed}", self._codes)
            for name in (TWO_LEVEL, BEFORE_UPDATE)
        )
        return [*stages, *whole]

    def _score(
        self,
        name: str,
        adapter: str | None,
        codes: Sequence[str],
        *,
        snapshot: int | None = None,
        twin: str | None = None,
    ) -> Stage:
        pace, rows = self._recipe.pace, len(codes) * self._recipe.pace.test_rows
        params: dict[str, Any] = {"languages": list(codes), "adapter": adapter, **self._inference()}
        needs = ["head", *(f"data-{code}" for code in codes), *([] if adapter is None else [adapter])]
        if snapshot is not None:
            params["snapshot"] = snapshot
        if twin is not None:
            params["twin"] = {"merge": f"merge-{twin}", "score": f"score-{twin}"}
            needs += [f"merge-{twin}", f"score-{twin}"]
        return Stage(
            f"score-{name}",
            scoring.score,
            params,
            needs=tuple(needs),
            files=self._files,
            version=scoring.VERSION,
            work=Work(
                data=f"{rows:,} test rows of {' '.join(codes)}" if twin is None else "as its twin, if equal",
                tokens=round(rows * pace.tokens),
                seconds=0.5 if twin else rows / 1000 * pace.thousand_rows + 2,
            ),
        )

    def _inference(self) -> dict[str, Any]:
        return {
            "max_length": self._recipe.training.max_length,
            "batch_size": self._recipe.eval_batch_size,
            "precision": self._recipe.eval_precision,
        }
