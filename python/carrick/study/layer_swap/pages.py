"""The report of the study, from its numbers alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carrick.study.layer_swap.drawings import freeze_and_reset, german_math, predictions
from carrick.study.layer_swap.findings import findings, percent
from carrick.study.layer_swap.wording import LABELS, label
from carrick.study.report import Figure, Findings, Report, Section, Table
from carrick.study.verdicts import RULE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SETS = {
    "german_math": "German math",
    "mgsm_de": "MGSM de",
    "msvamp_de": "MSVAMP de",
    "math_en": "MGSM en",
    "general_de": "general de",
}


def report(results: Mapping[str, Any]) -> Report:
    """Return the report of results of the study."""
    found, recipe = results["found"], results["recipe"]
    quick = ["**A `--quick` run on made-up data: the numbers mean nothing.**"] if results.get("quick") else []
    toy, corpora = recipe["toy"], found["corpora"]
    summary = [
        *quick,
        "Layer swapping and its rivals of *The Unreasonable Effectiveness of Model Merging for Cross-Lingual "
        f"Transfer in LLMs*, on a Llama of {toy['layers']} layers and {corpora['parameters'] / 1e6:.1f} million "
        "parameters that the study makes and pretrains itself. A math expert (GSM8K, English) and a German expert "
        "are combined; what is measured is how well German math texts are predicted.",
        "**This is a toy.** It cannot solve a word problem, so there is no MGSM accuracy here; perplexities tell its "
        "variants apart and can be compared with no other model's. The numbers exercise every code path and say "
        "whether the paper's order of methods shows in a small language model's loss; they prove nothing about 8B "
        f"models. Seeds: {', '.join(map(str, recipe['seeds']))}; intervals are 95 % over texts (bootstrap), not over "
        "trainings.",
    ]
    sections = [
        Section("What repeats", [RULE, Findings(list(findings(found)))]),
        Section("Every model", _every_model(found)),
        Section("Best of A, B, C", [_chosen(found)]),
        Section("Freeze against train, then reset", _freeze(found)),
        Section("Steps between switches", [_switches(found)]),
        *_dynamics(found, recipe),
        Section("Merge indicators", _indicators(found)),
        Section("Corpora and training", _setting(found, recipe)),
    ]
    return Report("Layer swapping on a small language model", summary, sections)


def _every_model(found: Mapping[str, Any]) -> list[str | Table | Figure]:
    parts: list[str | Table | Figure] = [
        "Perplexity per token, lower is better; all models share one tokenizer. German math is MSVAMP's second half "
        "and MGSM in German, together and apart."
    ]
    for kind, title in (("full", "Full fine-tuning"), ("lora", "LoRA")):
        rows = [row for row in found["rows"] if row["kind"] in {"base", kind}]
        if len(rows) > 1:
            parts.append(_perplexities(rows, f"{title}. German math with its 95 % interval over texts."))
            parts.append(
                Figure(
                    f"german-math-{kind}",
                    f"{title}: perplexity on German math, lower is better.",
                    lambda rows=rows: german_math(rows),  # type: ignore[misc]
                )
            )
    parts.append(_bits(found["rows"]))
    return parts


def _perplexities(rows: Sequence[Mapping[str, Any]], caption: str) -> Table:
    cells = []
    for row in rows:
        scores = row["scores"]
        main = scores["german_math"]
        line = [label(row), f"{main['perplexity']:.1f} [{main['low']:.1f}, {main['high']:.1f}]"]
        line += [f"{scores[test]['perplexity']:.1f}" for test in list(_SETS)[1:]]
        cells.append(line)
    return Table(["model", *_SETS.values()], cells, caption)


def _bits(rows: Sequence[Mapping[str, Any]]) -> Table:
    shown = [row for row in rows if row["family"] in LABELS and row["partition"] in {None, "B"}]
    cells = [
        [row["kind"] if row["kind"] != "base" else "", label(row)]
        + [f"{row['scores'][test]['bits_per_byte']:.3f}" for test in _SETS]
        for row in shown
    ]
    return Table(
        ["", "model", *_SETS.values()],
        cells,
        "Bits per byte, which does not depend on the tokenizer; of the partitions B alone.",
    )


def _chosen(found: Mapping[str, Any]) -> Table:
    by_key = {row["row"]: row for row in found["rows"]}
    cells = []
    for kind, best in found["chosen"].items():
        for key in best.values():
            row = by_key[key]
            selection, test = (row["scores"][name]["perplexity"] for name in ("selection", "german_math"))
            cells.append([kind, label(row), f"{selection:.1f}", f"{test:.1f}"])
    return Table(
        ["", "chosen", "selection", "German math"],
        cells,
        "The partition of each family with the lowest perplexity on the selection texts, MSVAMP's first half in "
        "German, which are in no test. Z is a control and never chosen.",
    )


def _freeze(found: Mapping[str, Any]) -> list[str | Table | Figure]:
    by_key = {row["row"]: row for row in found["rows"]}
    cells = []
    for kind in found["chosen"]:
        whole = by_key[f"{kind}/math"]["scores"]["math_en"]["perplexity"]
        for p in "ABCZ":
            frozen, reset = (
                by_key[f"{kind}/{way}/{p}"]["scores"]["math_en"]["perplexity"]
                for way in ("math_partial", "reset")
            )
            change = percent(found["comparisons"][f"{kind}: reset against freeze {p}"])
            cells.append([kind, p, f"{frozen:.1f}", f"{reset:.1f}", change, f"{whole:.1f}"])
    table = Table(
        ["", "partition", "frozen during", "reset after", "change", "nothing frozen"],
        cells,
        "The math expert on English math (MGSM en), perplexity: the language's share of the partition is frozen "
        "during training, or put back to the base after it; the change from the first to the second with its paired "
        "95 % interval. The paper's Table 2 gives accuracies, higher is better.",
    )
    drawing = Figure(
        "freeze-and-reset",
        "Freeze against reset of the math expert on English math. The dashed line is the expert with nothing frozen, "
        "the dotted one the base.",
        lambda: freeze_and_reset(found),
    )
    return [table, drawing]


def _switches(found: Mapping[str, Any]) -> Table:
    rows = [row for row in found["rows"] if row["family"] == "simultaneous"]
    cells = [
        [row["kind"], row["partition"], str(row["steps_per_switch"])]
        + [f"{row['scores'][test]['perplexity']:.1f}" for test in ("german_math", "math_en", "general_de")]
        for row in rows
    ]
    return Table(
        ["", "partition", "steps per switch", "German math", "MGSM en", "general de"],
        cells,
        "Simultaneous partition SFT: the number of gradient steps between two switches, perplexity.",
    )


def _dynamics(found: Mapping[str, Any], recipe: Mapping[str, Any]) -> list[Section]:
    """Return whether simultaneous training itself falls or rises, and what lower learning rates do to it."""
    if not found.get("turns"):  # results of before these were kept
        return []
    by_key = {row["row"]: row for row in found["rows"]}
    rates = {"full": recipe["sft"]["learning_rate"], "lora": recipe["lora"]["learning_rate"]}
    cells = []
    for turn in found["turns"]:
        row = by_key[turn["row"]]
        cells.append(
            [
                row["kind"],
                row["partition"],
                str(row["steps_per_switch"]),
                f"{rates[row['kind']] * row['rate_factor']:g}",
                *(f"{turn[side][0]:.2f} → {turn[side][1]:.2f}" for side in ("math", "german")),
                f"{row['scores']['german_math']['perplexity']:.1f}",
                percent(found["comparisons"][f"{turn['row']} against base"]),
            ]
        )
    table = Table(
        ["", "partition", "k", "rate", "math loss", "German loss", "German math", "against the base"],
        cells,
        "Simultaneous training at k steps a switch and several learning rates. Training loss on each side's own rows, "
        "in nats a token: means of the first and of the last fifth of its steps, whose rows differ but are the same "
        "in every line; a training that is too long to keep the loss of every step has none. Perplexity on German "
        "math, and its change from the base's with the paired 95 % interval.",
    )
    return [Section("Simultaneous training and its learning rate", [table])]


def _indicators(found: Mapping[str, Any]) -> list[str | Table | Figure]:
    cells = []
    for group, signals in found["indicators"]["correlations"].items():
        for signal, value in signals.items():
            expert, test = signal.split("/")
            numbers = ["–" if value[k] is None else f"{value[k]:.2f}" for k in ("pearson", "spearman")]
            cells.append([group, expert, _SETS[test], *numbers, str(value["points"]), str(value["values"])])
    table = Table(
        ["runs", "expert", "its own score on", "Pearson", "Spearman", "merges", "experts"],
        cells,
        "Correlation of an expert's own loss with the loss of the merge on German math, over all layer swaps of A, B "
        "and C. Many merges share an expert, so the points are not independent and no interval is given; over all "
        "runs the difference between full fine-tuning and LoRA is part of it; within a kind each kind's mean is taken "
        "away first, and the verdict above rests on that.",
    )
    drawing = Figure(
        "merge-indicators",
        "Loss of the merge on German math over each expert's own loss, in nats per token.",
        lambda: predictions(found["indicators"]["points"]),
    )
    return [table, drawing]


def _setting(found: Mapping[str, Any], recipe: Mapping[str, Any]) -> list[str | Table | Figure]:
    corpora = found["corpora"]
    counts = corpora["counts"]
    cells = [
        [name, *(f"{count.get(k, 0):,}" for k in ("texts", "rows", "tokens"))]
        for name, count in counts.items()
    ]
    dropped = corpora["texts_with_a_test_problem"]
    sft, lora, base = recipe["sft"], recipe["lora"], recipe["pretraining"]
    seconds = sum(one["seconds"] for one in found["training"].values())
    text = (
        f"Vocabulary {corpora['vocabulary']:,} (byte-level BPE, digits apart). The base: {base['steps']:,} steps of "
        f"{base['batch_size']} rows, learning rate {base['learning_rate']:g}. Each expert: {sft['steps']} steps of "
        f"{sft['batch_size']} rows of at most {recipe['toy']['row_tokens']} tokens; models trained on both corpora "
        f"take twice the steps. Learning rate {sft['learning_rate']:g} in full, {lora['learning_rate']:g} for LoRA "
        f"(rank {lora['rank']}, α {lora['alpha']}, rank-stabilised, all linear layers); constant with warm-up, "
        f"gradients clipped at {sft['clip_norm']:g}. The paper's learning rates, rank and clip norm are not "
        "stated in the text that was used, and its sizes are too large for this model: these are ours. All rows are "
        "trained on whole (no prompt is masked), since German solutions to score do not exist in the data. "
        f"All trainings together took {seconds / 60:.0f} minutes of one core each."
    )
    check = (
        f"Kept out of all training and of the tokenizer: {corpora['test_problems']:,} problems of GSM8K's test, MGSM "
        "and MSVAMP. Training texts that hold one, compared by words whatever their case and punctuation, were "
        f"looked for and taken out: {sum(dropped.values())} were found; after that a second search has to find none, "
        "or the study stops."
    )
    return [
        text,
        check,
        Table(["corpus or test", "texts", "rows", "tokens"], cells, "Rows are packed texts."),
    ]
