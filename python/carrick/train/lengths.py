"""Rows against lengths: none beyond the base's positions, and none that is cut before its answer begins."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from carrick.errors import ConfigError
from carrick.positions import learnt_positions
from carrick.train.base import empty_model, load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carrick.train.job import Job
    from carrick.train.rows import Row, Rows

_NAMED = 3


def check_positions(job: Job) -> None:
    """Refuse rows that are longer than the base can compute.

    Raises
    ------
    ConfigError
        With its learnt positions a row that is within `max_length` would fail amid the training.
    """
    longest = job.recipe.training.max_length
    room = learnt_positions(empty_model(job.base, job.recipe.task))
    if room is None or room >= longest:
        return
    tokenizer = load_tokenizer(job.base, job.recipe.task)
    for rows in (job.rows, job.validation):
        for place, row in enumerate(rows.examples if rows is not None else ()):
            whole = job.recipe.task == "causal"
            ids = _whole(row, tokenizer, chat=job.recipe.chat) if whole else tokenizer(row.text)["input_ids"]
            if len(ids) > room and rows is not None:
                raise ConfigError(
                    f"{rows.place(place)}: the row has {len(ids)} tokens, and {job.base.name} has positions for "
                    f"{room}; write `max_length: {room}` under `training`, at which rows are cut"
                )


def leave_out_cut(job: Job) -> Job:
    """Return the job without the rows of which no token of the answer is left, and with a note that names them.

    Raises
    ------
    ConfigError
        No row is left to train on (of one source of simultaneous training), or for validation; or prompts are to go
        through a chat template that the tokenizer lacks.
    """
    if job.recipe.task != "causal":
        return job
    tokenizer = load_tokenizer(job.base, job.recipe.task)
    chat = job.recipe.chat
    if chat and tokenizer.chat_template is None:
        raise ConfigError(
            f"data.chat: the tokenizer of {job.base.name} has no chat template; leave `chat` out, or use a base that "
            "was trained on chats"
        )
    longest = job.recipe.training.max_length
    cut = cut_rows(job.rows, tokenizer, longest, chat=chat)
    blocks = {f"sources.{side}": places for side, places in job.streams.items()}
    for what, places in (blocks or {"data.train": range(len(job.rows))}).items():
        _refuse_nothing_left(job.rows, places, cut, longest, what)
    notes = [_note(job.rows, cut, longest, "rows")]
    validation = job.validation
    if validation is not None:
        unseen = cut_rows(validation, tokenizer, longest, chat=chat)
        _refuse_nothing_left(validation, range(len(validation)), unseen, longest, "data.validation")
        notes.append(_note(validation, unseen, longest, "rows for validation"))
        validation = _without(validation, unseen)
    return replace(
        job,
        rows=_without(job.rows, cut),
        validation=validation,
        streams=_renumbered(job.streams, cut),
        dropped=len(cut),
        notes=(*job.notes, *(note for note in notes if note)),
    )


def cut_rows(rows: Rows, tokenizer: Any, longest: int, *, chat: bool) -> dict[int, int]:
    """Find the rows whose prompt alone fills the length; a plain text has no prompt.

    Parameters
    ----------
    rows
        Prompts and answers, or plain texts.
    tokenizer
        Of the base.
    longest
        `max_length`.
    chat
        Whether prompts and answers go through the chat template.

    Returns
    -------
    dict
        Place of each such row, and the tokens of its prompt.
    """
    asked = [place for place, row in enumerate(rows.examples) if row.answer is not None]
    if not asked:
        return {}
    prompts = _prompts([rows.examples[place] for place in asked], tokenizer, chat=chat)
    found = {}
    for place, prompt in zip(asked, prompts, strict=True):
        if len(prompt) < longest:
            continue
        # A prompt's last tokens may merge with the answer's first, which trl takes for tokens of the answer.
        begins = _shared(prompt, _whole(rows.examples[place], tokenizer, chat=chat))
        if begins >= longest:
            found[place] = len(prompt)
    return found


def _prompts(rows: Sequence[Row], tokenizer: Any, *, chat: bool) -> list[list[int]]:
    if not chat:
        return tokenizer([row.text for row in rows])["input_ids"]  # type: ignore[no-any-return]
    asked = [[{"role": "user", "content": row.text}] for row in rows]
    return tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=True)["input_ids"]  # type: ignore[no-any-return]


def _whole(row: Row, tokenizer: Any, *, chat: bool) -> list[int]:
    if not chat or row.answer is None:
        return tokenizer(f"{row.text}{row.answer or ''}{tokenizer.eos_token}")["input_ids"]  # type: ignore[no-any-return]
    said = [{"role": "user", "content": row.text}, {"role": "assistant", "content": row.answer}]
    return tokenizer.apply_chat_template(said, return_dict=True)["input_ids"]  # type: ignore[no-any-return]


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Count the tokens that two begin with alike.

    Examples
    --------
    >>> _shared([5, 6, 7], [5, 6, 8, 9]), _shared([5, 6], [5, 6, 8])
    (2, 2)
    """
    pairs = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _refuse_nothing_left(
    rows: Rows, places: Sequence[int], cut: Mapping[int, int], longest: int, what: str
) -> None:
    if any(place not in cut for place in places):
        return
    shortest = min(places, key=lambda each: cut[each])
    others = "" if len(places) == 1 else f", the shortest of {len(places)}"
    place, tokens = rows.place(shortest), cut[shortest]
    raise ConfigError(
        f"{place}: the prompt has {tokens} tokens{others}, and `training.max_length` is {longest}: "
        f"no row of `{what}` has a token of its answer left; raise `max_length`, or shorten the prompts"
    )


def _note(rows: Rows, cut: Mapping[int, int], longest: int, what: str) -> str:
    if not cut:
        return ""
    named = [
        f"{rows.place(place)} (a prompt of {tokens} tokens)" for place, tokens in list(cut.items())[:_NAMED]
    ]
    more = [f"{len(cut) - _NAMED} more"] if len(cut) > _NAMED else []
    verb = "has" if len(cut) == 1 else "have"
    return (
        f"{len(cut)} of {len(rows)} {what} {verb} no token of the answer within `max_length` ({longest}) and "
        f"{'was' if len(cut) == 1 else 'were'} left out: {', '.join([*named, *more])}; raise it, or shorten the prompts"
    )


def _without(rows: Rows, cut: Mapping[int, int]) -> Rows:
    return rows.select(place for place in range(len(rows)) if place not in cut) if cut else rows


def _renumbered(streams: Mapping[str, range], cut: Mapping[int, int]) -> dict[str, range]:
    """Return where each stream's rows stand once those that are cut are gone."""
    found, start = {}, 0
    for side, places in streams.items():
        count = sum(place not in cut for place in places)
        found[side] = range(start, start + count)
        start += count
    return found
