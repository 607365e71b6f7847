"""What the paper claims, and what the numbers of the study say to it; verdicts follow from intervals, by rule."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from carrick.study.layer_swap.indicators import WITHIN
from carrick.study.report import Finding
from carrick.study.verdicts import together, verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def findings(found: Mapping[str, Any]) -> Iterator[Finding]:
    """Return a finding for each claim of the paper that the study can speak to."""
    compared = found["comparisons"]

    def about(claim: str, *names: str) -> Finding:
        known = [name for name in names if name in compared]
        verdicts = [verdict(compared[name], lower_is_better=True) for name in known]
        return Finding(claim, together(verdicts), evidence(compared, known))

    kinds = list(found["chosen"])
    modular = ("swap", "simultaneous", "swap_partial")
    yield about(
        "Modular solutions beat data mixing (Table 1, §5)",
        *(f"{kind}: {way} against mixing" for kind in kinds for way in modular),
    )
    yield about(
        "Layer swapping beats the experts it is made of (Tables 1 and 3)",
        *(f"{kind}: swap against {expert}" for kind in kinds for expert in ("math", "language")),
    )
    yield about(
        "Layer swapping beats simultaneous partition SFT (§5)",
        *(f"{kind}: swap against simultaneous" for kind in kinds),
    )
    yield about(
        "Full training before the swap beats partial SFT and its swap (§5)",
        *(f"{kind}: swap against swap_partial" for kind in kinds),
    )
    yield about(
        "Simultaneous SFT is second best: it beats the swap of partial experts (§5)",
        *(f"{kind}: simultaneous against swap_partial" for kind in kinds),
    )
    yield about(
        "Train, then reset beats freeze, on English math (Table 2, §6)",
        *(f"{kind}: reset against freeze {p}" for kind in kinds for p in "ABC"),
    )
    yield about(
        "The partitions beat the opposite allocation Z (§3.3)",
        *(f"{kind}: swap against swap Z" for kind in kinds),
    )
    yield about(
        "Language data alone helps the target task more than math data alone (§5, A.1)",
        *(f"{kind}: language against math" for kind in kinds),
    )
    yield about("Full fine-tuning beats LoRA (Tables 1 and 3)", "full against lora: swap")
    yield about(
        "With continual pretraining as the language step swapping still beats mixing (A.2)",
        "full: swap with continual pretraining against mixing",
    )
    yield _switches(compared, kinds)
    yield from _indicators(found["indicators"]["correlations"][WITHIN])


def evidence(compared: Mapping[str, Any], names: list[str]) -> str:
    """Return the comparisons in words: by how much perplexity changes, with the interval."""
    text = "; ".join(
        f"{name.replace('swap_partial', 'partial swap')} {percent(compared[name])}" for name in names
    )
    return f"Change of perplexity: {text}" if text else "not in this recipe"


def percent(compared: Mapping[str, Any]) -> str:
    """Return a difference of losses as a change of perplexity, with its interval.

    >>> percent({"difference": -0.1, "low": -0.2, "high": 0.0})
    '−9.5 % [−18.1, +0.0]'
    """
    middle, low, high = (100 * math.expm1(compared[key]) for key in ("difference", "low", "high"))
    return f"{_signed(middle)} % [{_signed(low)}, {_signed(high)}]"


def _switches(compared: Mapping[str, Any], kinds: list[str]) -> Finding:
    """Return what more steps between switches do: the paper finds the target task progressively worse."""
    names = [name for name in compared for kind in kinds if name.startswith(f"{kind}: k")]
    # Worse is what the claim says: a larger loss.
    verdicts = [verdict(compared[name]) for name in names]
    claim = "More gradient steps between switches make the target task worse (A.3)"
    return Finding(claim, together(verdicts), evidence(compared, names))


def _indicators(correlations: Mapping[str, Any]) -> Iterator[Finding]:
    """Compare the signal nearer to the training data with the target task, as predictors."""
    pairs = (
        ("language", "general_de", "a language expert", "general German"),
        ("math", "math_en", "a math expert", "English math"),
    )
    for expert, near, who, what in pairs:
        own, target = correlations[f"{expert}/{near}"], correlations[f"{expert}/german_math"]
        claim = (
            f"{what[0].upper()}{what[1:]} predicts the merge of {who} better than the target task does (§5)"
        )
        if own["spearman"] is None or target["spearman"] is None:
            yield Finding(claim, "not tested", "too few different experts")
            continue
        better = own["spearman"] > target["spearman"]
        text = (
            f"Spearman {own['spearman']:.2f} against {target['spearman']:.2f}, {own['points']} merges of "
            f"{own['values']} experts, each kind less its mean; no interval, the merges share experts"
        )
        yield Finding(claim, "repeats" if better else "does not repeat", text)


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")
