"""What the paper says, and what the numbers here say to it: verdicts by stated rules, nothing by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carrick.study.languages import stages
from carrick.study.languages.wording import percent, short, signed
from carrick.study.report import Finding

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carrick.study.report import Verdict

RULE = (
    "The verdicts are computed. A claim that one row is better than another **repeats** where the 95 % interval of "
    "the difference over drawn test rows (paired, mean over seeds) lies wholly on its side and every seed agrees, "
    "**does not repeat** where it lies wholly on the other side and every seed agrees, and is **within the noise** "
    "otherwise. Claims that two rows are equal, and claims over several languages, state their own rule. What follows "
    "from the recipe, whatever the models learn, is marked **by construction** and confirms nothing. "
    "They speak of this scale alone: a small encoder, short texts, European languages."
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
        *_addition(found),
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
    return Finding(
        "Merged models perform on par with a model trained on all languages (abstract; for sentiment the paper's "
        "best merge is .026 below: Table 4).",
        _verdict(d, above=-ON_PAR),
        f"the best of the merges, {_score(found, found['best_merge'])}, against {_score(found, stages.COMBINED)}: "
        f"{_apart(d)}. On par is read as: less than {short(ON_PAR)} lower, by the whole interval "
        "and every seed. The best was picked on the test "
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
        # The arithmetic alone makes them equal, whatever the models learn.
        "not tested" if not pairs else "by construction" if equal else "does not repeat",
        f"{names}: the merged adapters are {'the same bytes' if equal else 'different'} in "
        f"{sum(sum(pair['equal']) for pair in pairs)} of {sum(len(pair['equal']) for pair in pairs)} cases.",
    )


def _verdict(difference: Mapping[str, Any], *, above: float = 0.0) -> Verdict:
    """Return what a difference says to the claim that the second row is better, or better than by ``above``."""
    if difference["low"] > above and min(difference["seeds"]) > above:
        return "repeats"
    if difference["high"] < above and max(difference["seeds"]) < above:
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
        _no_better(pair),
        f"{_score(found, 'clusters')} against {_score(found, within)} over all languages: {_apart(pair)}. Clusters "
        f"merged, then merged with each other: {_score(found, stages.TWO_LEVEL)}, {_apart(levels)}. No improvement is "
        f"read as: not clearly better, and less than {short(ON_PAR)} better by the whole interval and every seed; an "
        "interval that reaches further is within the noise.",
    )


def _no_better(difference: Mapping[str, Any]) -> Verdict:
    """Return what a difference says to the claim that the second row is no improvement: a test of equivalence."""
    if _verdict(difference) == "repeats":
        return "does not repeat"
    # That it is not better by the margin has to be shown; an interval around zero alone shows nothing.
    return "repeats" if _verdict(difference, above=ON_PAR) == "does not repeat" else "within the noise"


def _changed(found: Mapping[str, Any], codes: list[str]) -> str:
    changes = found["update"]["changes"]
    return ", ".join(
        f"{code} {signed(changes[code]['difference'])} ({signed(changes[code]['low'])} to "
        f"{signed(changes[code]['high'])})"
        for code in codes
    )


def _update_own(found: Mapping[str, Any]) -> Finding:
    code = found["update"]["language"]
    return Finding(
        "More rows for one language, its adapter trained again and merged again, improve the merged model on that "
        "language (section 5.1: English +.033).",
        _verdict(found["update"]["changes"][code]),
        f"from {percent(found['update']['share'])} to all of its rows: {_changed(found, [code])}.",
    )


def _update_others(found: Mapping[str, Any]) -> Finding:
    others = [code for code in found["update"]["changes"] if code != found["update"]["language"]]
    verdicts = [_verdict(found["update"]["changes"][code]) for code in others]
    better, worse = verdicts.count("repeats"), verdicts.count("does not repeat")
    verdict: Verdict = (
        "repeats"
        if better > worse and better * 2 >= len(others)
        else "does not repeat"
        if worse > better
        else "mixed"
        if worse
        else "within the noise"
    )
    return Finding(
        "The update improves other languages as well (section 5.1: three of four).",
        verdict,
        f"{better} of {len(others)} others clearly better, {worse} clearly worse, the rest within the noise: "
        f"{_changed(found, others)}. It repeats if at least half are better and fewer are worse, and does not if more "
        "are worse than better; else it is mixed where some are worse, and within the noise where none is.",
    )


def _addition(found: Mapping[str, Any]) -> list[Finding]:
    """Return the finding on a language that is added; none of results without such a language."""
    added = found.get("new_language")
    if added is None:
        return []
    code, merged, combined = added["language"], added["merged"], added["combined"]
    own, others = merged["changes"][code], merged["others"]
    quotients = added["efficiency"]["quotients"]
    return [
        Finding(
            "A new language can be added by training its adapter alone and merging again, at a fraction of the time "
            "and cost of training the combined model again (abstract, section 4).",
            _added(own, others, [quotients[clock]["faster"] for clock in ("wall", "cpu")]),
            f"{code}, merged with the {len(merged['changes']) - 1} other languages by "
            f"{found['rows'][found['within']]['title']}: {_apart(own)}; the others, mean: {_apart(others)}. COMB, "
            f"trained again: {code} {signed(combined['changes'][code]['difference'])}, the others "
            f"{signed(combined['others']['difference'])}. After the addition merged less COMB is "
            f"{_apart(added['against_comb'])} on {code}, which is no part of the verdict. Less time and cost: "
            f"{_clocks(quotients, 'faster')}. {_why(found)} It repeats if {code} is clearly better than before, the "
            f"mean of the others is less than {short(ON_PAR)} lower, by the whole interval and every seed, and both "
            "clocks show less time; it does not repeat if one of the three is clearly otherwise.",
        )
    ]


def _added(own: Mapping[str, Any], others: Mapping[str, Any], faster: Sequence[float | None]) -> Verdict:
    """Return whether the new language gained, the others did not lose, and time was saved by every known clock."""
    quality = {_verdict(own), _verdict(others, above=-ON_PAR)}
    saved = all(quotient > 1 for quotient in faster if quotient is not None)
    if "does not repeat" in quality or not saved:
        return "does not repeat"
    return "repeats" if quality == {"repeats"} else "within the noise"


def _cosine(found: Mapping[str, Any]) -> Finding:
    matrix = found["cosine"]["mean"]
    off = [matrix[i][j] for i in range(len(matrix)) for j in range(len(matrix)) if i < j]
    return Finding(
        "The languages' updates are far from parallel although the task is the same (appendix A.2, Figure 8).",
        "repeats" if max(off) < 0.5 else "does not repeat",
        f"cosines from {min(off):.3f} to {max(off):.3f}; read as far from parallel: all below .5.",
    )


def _times(found: Mapping[str, Any], key: str) -> str:
    return _clocks(found["efficiency"]["quotients"], key)


def _clocks(quotients: Mapping[str, Any], key: str) -> str:
    """Write a quotient by both clocks; a training that was resumed has no processor time of the whole."""
    wall, cpu = quotients["wall"][key], quotients["cpu"][key]
    return f"{wall:.1f} times by wall time, " + (
        "processor time is left out, as a training was resumed"
        if cpu is None
        else f"{cpu:.1f} by processor time"
    )


def _why(found: Mapping[str, Any]) -> str:
    """Say why a quotient of times is no finding."""
    return (
        f"By construction: with equal epochs the quotient is the number of languages, "
        f"{found['efficiency']['languages']}, less the merge; the paper's has five, which differ in size and length."
    )


def _time(found: Mapping[str, Any]) -> Finding:
    return Finding(
        "Updating a language takes 2.5 times less time than training the combined model again (abstract; an earlier "
        "one: up to 50 % less).",
        "by construction",
        f"{_times(found, 'update')}. {_why(found)}",
    )


def _cost(found: Mapping[str, Any]) -> Finding:
    share = found["efficiency"]["quotients"]["wall"]["update_share"]
    return Finding(
        "It costs 3 times less (abstract; an earlier one: more than 60 % less), 37.5 % of the combined model's cost "
        "in the case study (section 6).",
        "by construction",
        f"{_times(found, 'update')}, {percent(share, 1)} of the cost by wall time: one device trains, so its time is "
        f"its cost. {_why(found)}",
    )


def _parallel(found: Mapping[str, Any]) -> Finding:
    cost = found["efficiency"]["quotients"]["wall"]["build_cost"]
    return Finding(
        "Training the languages in parallel takes less time than training the combined model (section 4, Figure 3).",
        "by construction",
        f"less time {_times(found, 'build_time')}, with as many devices as languages; the sum of device seconds is "
        f"{1 / cost:.2f} of the combined model's by wall time. {_why(found)}",
    )
