"""What the paper claims, and what the numbers of the study say to it; verdicts follow from intervals, by rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carrick.study.report import Finding
from carrick.study.task_language.wording import label
from carrick.study.verdicts import together, verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Compared = Mapping[str, Any]


def findings(found: Mapping[str, Any], task: str) -> Iterator[Finding]:
    """Return a finding for each claim of the paper that the study can speak to; ``task`` is the task's language."""
    compared = found["comparisons"]
    chosen = {target: choice["family"] for target, choice in found["chosen"].items()}

    def about(claim: str, wanted: Callable[[Compared], bool]) -> Finding:
        return _finding(claim, [one for one in compared if wanted(one)], task)

    def best_over(*families: str) -> Callable[[Compared], bool]:
        return lambda one: one["first"] in families and one["second"] == chosen[one["target"]]

    def pair(first: str, second: str) -> Callable[[Compared], bool]:
        return lambda one: one["first"].startswith(first) and one["second"].startswith(second)

    yield about("λ = (1, 1) beats (.5, .5), before alignment (§3.3)", pair("merge/*/0.5", "merge/*/1"))
    yield about("λ = (1, 1) beats (.5, .5), after alignment (§3.3)", pair("mlm/*/0.5", "mlm/*/1"))
    yield about(
        "Alignment improves the merge (§3.3)",
        lambda one: one["first"].startswith("merge/") and one["second"] == chosen[one["target"]],
    )
    yield about("MLM beats CAT (Tables 1 and 2)", best_over("cat/softmax", "cat/free"))
    yield about("CAT beats the simple sum, an average (§4.2.1)", pair("sum_average", "cat/"))
    yield about(
        "MLM beats the simple sum, read as average or as addition", best_over("sum_average", "sum_addition")
    )
    yield about("MLM beats mixed-sample training (Tables 1 and 2)", best_over("mixed"))
    yield about("TIES falls behind the simple sum (Tables 1 to 3)", pair("ties", "sum_average"))
    yield about("MLM beats TIES and DARE", best_over("ties", "dare"))
    yield about("MLM beats the base without an adapter", best_over("zero_shot"))
    yield about(
        "MLM keeps or improves the task language: better than the task adapter there (§3.4)",
        lambda one: one["on"] == "task" and best_over("task_adapter")(one),
    )
    yield about(
        "MLM beats an adapter of the target language alone, on the target (not in the paper)",
        lambda one: one["on"] == "target" and best_over("single")(one),
    )
    for kind in ("orthogonal", "random"):
        yield about(
            f"Initialisation {kind} beats zero (the paper ranks none; here over all λ, aligned)",
            pair("mlm/zero/*", f"mlm/{kind}/*"),
        )
    yield _samples(found["accounting"])


def _finding(claim: str, compared: Sequence[Compared], task: str) -> Finding:
    verdicts = [verdict(one) for one in compared]
    pairs: dict[str, list[str]] = {}
    for one in compared:
        name = f"{task.upper()}-{one['target'].upper()}, {label(one['second'])} against {label(one['first'])}"
        change = (
            f"{one['language']} {_points(one['difference'])} [{_points(one['low'])}, {_points(one['high'])}]"
        )
        pairs.setdefault(name, []).append(change)
    counted = (
        f"Of {len(verdicts)} comparisons {verdicts.count('repeats')} clearly agree, "
        f"{verdicts.count('does not repeat')} clearly disagree. "
        if len(verdicts) > 1
        else ""
    )
    text = "; ".join(f"{name}: {', '.join(changes)}" for name, changes in pairs.items())
    return Finding(
        claim, together(verdicts), f"{counted}Points of macro F1: {text}" if text else "not in this recipe"
    )


def _samples(found: Mapping[str, Any]) -> Finding:
    """Return how many samples each way sees for every number of languages: arithmetic on the recipe."""
    totals = {way: [one["samples_seen"] for one in found["ways"][way]] for way in ("mlm", "cat", "mixed")}
    fewer = [m < min(c, x) for m, c, x in zip(totals["mlm"], totals["cat"], totals["mixed"], strict=True)]
    here = "everywhere" if all(fewer) else f"for {sum(fewer)} of {len(fewer)} numbers of languages"
    text = "; ".join(
        f"{count} language{'s' if count > 1 else ''}: {m:,.0f} against {c:,.0f} (CAT) and {x:,.0f} (mixed)"
        for count, m, c, x in zip(found["counts"], totals["mlm"], totals["cat"], totals["mixed"], strict=True)
    )
    return Finding(
        "MLM trains on fewer samples than CAT and mixed-sample training (§4.4)",
        "by construction",
        f"{text}. MLM has fewer {here}. By construction: rows × epochs of the recipe, whatever the models learn.",
    )


def _points(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", "−")
