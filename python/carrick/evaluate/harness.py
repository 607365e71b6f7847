"""Tasks run by lm-evaluation-harness: the YAML file, the rows, the model, and the scores of every row."""

from __future__ import annotations

import logging
import math
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carrick.errors import ConfigError
from carrick.evaluate.aggregate import aggregate
from carrick.evaluate.not_numbers import not_numbers
from carrick.evaluate.report import TaskResult
from carrick.evaluate.tasks.catalogue import yaml_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carrick.evaluate.settings import Settings
    from carrick.evaluate.tasks.family import Family, Splits


@dataclass(frozen=True)
class Prepared:
    """One task in one language whose rows are read and checked."""

    family: Family
    language: str
    rows: Splits
    shots: int
    config: dict[str, Any]


def prepare(family: Family, language: str, rows: Splits, shots: int | None) -> Prepared:
    """Join a task's YAML file and its rows.

    Parameters
    ----------
    family, language, rows
        The task, the language, and its rows.
    shots
        Worked examples before each row; None takes what the YAML file says.

    Raises
    ------
    ConfigError
        More shots than there are.
    """
    from lm_eval.tasks._yaml_loader import load_yaml  # noqa: PLC0415  (an extra)

    config: dict[str, Any] = dict(load_yaml(yaml_file(family.name), resolve_func=True))
    wanted = int(config.get("num_fewshot", 0)) if shots is None else shots
    # Rows of the test split are shots for each other where the YAML file says so and there are no others.
    source = "shots" if rows.get("shots") else config.get("fewshot_split")
    there = len(rows.get(source, [])) - (source == "test") if source else 0
    if wanted > there:
        raise ConfigError(
            f"the task {family.name} is asked with {wanted} worked examples in front, but for `{language}` there "
            f"are {max(there, 0)}; choose fewer with --shots, 0 for none"
        )
    config["task"] = f"{family.name}_{language}"
    config["num_fewshot"] = wanted
    config["metadata"] = {"version": (config.get("metadata") or {}).get("version", 1)}
    config["fewshot_split"] = source if wanted else None
    config["fewshot_config"] = config.get("fewshot_config") if wanted else None
    return Prepared(family, language, rows, wanted, config)


def wrap(model: Any, tokenizer: Any, batch_size: int, max_length: int | None) -> Any:
    """Return the harness's view of a loaded model (a PeftModel with several active adapters included)."""
    from carrick.evaluate.harness_model import LoadedModel  # noqa: PLC0415  (it imports the harness)

    with quiet():
        return LoadedModel(
            pretrained=model,
            tokenizer=tokenizer,
            batch_size=batch_size,
            max_length=max_length,
            device=str(model.device),
        )


def run(lm: Any, task: Prepared, settings: Settings) -> tuple[TaskResult, list[str]]:
    """Run one task in one language.

    Returns
    -------
    tuple
        The result, and remarks.
    """
    from datasets import Dataset  # noqa: PLC0415  (an extra)
    from lm_eval.api.task import ConfigurableTask  # noqa: PLC0415
    from lm_eval.evaluator import evaluate as harness_evaluate  # noqa: PLC0415

    config = dict(task.config)
    splits = {name: Dataset.from_list(rows) for name, rows in task.rows.items() if rows}
    config["custom_dataset"] = lambda **_: splits
    notes = _shots_that_are_asked(config) + _fit_length(config, lm, settings.max_new_tokens)
    with quiet():
        # Not simple_evaluate, which lists the installed packages by a subprocess each time (0.8 s). Nothing is
        # random: shots are the first rows, answers are greedy.
        answered = harness_evaluate(
            lm,
            {"tasks": {config["task"]: ConfigurableTask(config=config)}},
            limit=settings.limit,
            bootstrap_iters=0,
            apply_chat_template=settings.chat,
            fewshot_as_multiturn=settings.chat,
        )
    samples = answered["samples"][config["task"]]
    notes += _cut_prompts(samples, config, lm)
    notes += not_numbers(config["task"], sum(map(_has_nan, samples)), len(samples))
    result = TaskResult(
        task=task.family.name,
        language=task.language,
        metric=task.family.metric,
        rows=len(samples),
        shots=task.shots,
        scores=aggregate(samples, config["metric_list"], task.family.classes, settings.seed),
        samples=tuple(_record(sample) for sample in samples),
    )
    return result, notes


def _shots_that_are_asked(config: dict[str, Any]) -> list[str]:
    """Say that worked examples are test rows, whose answers the model sees before other test rows."""
    if config["fewshot_split"] != config["test_split"]:
        return []
    return [
        f"{config['task']}: the worked examples ({config['num_fewshot']}) are the first test rows but the one that is "
        "asked, for there are no other rows; they are scored as well"
    ]


def _fit_length(config: dict[str, Any], lm: Any, max_new_tokens: int | None) -> list[str]:
    """Set how long answers may be, and leave at least half of the model's context to the question."""
    if config["output_type"] != "generate_until":
        return []
    settings = dict(config["generation_kwargs"])
    wanted = max_new_tokens or int(settings["max_gen_toks"])
    room = getattr(lm, "max_length", None)
    allowed = wanted if room is None else min(wanted, int(room) // 2)
    config["generation_kwargs"] = {**settings, "max_gen_toks": allowed}
    if allowed == wanted:
        return []
    return [
        f"{config['task']}: answers are cut at {allowed} tokens and not at {wanted}, for the model sees {room} in all"
    ]


def _cut_prompts(samples: list[dict[str, Any]], config: dict[str, Any], lm: Any) -> list[str]:
    """Count the rows whose prompts are longer than the model sees: the harness cuts their beginning."""
    if getattr(lm, "backend", None) != "causal":
        return []
    room = int(lm.max_length)
    if config["output_type"] == "generate_until":
        room -= int(config["generation_kwargs"]["max_gen_toks"])
        cut = [any(len(lm.tok_encode(prompt)) > room for prompt, _ in each["arguments"]) for each in samples]
    else:  # the last token of a choice is predicted, not seen
        cut = [
            any(len(lm.tok_encode(prompt + choice)) > room + 1 for prompt, choice in each["arguments"])
            for each in samples
        ]
    if not any(cut):
        return []
    return [
        f"{config['task']}: of {sum(cut)} of {len(cut)} rows the prompt is longer than the {room} tokens that the "
        "model has room for; its beginning was cut off"
    ]


def _has_nan(sample: dict[str, Any]) -> bool:
    """Whether a choice of the row has no likelihood."""
    answers = sample["filtered_resps"]
    return not isinstance(answers[0], str) and any(math.isnan(answer[0]) for answer in answers)


def _record(sample: dict[str, Any]) -> dict[str, Any]:
    """Keep of one row its number, the right answer, what was answered and the scores."""
    answers = sample["filtered_resps"]
    if isinstance(answers[0], str):
        answer: Any = answers[0]
    else:  # of each choice its log-likelihood
        answer = [float(answer[0]) for answer in answers]
    return {
        "row": int(sample["doc_id"]),
        "target": sample["target"],
        "answer": answer,
        "scores": {name: sample[name] for name in sample["metrics"]},
    }


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the harness's remarks (about a model that is loaded already, say) off stderr; errors stay."""
    log = logging.getLogger("lm_eval")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)
