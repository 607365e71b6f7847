"""Every number of the report, computed once from the finished stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carrick.study.layer_swap.corpora import SELECTION
from carrick.study.layer_swap.indicators import indicators
from carrick.study.layer_swap.models import models
from carrick.study.layer_swap.rows import GERMAN_MATH, Row, collect, described, difference, find
from carrick.study.layer_swap.turns import losses_of_sides

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carrick.study.layer_swap.recipe import LayerSwap
    from carrick.study.stage import Finished

# Families of which the best partition of A, B and C is chosen, on texts that are no part of the tests.
CHOSEN = ("swap", "swap_partial", "swap_embeddings", "swap_cpt", "simultaneous")
MATH_EN = "math_en"
_TREATMENTS = ("math", "language", "mixing", "simultaneous", "swap", "swap_partial")


def results(recipe: LayerSwap, finished: Mapping[str, Finished]) -> dict[str, Any]:
    """Return the study's numbers as plain data."""
    rows = collect(recipe, finished)
    chosen = choose(rows)
    return {
        "corpora": dict(finished["corpora"].result),
        "rows": [described(row, seed=0, draws=recipe.draws) for row in rows],
        "chosen": chosen,
        "comparisons": compare(rows, chosen, recipe.draws),
        "friedman": _friedman(rows, chosen),
        "indicators": indicators(recipe, rows),
        "training": _training(recipe, finished),
        "turns": losses_of_sides(rows, finished),
    }


def choose(rows: Sequence[Row]) -> dict[str, dict[str, str]]:
    """Return the row of each family with the lowest loss on the selection texts, by kind; Z never is one."""
    chosen: dict[str, dict[str, str]] = {}
    for kind in ("full", "lora"):
        for family in CHOSEN:
            found = [row for row in rows if (row.kind, row.family) == (kind, family) and row.partition != "Z"]
            first_k = min((row.steps_per_switch or 0 for row in found), default=0)
            found = [row for row in found if (row.steps_per_switch or 0) == first_k]
            if found:
                best = min(found, key=lambda row: _loss(row, SELECTION))
                chosen.setdefault(kind, {})[family] = best.key
    return chosen


def compare(rows: Sequence[Row], chosen: Mapping[str, Mapping[str, str]], draws: int) -> dict[str, Any]:
    """Return the paired differences that the findings rest on, by name."""
    found: dict[str, Any] = {}

    def add(name: str, first: str, second: str, test: str = GERMAN_MATH) -> None:
        one, other = find(rows, first), find(rows, second)
        if one is not None and other is not None:
            found[name] = difference(one, other, test, seed=0, draws=draws)

    for kind, best in chosen.items():
        swap, simultaneous = best["swap"], best.get("simultaneous", "")
        for baseline in ("math", "language", "mixing", "average", "ties"):
            add(f"{kind}: swap against {baseline}", f"{kind}/{baseline}", swap)
        for modular in ("simultaneous", "swap_partial"):
            add(f"{kind}: {modular} against mixing", f"{kind}/mixing", best.get(modular, ""))
            add(f"{kind}: swap against {modular}", best.get(modular, ""), swap)
        add(f"{kind}: language against math", f"{kind}/math", f"{kind}/language")
        add(f"{kind}: swap against swap Z", f"{kind}/swap/Z", swap)
        add(f"{kind}: simultaneous against swap_partial", best["swap_partial"], simultaneous)
        for p in "ABCZ":
            add(f"{kind}: reset against freeze {p}", f"{kind}/math_partial/{p}", f"{kind}/reset/{p}", MATH_EN)
            add(f"{kind}: freeze {p} against all", f"{kind}/math", f"{kind}/math_partial/{p}", MATH_EN)
            add(f"{kind}: reset {p} against all", f"{kind}/math", f"{kind}/reset/{p}", MATH_EN)
        add(f"{kind}: swap against base", "base/base", swap)
        for row in rows:
            if row.kind == kind and row.family.startswith("simultaneous"):
                add(f"{row.key} against base", "base/base", row.key)
        for k in _switches(rows, kind):
            first = f"{kind}/simultaneous/{k[0]}/k{k[1]}"
            add(f"{kind}: k{k[2]} against k{k[1]}", first, f"{kind}/simultaneous/{k[0]}/k{k[2]}")
    if "lora" in chosen and "full" in chosen:
        add("full against lora: swap", chosen["lora"]["swap"], chosen["full"]["swap"])
        add(
            "full: embeddings of the language expert",
            chosen["full"]["swap"],
            chosen["full"]["swap_embeddings"],
        )
    if "swap_cpt" in chosen.get("full", {}):
        add(
            "full: swap with continual pretraining against SFT",
            chosen["full"]["swap"],
            chosen["full"]["swap_cpt"],
        )
        add("full: swap with continual pretraining against mixing", "full/mixing", chosen["full"]["swap_cpt"])
    return found


def _switches(rows: Sequence[Row], kind: str) -> list[tuple[str, int, int]]:
    """Partition, smallest k and a larger one, where several were tried."""
    tried: dict[str, list[int]] = {}
    for row in rows:
        if (row.kind, row.family) == (kind, "simultaneous") and row.partition and row.steps_per_switch:
            tried.setdefault(row.partition, []).append(row.steps_per_switch)
    return [(p, min(ks), k) for p, ks in tried.items() for k in sorted(ks)[1:]]


def _friedman(rows: Sequence[Row], chosen: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Friedman test over treatments; a block is a kind, a test of German math and a seed."""
    from carrick.evaluate.statistics import friedman  # noqa: PLC0415  (scipy)

    table: dict[str, list[float]] = {treatment: [] for treatment in _TREATMENTS}
    for kind, best in chosen.items():
        found = {t: find(rows, best.get(t, f"{kind}/{t}")) for t in _TREATMENTS}
        for test in ("msvamp_de", "mgsm_de"):
            for treatment, row in found.items():
                if row is not None:
                    table[treatment] += [_sum_loss(one) for one in row.losses[test]]
    blocks = {len(values) for values in table.values()}
    if len(blocks) > 1 or max(blocks) < 2:
        return {}
    tested = friedman(list(table.values()), higher_is_better=False)
    return {
        "treatments": list(table),
        "blocks": tested.blocks,
        "statistic": tested.statistic,
        "p": tested.p,
        "mean_ranks": list(tested.mean_ranks),
        "critical_difference": tested.critical_difference,
    }


def _training(recipe: LayerSwap, finished: Mapping[str, Finished]) -> dict[str, Any]:
    """Return what each training took."""
    names = ["base", *(model.name for model in models(recipe) if model.trained)]
    return {name: {**finished[name].result, "seconds": finished[name].seconds} for name in names}


def _loss(row: Row, test: str) -> float:
    return _sum_loss(row.mean(test))


def _sum_loss(losses: Any) -> float:
    loss, tokens, _ = losses.sum(axis=0)
    return float(loss / tokens)
