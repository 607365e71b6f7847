"""The report on languages: tables, plots and findings from results.json alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carrick.study.languages import report_merging, report_new_language, report_scores, stages
from carrick.study.languages.findings import RULE, findings
from carrick.study.languages.wording import short
from carrick.study.report import Findings, Report, Section

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carrick.study.report import Part


def report(results: Mapping[str, Any]) -> Report:
    """Return the report."""
    recipe, found = results["recipe"], results["found"]
    return Report(
        "Languages: one adapter each, merged, against one trained on all",
        [*_quick(results), *_summary(recipe, found)],
        [
            Section("What repeats", [RULE, Findings(findings(found))]),
            Section("Scores", report_scores.scores(found)),
            Section("Precision and recall", [report_scores.precision(found)]),
            Section("Ranks over languages", report_scores.ranks(found)),
            Section("λ of task arithmetic", report_merging.lambdas(recipe, found)),
            Section("How alike the languages' updates are", report_merging.cosine(found)),
            Section("An update of one language", report_merging.update(found)),
            *_addition(found),
            Section("Time and cost", report_merging.efficiency(found)),
            Section("How it was done", _method(results)),
        ],
    )


def _addition(found: Mapping[str, Any]) -> list[Section]:
    """Return the section on a language that is added; none of results without such a language."""
    added = found.get("new_language")
    if added is None:
        return []
    return [Section("A new language", report_new_language.new_language(found, added))]


def _quick(results: Mapping[str, Any]) -> list[str]:
    if not results["quick"]:
        return []
    return ["**This is a quick run on made-up data and a random model: its numbers mean nothing.**"]


def _summary(recipe: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    verdicts = [each.verdict for each in findings(found)]
    mixed = verdicts.count("mixed")
    rows = found["rows"]
    named = [stages.NO_ADAPTER, stages.INDIVIDUAL, stages.COMBINED, found["best_merge"]]
    scores = ", ".join(f"{rows[n]['title']} {short(rows[n]['overall']['macro_f1']['mean'])}" for n in named)
    seeds = recipe["seeds"]
    return [
        f"Macro F1, unweighted mean over {len(recipe['languages'])} languages and {len(seeds)} "
        f"seed{'s' if len(seeds) > 1 else ''}: {scores} (the best of the merges).",
        f"Of {len(verdicts)} claims of the paper {verdicts.count('repeats')} repeat here, "
        f"{verdicts.count('does not repeat')} do not, {verdicts.count('within the noise')} cannot be told from noise"
        + ("" if not mixed else f", {mixed} {'is' if mixed == 1 else 'are'} mixed")
        + f", {verdicts.count('by construction')} follow from the recipe"
        + (f", {verdicts.count('not tested')} were not tested." if "not tested" in verdicts else "."),
    ]


def _method(results: Mapping[str, Any]) -> list[Part]:
    recipe, found, machine = results["recipe"], results["found"], results["machine"]
    adapter, training = recipe["adapter"], recipe["training"]
    counts = next(iter(found["data"].values()))
    steps = found["efficiency"]["steps"]
    clusters = "; ".join(f"{name}: {' '.join(codes)}" for name, codes in recipe["clusters"].items())
    libraries = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    return [
        f"Rows: {counts['train']:,} to train, {counts['val']:,} to validate, {counts['test']:,} to test in each of "
        f"{', '.join(recipe['languages'])}; labels {', '.join(recipe['labels'])}. Base: `{recipe['base']}`, mean "
        f"pooling, and one frozen head for all: logistic regression on the frozen features of the "
        f"{recipe['head_language']} training rows, right on {short(found['head']['train_accuracy'])} of them. So a "
        "head is never merged, and the language need not be known.",
        f"LoRA of rank {adapter['rank']}, α = {adapter['alpha']:g}, on {', '.join(adapter['targets'])}; AdamW, "
        f"learning rate {training['learning_rate']:g}, batch {training['batch_size']}, {training['warmup']} steps of "
        f"warmup, then constant; {training['max_length']} tokens; training in {training['precision']}, evaluation in "
        f"{recipe['eval_precision']}"
        + (
            " (autocast: parameters, loss, optimizer and head are float32)"
            if training["precision"] == "bfloat16"
            else ""
        )
        + f". INDV: {steps['language']} steps a language, the last step is kept. COMB: {steps['combined']} steps, as "
        "many as all languages together; half of it is a snapshot of the same run, which a constant rate makes the "
        "shorter run.",
        "Merges work on ΔW of the adapters (`carrick.adapters.merge`), weights 1; TIES and DARE-TIES keep the full "
        "rank, KnOTS is exact, so no merge is cut down. The mean divides the sum by the number of adapters. "
        f"Clusters ({clusters}), both levels of the "
        f"two-level merge{', the update and the addition' if recipe.get('new_language') else ' and the update'} use "
        f"{recipe['within']['name']}. Masks of DARE are drawn with the run's seed.",
        f"Machine: {machine['processor']}, {machine['system']}; one thread a process. Python {machine['python']}, "
        f"{libraries}.",
        "    carrick study run languages --data DATA --out studies/languages --jobs 2",
    ]
