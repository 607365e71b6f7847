"""Every number of the report on languages, from the logits and the training records."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from carrick.study.languages import stages
from carrick.study.languages.bootstrap import changes, difference, row_scores
from carrick.study.languages.efficiency import efficiency
from carrick.study.languages.new_language import new_language, rows_before
from carrick.study.languages.scoring import LOGITS
from carrick.study.languages.tweets import load

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carrick.study.languages.bootstrap import Answers
    from carrick.study.languages.recipe import LanguagesRecipe
    from carrick.study.stage import Finished

CLUSTERS = "clusters"


def found(recipe: LanguagesRecipe, finished: Mapping[str, Finished]) -> dict[str, Any]:
    """Return every number of the report as plain data."""
    codes = list(recipe.languages)
    labels = {
        code: np.array(load(finished[f"data-{code}"].folder, "test")[1], dtype=np.int64)
        for code in recipe.languages
    }
    answers = {name: _answers(recipe, finished, name) for name in row_names(recipe)}
    rows = {name: row_scores(recipe, labels, answers[name]) for name in answers}
    for name, row in rows.items():
        row["title"] = titles(recipe)[name]
        if name != stages.COMBINED:
            row["against_comb"] = difference(recipe, labels, answers[stages.COMBINED], answers[name], codes)
    apart = {before: _answers(recipe, finished, before) for before, _ in rows_before(recipe).values()}
    merged = [name for name in rows if is_whole_merge(recipe, name)]
    return {
        "data": {code: dict(finished[f"data-{code}"].result["rows"]) for code in recipe.languages},
        "head": dict(finished["head"].result),
        "rows": rows,
        "within": recipe.within.id,
        "best_merge": max(merged, key=lambda name: rows[name]["overall"]["macro_f1"]["mean"]),
        "pairs": [
            {
                "first": first,
                "second": second,
                **difference(recipe, labels, answers[first], answers[second], codes),
            }
            for first, second in _pairs(recipe)
            if first in answers and second in answers
        ],
        "friedman": _friedman(recipe, rows),
        "lambda": [
            dict(finished[f"merge-{merge.id}-{seed}"].result)
            for merge in recipe.merges
            if merge.lambdas
            for seed in recipe.seeds
        ],
        "cosine": _cosine(recipe, finished),
        "same_adapters": _same(recipe, finished),
        "efficiency": efficiency(recipe, finished),
        "update": {
            "language": recipe.update.language,
            "share": recipe.update.share,
            "changes": changes(recipe, labels, answers[stages.BEFORE_UPDATE], answers[recipe.within.id]),
        },
        "new_language": new_language(recipe, finished, labels, answers | apart),
        "losses": _losses(recipe, finished),
    }


def row_names(recipe: LanguagesRecipe) -> list[str]:
    """Rows of the tables, in their order."""
    return [
        stages.NO_ADAPTER,
        stages.INDIVIDUAL,
        stages.COMBINED,
        stages.COMBINED_HALF,
        *(merge.id for merge in recipe.merges),
        CLUSTERS,
        stages.TWO_LEVEL,
        stages.BEFORE_UPDATE,
    ]


def titles(recipe: LanguagesRecipe) -> dict[str, str]:
    """Names of the rows for people."""
    return {
        stages.NO_ADAPTER: "no adapter",
        stages.INDIVIDUAL: "INDV",
        stages.COMBINED: "COMB",
        stages.COMBINED_HALF: "COMB, half the steps",
        **{merge.id: merge.name for merge in recipe.merges},
        CLUSTERS: "clusters",
        stages.TWO_LEVEL: "two-level",
        stages.BEFORE_UPDATE: f"before the update of {recipe.update.language}",
    }


def is_whole_merge(recipe: LanguagesRecipe, name: str) -> bool:
    """Whether a row is one adapter merged from those of all languages."""
    return name in {stages.TWO_LEVEL, *(merge.id for merge in recipe.merges)}


def _pairs(recipe: LanguagesRecipe) -> list[tuple[str, str]]:
    """Pairs of rows that the paper compares."""
    within = recipe.within.id
    return [
        ("ties-d1", "knots-ties-d1"),
        ("ties-d1", "ties-d0.5"),
        (within, CLUSTERS),
        (within, stages.TWO_LEVEL),
        ("linear", within),
        ("ties-d0.5", "knots-ties-d0.5"),
        (stages.COMBINED_HALF, stages.COMBINED),
    ]


def _stage(recipe: LanguagesRecipe, name: str, code: str, seed: int) -> str:
    """Name of the stage that classified a language's rows for a row of the report."""
    if name == stages.NO_ADAPTER:
        return f"score-{name}"
    if name == stages.INDIVIDUAL:
        return f"score-{code}-{seed}"
    if name == CLUSTERS:
        cluster = next(cluster for cluster, codes in recipe.clusters.items() if code in codes)
        return f"score-{cluster}-{seed}"
    return f"score-{name}-{seed}"


def _answers(recipe: LanguagesRecipe, finished: Mapping[str, Finished], name: str) -> Answers:
    seeds = recipe.seeds[:1] if name == stages.NO_ADAPTER else recipe.seeds
    answers: Answers = {}
    for code in recipe.languages:
        columns = []
        for seed in seeds:
            with np.load(finished[_stage(recipe, name, code, seed)].folder / LOGITS) as logits:
                columns.append(logits[code].argmax(axis=1))
        answers[code] = np.stack(columns, axis=1)
    return answers


def _friedman(recipe: LanguagesRecipe, rows: Mapping[str, Any]) -> dict[str, Any] | None:
    """Friedman's test over the rows of the main table; the languages are the blocks."""
    from carrick.evaluate.statistics import friedman, nemenyi  # noqa: PLC0415

    names = [name for name in rows if name not in {stages.NO_ADAPTER, stages.BEFORE_UPDATE}]
    # Merges that came out as the same adapter are one treatment: equal rows would only share ranks.
    table = [
        [rows[name]["languages"][code]["macro_f1"]["mean"] for code in recipe.languages] for name in names
    ]
    kept = [place for place, values in enumerate(table) if values not in table[:place]]
    if len(kept) < 3 or len(recipe.languages) < 2:
        return None
    values = [table[place] for place in kept]
    result = friedman(values)
    return {
        "rows": [names[place] for place in kept],
        "statistic": result.statistic,
        "p": result.p,
        "f": result.f if math.isfinite(result.f) else None,
        "p_f": result.p_f,
        "blocks": result.blocks,
        "mean_ranks": list(result.mean_ranks),
        "critical_difference": result.critical_difference,
        "level": result.level,
        "nemenyi_p": [[float(p) for p in line] for line in nemenyi(values)],
    }


def _cosine(recipe: LanguagesRecipe, finished: Mapping[str, Finished]) -> dict[str, Any]:
    """Cosine similarities of the languages' updates, mean over seeds, and the norms."""
    runs = [finished[f"cosine-{seed}"].result for seed in recipe.seeds]
    matrices = np.array([run["cosine"] for run in runs])
    modules = {
        name: np.mean([run["by_module"][name] for run in runs], axis=0).tolist()
        for name in runs[0]["by_module"]
    }
    return {
        "languages": list(recipe.languages),
        "mean": matrices.mean(axis=0).tolist(),
        "spread": matrices.std(axis=0, ddof=1).tolist() if len(runs) > 1 else None,
        "norms": np.mean([run["norms"] for run in runs], axis=0).tolist(),
        "by_module": modules,
    }


def _same(recipe: LanguagesRecipe, finished: Mapping[str, Finished]) -> list[dict[str, Any]]:
    """Whether DARE-TIES at density 1 is the same adapter as TIES, byte for byte, for each seed."""
    known = {merge.id: merge for merge in recipe.merges}
    pairs = []
    for name, merge in known.items():
        twin = name.replace("dare-", "")
        if merge.density == 1 and twin != name and twin in known:
            sums = [
                [finished[f"merge-{each}-{seed}"].result["sha256"] for each in (name, twin)]
                for seed in recipe.seeds
            ]
            pairs.append({"rows": [name, twin], "equal": [one == other for one, other in sums]})
    return pairs


def _losses(recipe: LanguagesRecipe, finished: Mapping[str, Finished]) -> dict[str, Any]:
    seed = recipe.seeds[0]
    return {name: finished[f"train-{name}-{seed}"].result["losses"] for name in (*recipe.languages, "comb")}
