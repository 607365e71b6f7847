"""The report of the study, from its numbers alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carrick.study.report import Figure, Findings, Report, Section, Table
from carrick.study.task_language.drawings import growth, scores_by_row
from carrick.study.task_language.findings import findings
from carrick.study.task_language.wording import label
from carrick.study.verdicts import RULE

if TYPE_CHECKING:
    from collections.abc import Mapping

_WAYS = {"mlm": "MLM", "cat": "CAT", "sum": "simple sum, TIES, DARE", "mixed": "mixed sample"}


def report(results: Mapping[str, Any]) -> Report:
    """Return the report of results of the study."""
    found, recipe = results["found"], results["recipe"]
    quick = ["**A `--quick` run on made-up data: the numbers mean nothing.**"] if results.get("quick") else []
    task, targets = recipe["task_language"], list(found["chosen"])
    seeds = ", ".join(map(str, recipe["seeds"]))
    summary = [
        *quick,
        "*MLM: Multi-linguistic LoRA Merging* on the sentiment of real tweets, with all-MiniLM-L6-v2 and one frozen "
        f"head: a task adapter trained on {task}, language adapters ({', '.join(targets)}) trained beside it while "
        "it is frozen and takes part, their merge, and its alignment; against the paper's baselines.",
        "The paper trains Llama 3.2 on multiple-choice questions; this is a sentence encoder of 23 million "
        "parameters, one task, two target languages. It says whether the paper's order of methods shows here, and "
        f"nothing about its numbers. Seeds: {seeds}; intervals are 95 % over test rows (bootstrap)"
        + (", not over trainings." if len(recipe["seeds"]) == 1 else ", of the mean over the seeds."),
    ]
    sections = [
        Section("What repeats", [RULE, Findings(list(findings(found, task)))]),
        *[_target(found, task, target) for target in targets],
        Section("Choice of initialisation and λ", [_choice(found)]),
        Section("Learned coefficients of CAT", [_coefficients(found)]),
        Section("Samples and adapters as languages are added", _accounting(found)),
        Section("Setting", [_setting(found, recipe)]),
    ]
    return Report("A task adapter and language adapters", summary, sections)


def _target(found: Mapping[str, Any], task: str, target: str) -> Section:
    rows = [row for row in found["rows"] if row["target"] == target]
    best = found["chosen"][target]["family"]
    cells = []
    for row in rows:
        one, other = row["scores"]["task"], row["scores"]["target"]
        name = label(row["family"])
        numbers = [text for score in (one, other) for text in (_with_error(score), _share(score["accuracy"]))]
        mean = _share((one["macro_f1"] + other["macro_f1"]) / 2)
        cells.append([f"{name} (chosen)" if row["family"] == best else name, *numbers, mean])
    table = Table(
        ["", f"{task} F1", f"{task} acc.", f"{target} F1", f"{target} acc.", "mean F1"],
        cells,
        f"Macro F1 ± bootstrap standard error and accuracy on the test rows, adapters for {task} and {target}. "
        "CAT, MLM and the merges rest on the same task adapter.",
        best=(1, 3, 5),
    )
    drawing = Figure(
        f"scores-{target}",
        f"Macro F1 on {task} and {target}; bars are 95 % intervals over test rows.",
        lambda: scores_by_row(rows, task, target),
    )
    return Section(f"{task.upper()}-{target.upper()}", [table, drawing])


def _choice(found: Mapping[str, Any]) -> Table:
    targets = list(found["chosen"])
    families = list(found["chosen"][targets[0]]["validation"])
    cells = [
        [label(family), *(_share(found["chosen"][target]["validation"][family]) for target in targets)]
        for family in families
    ]
    return Table(
        ["aligned merge", *targets],
        cells,
        "Mean macro F1 of both languages on the validation rows, by which initialisation and λ were chosen (the paper "
        "calls the initialisation a hyperparameter and does not say how it chose).",
        best=tuple(range(1, len(targets) + 1)),
    )


def _coefficients(found: Mapping[str, Any]) -> str | Table:
    if not found["coefficients"]:
        return "The recipe trains no CAT."
    cells = [
        [
            f"{label(one['family'])}, {one['target']}",
            str(one["seed"]),
            each["adapter"],
            f"{each['mean']:.3f}",
            f"{each['low']:.3f} to {each['high']:.3f}",
        ]
        for one in found["coefficients"]
        for each in one["adapters"]
    ]
    modules = found["coefficients"][0]["adapters"][0]["modules"]
    return Table(
        ["", "seed", "adapter", "mean", "range"],
        cells,
        f"Mean and range over {modules} modules, one coefficient for each module and adapter; all begin at .5. Of "
        "softmax the two of a module add up to 1, free ones need not.",
    )


def _accounting(found: Mapping[str, Any]) -> list[str | Table | Figure]:
    account = found["accounting"]
    cells = []
    for way, totals in account["ways"].items():
        cells.append([_WAYS[way], *(f"{one['samples_seen']:,.0f}" for one in totals)])
        cells.append(["  core-minutes", *(f"{one['device_seconds'] / 60:.1f}" for one in totals)])
        cells.append(["  adapters kept", *(str(one["adapters"]) for one in totals)])
    table = Table(
        ["target languages", *(str(count) for count in account["counts"])],
        cells,
        "Samples seen in training (rows × epochs), training time and adapters to keep. Counts for languages beyond "
        "those trained here are multiples of the mean of one.",
    )
    drawing = Figure(
        "samples", "Samples seen in training as target languages are added.", lambda: growth(account)
    )
    return [table, drawing]


def _setting(found: Mapping[str, Any], recipe: Mapping[str, Any]) -> str:
    adapter, training, epochs = recipe["adapter"], recipe["training"], recipe["epochs"]
    rows = ", ".join(f"{code} {count}" for code, count in found["test_rows"].items())
    seconds = sum(one["device_seconds"] or 0 for one in found["training"].values())
    return (
        f"LoRA rank {adapter['rank']}, α {adapter['alpha']:g}, dropout {adapter['dropout']:g} on query, key, value and "
        f"both feed-forward layers (the paper's targets); batch {training['batch_size']}, learning rate "
        f"{training['learning_rate']:g} (no grid was run here), {training['schedule']} schedule; task adapter, "
        f"single-language and mixed training {epochs['task']} epochs, language adapters {epochs['language']}, "
        f"alignment {epochs['alignment']} on {recipe['sample']:.0%} of each language's rows; CAT "
        f"{epochs['mixture']} on the same share, learning rate {recipe['mixture_learning_rate']:g} (ours). `zero` is "
        "B = 0 with Kaiming A: the literal A = B = 0 has no gradient and never learns. `random` draws A and B with "
        f"σ = {recipe['sigma']:g} (the paper gives none). TIES keeps {recipe['ties_density']:g} (ours), DARE "
        f"{recipe['dare_density']:g} of each update. Splits are the data's own; test rows: {rows}. Few-shot prompting "
        f"has no counterpart in an encoder. All trainings together took {seconds / 60:.0f} minutes of one core."
    )


def _with_error(score: Mapping[str, Any]) -> str:
    return f"{_share(score['macro_f1'])} ± {_share(score['standard_error'])}"


def _share(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")
