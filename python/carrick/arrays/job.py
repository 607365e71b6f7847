"""From a call to a job of the engine: options completed from the method table, arrays lined up."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from carrick import _core, methods
from carrick.arrays.buffers import Array, Buffer, empty_like, read
from carrick.errors import PlanError
from carrick.finite import is_finite
from carrick.suggestions import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carrick.methods import Method, Parameter, Value


def spread(value: float | Sequence[float] | None, count: int, name: str, default: float = 1.0) -> list[float]:
    """Return one number for each of `count` arrays from a number, a sequence, or None for `default`.

    Raises
    ------
    PlanError
        A sequence of another length.
    """
    if value is None:
        return [default] * count
    if isinstance(value, int | float):
        return [float(value)] * count
    numbers = [float(number) for number in value]
    if len(numbers) != count:
        raise PlanError(f"{name} has {len(numbers)} values for {count} arrays")
    return numbers


def _check(method: Method, parameter: Parameter, value: Value) -> Value:
    if parameter.type == "choice":
        value = str(value).lower() if isinstance(value, bool) else value
        fits = value in (parameter.choices or ())
    elif parameter.type == "bool":
        fits = isinstance(value, bool)
    else:
        fits = is_finite(value)
        fits = fits and (parameter.min is None or float(value) >= parameter.min)
        fits = fits and (parameter.max is None or float(value) <= parameter.max)
        value = float(value) if fits else value
    if not fits:
        raise PlanError(f"{method.name}: {parameter.name} cannot be {value!r}; it is {parameter.span}")
    return value


def complete(method: Method, options: Mapping[str, Value | None], variant: str | None) -> dict[str, Value]:
    """Return every option that is not per model: given, else the variant's, else the table's default."""
    values: dict[str, Value] = {}
    known = {parameter.name: parameter for parameter in method.scoped("global", "merge")}
    for name in options:
        if name not in known:
            raise PlanError(f"{method.name} has no option `{name}`{nearest(name, known)}")
    chosen: dict[str, Value] = {}
    if variant is not None:
        row = method.variant(variant)
        if row is None:
            names = [row.name for row in method.variants]
            raise PlanError(f"{method.name} has no variant `{variant}`{nearest(variant, names)}")
        chosen = dict(row.options)
    for name, parameter in known.items():
        given = options.get(name)
        value = given if given is not None else chosen.get(name, parameter.default)
        if value is None:
            raise PlanError(f"{method.name} needs `{name}`")
        values[name] = _check(method, parameter, value)
    return values


def run(
    name: str,
    options: Mapping[str, object],
    base: Array | None,
    arrays: Sequence[Array],
    per_model: Mapping[str, Sequence[float]],
    *,
    seed: int = 0,
    index: int = 0,
    tensor: str = "",
    threads: int | None = None,
) -> Array:
    """Run one job and return the result, of the type and element type of the base or of the first array.

    `index` is the first array's place in the list of models, for the masks.

    Raises
    ------
    PlanError
        No arrays, unequal shapes, a type without arithmetic, or a value out of range.
    """
    if not len(arrays):
        raise PlanError(f"{name} needs at least one array")
    buffers: list[Buffer] = [] if base is None else [read(base, "the base")]
    buffers += [read(array, f"array {place}") for place, array in enumerate(arrays)]
    shape = buffers[0].shape
    for place, buffer in enumerate(buffers):
        if buffer.shape != shape:
            raise PlanError(
                f"{name}: array {place} has the shape {list(buffer.shape)}, the first one {list(shape)}"
            )
    skip = len(buffers) - len(arrays)
    inputs: list[dict[str, object]] = [
        {"file": file, "offset": 0, "dtype": buffer.dtype, "base": file < skip}
        for file, buffer in enumerate(buffers)
    ]
    for place, entry in enumerate(inputs[skip:]):
        entry |= {
            "index": index + place,
            "parameters": {key: values[place] for key, values in per_model.items()},
        }
    job = {
        "name": tensor,
        "shape": list(shape),
        "dtype": buffers[0].dtype,
        "shard": 0,
        "offset": 0,
        "method": {"name": name, "options": dict(options)},
        "inputs": inputs,
    }
    output = empty_like(arrays[0] if base is None else base)
    count = threads or _default_threads()
    _core.merge_arrays(json.dumps(job), [buffer.bytes for buffer in buffers], output.bytes, seed, count)
    return output.array


def merge(
    name: str,
    arrays: Sequence[Array],
    base: Array | None,
    per_model: Mapping[str, float | Sequence[float] | None],
    options: Mapping[str, Value | None],
    *,
    variant: str | None = None,
    seed: int = 0,
    tensor: str = "",
    threads: int | None = None,
) -> Array:
    """Run a method of the table on arrays."""
    method = methods.load()[name]
    numbers: dict[str, list[float]] = {}
    for parameter in method.scoped("model"):
        default = parameter.default if isinstance(parameter.default, float) else 1.0
        values = spread(per_model.get(parameter.name), len(arrays), parameter.name, default)
        numbers[parameter.name] = [float(_check(method, parameter, value)) for value in values]
    resolved = complete(method, options, variant)
    return run(name, resolved, base, list(arrays), numbers, seed=seed, tensor=tensor, threads=threads)


def _default_threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
