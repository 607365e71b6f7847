"""What the paper says, and what the numbers here say to it: verdicts by stated rules, nothing by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carrick.study.languages import stages
from carrick.study.languages.wording import percent, signed
from carrick.study.report import Finding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carrick.study.report import Verdict

RULE = (
    "The verdicts are computed. A claim that one row is better than another **repeats** where the 95 % interval of "
    "the difference over drawn test rows (paired, mean over seeds) lies wholly on its side and every seed agrees, "
    "**does not repeat** where it lies wholly on the other side and every seed agrees, and is **within the noise** "
    "otherwise. They speak of this scale alone: a small encoder, short texts, European languages."
)
ON_PAR = 0.02


def findings(found: Mapping[str, Any]) -> list[Finding]:
    """Return the paper's claims with their verdicts."""
    return [
        _on_par(found),
        _individual(found),
        _same(found),
        _knots(found),
        _pruning(found),
        _clusters(found),
        _update_own(found),
        _update_others(found),
        _cosine(found),
        _time(found),
        _cost(found),
        _parallel(found),
    ]


def _apart(difference: Mapping[str, Any]) -> str:
    text = f"{signed(difference['difference'])} (95 %: {signed(difference['low'])} to {signed(difference['high'])}"
    seeds = difference["seeds"]
    return text + (f"; by seed {', '.join(map(signed, seeds))})" if len(seeds) > 1 else ")")


def _score(found: Mapping[str, Any], name: str) -> str:
    row = found["rows"][name]
    return f"{row['title']} {row['overall']['macro_f1']['mean']:.3f}".replace(" 0.", " .")


def _on_par(found: Mapping[str, Any]) -> Finding:
    best = found["rows"][found["best_merge"]]
    d = best["against_comb"]
    verdict: Verdict = (
        "repeats" if d["low"] > -ON_PAR else "does not repeat" if d["high"] < -ON_PAR else "within the noise"
    )
    return Finding(
        "Merged models perform on par with a model trained on all languages (abstract; for sentiment the paper's "
        "best merge is .026 below: Table 4).",
        verdict,
        f"the best of the merges, {_score(found, found['best_merge'])}, against {_score(found, stages.COMBINED)}: "
        f"{_apart(d)}. On par is read as: less than .02 lower, with 95 % certainty. The best was picked on the test "
        "rows, which favours it a little.",
    )


def _individual(found: Mapping[str, Any]) -> Finding:
    row = found["rows"][stages.INDIVIDUAL]
    opposite: dict[Verdict, Verdict] = {"repeats": "does not repeat", "does not repeat": "repeats"}
    verdict = _verdict(row["against_comb"])
    return Finding(
        "For sentiment the combined model is better than the individual ones, .750 against .671 (Table 4).",
        opposite.get(verdict, verdict),
        f"{_score(found, stages.INDIVIDUAL)} against {_score(found, stages.COMBINED)}: "
        f"{_apart(row['against_comb'])}.",
    )


def _same(found: Mapping[str, Any]) -> Finding:
    pairs = found["same_adapters"]
    equal = all(all(pair["equal"]) for pair in pairs)
    names = " and ".join(" = ".join(found["rows"][name]["title"] for name in pair["rows"]) for pair in pairs)
    return Finding(
        "At density 1 nothing is dropped, so DARE-TIES and TIES have the same scores (section 4, Table 4).",
        "not tested" if not pairs else "repeats" if equal else "does not repeat",
        f"{names}: the merged adapters are {'the same bytes' if equal else 'different'} in "
        f"{sum(sum(pair['equal']) for pair in pairs)} of {sum(len(pair['equal']) for pair in pairs)} cases.",
    )


def _verdict(difference: Mapping[str, Any]) -> Verdict:
    """Return what a difference says to the claim that the second row is better."""
    if difference["low"] > 0 and min(difference["seeds"]) > 0:
        return "repeats"
    if difference["high"] < 0 and max(difference["seeds"]) < 0:
        return "does not repeat"
    return "within the noise"


def _pair(found: Mapping[str, Any], first: str, second: str) -> Mapping[str, Any] | None:
    """Return the difference of two rows; None where the recipe lacks one of them."""
    return next((p for p in found["pairs"] if (p["first"], p["second"]) == (first, second)), None)


def _better(found: Mapping[str, Any], claim: str, first: str, second: str) -> Finding:
    """Return the finding on a claim that the second row is better than the first."""
    pair = _pair(found, first, second)
    if pair is None:
        return Finding(claim, "not tested", "the recipe lacks one of the two.")
    return Finding(claim, _verdict(pair), f"{_score(found, second)}, {_score(found, first)}: {_apart(pair)}.")


def _knots(found: Mapping[str, Any]) -> Finding:
    claim = "KnOTS-TIES is better than TIES at density 1: .723 against .646 for sentiment (Table 4)."
    return _better(found, claim, "ties-d1", "knots-ties-d1")


def _pruning(found: Mapping[str, Any]) -> Finding:
    claim = "TIES is better at density .5 than at 1: .724 against .646 for sentiment (Table 4)."
    return _better(found, claim, "ties-d1", "ties-d0.5")


def _clusters(found: Mapping[str, Any]) -> Finding:
    within = found["within"]
    pair, levels = _pair(found, within, "clusters"), _pair(found, within, stages.TWO_LEVEL)
    claim = (
        "Merging within clusters of languages is no significant improvement over merging all (section 5.3)."
    )
    if pair is None or levels is None:
        return Finding(claim, "not tested", "the recipe lacks one of the two.")
    return Finding(
        claim,
        "does not repeat" if _verdict(pair) == "repeats" else "repeats",
        f"{_score(found, 'clusters')} against {_score(found, within)} over all languages: {_apart(pair)}. Clusters "
        f"merged, then merged with each other: {_score(found, stages.TWO_LEVEL)}, {_apart(levels)}.",
    )


def _sign(change: Mapping[str, float]) -> int:
    """1 better, -1 worse, 0 within the noise."""
    return 1 if change["low"] > 0 else -1 if change["high"] < 0 else 0


def _changed(found: Mapping[str, Any], codes: list[str]) -> str:
    changes = found["update"]["changes"]
    return ", ".join(
        f"{code} {signed(changes[code]['difference'])} ({signed(changes[code]['low'])} to "
        f"{signed(changes[code]['high'])})"
        for code in codes
    )


def _update_own(found: Mapping[str, Any]) -> Finding:
    code = found["update"]["language"]
    verdicts: dict[int, Verdict] = {1: "repeats", 0: "within the noise", -1: "does not repeat"}
    return Finding(
        "More rows for one language, its adapter trained again and merged again, improve the merged model on that "
        "language (section 5.1: English +.033).",
        verdicts[_sign(found["update"]["changes"][code])],
        f"from {percent(found['update']['share'])} to all of its rows: {_changed(found, [code])}.",
    )


def _update_others(found: Mapping[str, Any]) -> Finding:
    others = [code for code in found["update"]["changes"] if code != found["update"]["language"]]
    signs = [_sign(found["update"]["changes"][code]) for code in others]
    verdict: Verdict = (
        "repeats"
        if signs.count(1) > signs.count(-1) and signs.count(1) * 2 >= len(signs)
        else "within the noise"
        if not any(signs)
        else "does not repeat"
    )
    return Finding(
        "The update improves other languages as well (section 5.1: three of four).",
        verdict,
        f"{signs.count(1)} of {len(signs)} others better, {signs.count(-1)} worse, the rest within the noise: "
        f"{_changed(found, others)}.",
    )


def _cosine(found: Mapping[str, Any]) -> Finding:
    matrix = found["cosine"]["mean"]
    off = [matrix[i][j] for i in range(len(matrix)) for j in range(len(matrix)) if i < j]
    return Finding(
        "The languages' updates are far from parallel although the task is the same (appendix A.2, Figure 8).",
        "repeats" if max(off) < 0.5 else "does not repeat",
        f"cosines from {min(off):.3f} to {max(off):.3f}; read as far from parallel: all below .5.",
    )


def _quotient(found: Mapping[str, Any], key: str) -> tuple[float, float]:
    quotients = found["efficiency"]["quotients"]
    return quotients["wall"][key], quotients["cpu"][key]


def _why(found: Mapping[str, Any]) -> str:
    return (
        f"With equal epochs the quotient is the number of languages, {found['efficiency']['languages']}, less the "
        "merge: the paper's has five, and languages that differ in size and length."
    )


def _time(found: Mapping[str, Any]) -> Finding:
    wall, cpu = _quotient(found, "update")
    return Finding(
        "Updating a language takes 2.5 times less time than training the combined model again (abstract; an earlier "
        "one: up to 50 % less).",
        "repeats" if min(wall, cpu) >= found["efficiency"]["paper"]["time"] else "does not repeat",
        f"{wall:.1f} times by wall time, {cpu:.1f} by processor time. {_why(found)}",
    )


def _cost(found: Mapping[str, Any]) -> Finding:
    wall, cpu = _quotient(found, "update")
    share = found["efficiency"]["quotients"]["cpu"]["update_share"]
    return Finding(
        "It costs 3 times less (abstract; an earlier one: more than 60 % less), 37.5 % of the combined model's cost "
        "in the case study (section 6).",
        "repeats" if min(wall, cpu) >= found["efficiency"]["paper"]["cost"] else "does not repeat",
        f"{cpu:.1f} times less, {percent(share, 1)} of the cost: one device trains, so its time is its cost.",
    )


def _parallel(found: Mapping[str, Any]) -> Finding:
    wall, cpu = _quotient(found, "build_time")
    cost = found["efficiency"]["quotients"]["cpu"]["build_cost"]
    return Finding(
        "Training the languages in parallel takes less time than training the combined model (section 4, Figure 3).",
        "repeats" if min(wall, cpu) > 1 else "does not repeat",
        f"{wall:.1f} times less by wall time, {cpu:.1f} by processor time, with as many devices as languages; the "
        f"sum of device seconds is {1 / cost:.2f} of the combined model's.",
    )
