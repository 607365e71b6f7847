"""Checkpoints beside their base: which tensors are compared, and the one pass over the files that does it."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from carrick import _core
from carrick.checkpoints import is_float
from carrick.errors import ConfigError, PlanError
from carrick.plan.quantized import refuse_quantized
from carrick.progress import listener
from carrick.similarity.sums import PairSums, symmetric
from carrick.suggestions import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from carrick.checkpoints import Checkpoint
    from carrick.progress import Progress


@dataclass
class Lineup:
    """The tensors that are compared, and why others are not."""

    names: list[str]
    notes: list[str] = field(default_factory=list)


def line_up(base: Checkpoint, models: Sequence[Checkpoint], exclude: Sequence[str] = ()) -> Lineup:
    """Find the float tensors that the base and all models hold, in the base's order.

    Parameters
    ----------
    base, models
        The checkpoints.
    exclude
        Regular expressions, searched in the names: tensors that are left out.

    Raises
    ------
    ConfigError
        A pattern is no regular expression, or misspells a name.
    PlanError
        Different shapes, a quantised checkpoint, or no tensor in common.
    """
    everyone = [base, *models]
    names = [name for checkpoint in everyone for name in checkpoint.tensors]
    patterns, idle = compile_patterns(exclude, dict.fromkeys(names), "tensor")
    for checkpoint in everyone:
        refuse_quantized(checkpoint)
    kept, excluded, partial, integers = [], [], [], []
    for name in dict.fromkeys(names):
        if any(pattern.search(name) for pattern in patterns):
            excluded.append(name)
        elif any(name not in checkpoint.tensors for checkpoint in everyone):
            partial.append(name)
        elif not all(is_float(checkpoint.tensors[name].dtype) for checkpoint in everyone):
            integers.append(name)
        else:
            _require_one_shape(name, everyone)
            kept.append(name)
    if not kept:
        raise PlanError(
            f"no floating-point tensor is in {base.ref} and in every model"
            + (f" (not in all: {partial[0]})" if partial else "")
            + "; give models that were trained from this base"
        )
    notes = [
        _left_out(names, why)
        for names, why in (
            (partial, "not in every model"),
            (integers, "not floating-point numbers"),
            (excluded, "excluded"),
        )
        if names
    ]
    return Lineup(kept, [*notes, *idle])


def compile_patterns(
    exclude: Sequence[str], names: Collection[str], what: str
) -> tuple[list[re.Pattern[str]], list[str]]:
    """Compile the patterns of what is left out; return notes about those that leave nothing out, too.

    Raises
    ------
    ConfigError
        One is no regular expression, or misspells a name.
    """
    patterns = [_compile(pattern, names, what) for pattern in exclude]
    idle = [each.pattern for each in patterns if not any(each.search(name) for name in names)]
    # Not every model has a head of its own, which one command line for several models may leave out.
    return patterns, [
        f"exclude: {each!r} is in the name of no {what} and leaves nothing out." for each in idle
    ]


def _compile(pattern: str, names: Collection[str], what: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"exclude: {pattern!r} is no regular expression ({error})") from error
    if not any(compiled.search(name) for name in names):
        near = nearest(pattern, dict.fromkeys(part for name in names for part in name.split(".")))
        if near:
            raise ConfigError(f"exclude: {pattern!r} is found in the name of no {what}{near}")
    return compiled


def _left_out(names: Sequence[str], why: str) -> str:
    shown = ", ".join(names[:2]) + (", …" if len(names) > 2 else "")
    return f"left out, {why}: {len(names)} tensor{'' if len(names) == 1 else 's'} ({shown})"


def _require_one_shape(name: str, everyone: Sequence[Checkpoint]) -> None:
    base = everyone[0]
    for model in everyone[1:]:
        if model.tensors[name].shape != base.tensors[name].shape:
            raise PlanError(
                f"{model.file_of(name)}: tensor {name!r} has the shape {list(model.tensors[name].shape)}, and "
                f"{list(base.tensors[name].shape)} in {base.file_of(name)}; only equal shapes can be compared: "
                "leave it out with --exclude"
            )


def measure(
    base: Checkpoint,
    models: Sequence[Checkpoint],
    names: Sequence[str],
    options: dict[str, Any],
    progress: Callable[[Progress], None] | None,
) -> dict[str, PairSums]:
    """Take the sums of every tensor in one pass over the files.

    Parameters
    ----------
    base, models, names
        What `line_up` was given and what it found.
    options
        The engine's: `memory`, `threads`, `tile`.
    progress
        Called about ten times a second.
    """
    everyone = [base, *models]
    starts = [sum(len(earlier.files) for earlier in everyone[:place]) for place in range(len(everyone))]
    tensors = [
        {
            "name": name,
            "elements": base.tensors[name].elements,
            "inputs": [
                _place(checkpoint, name, start) for checkpoint, start in zip(everyone, starts, strict=True)
            ],
        }
        for name in names
    ]
    files = [asdict(record) for checkpoint in everyone for record in checkpoint.files]
    request = json.dumps({"files": files, "tensors": tensors})
    report = json.loads(_core.similarity(request, json.dumps(options), listener(progress)))
    found = zip(names, report["tensors"], strict=True)
    return {name: _sums(base.tensors[name].elements, len(models), sums) for name, sums in found}


def _place(checkpoint: Checkpoint, name: str, start: int) -> dict[str, Any]:
    tensor = checkpoint.tensors[name]
    return {"file": start + tensor.file, "offset": tensor.begin, "dtype": tensor.dtype}


def _sums(elements: int, models: int, sums: dict[str, Any]) -> PairSums:
    return PairSums(
        elements,
        symmetric(sums["products"], models, diagonal=True, fill=0.0),
        symmetric(sums["shared"], models, diagonal=False, fill=0),
        symmetric(sums["conflicts"], models, diagonal=False, fill=0),
    )
