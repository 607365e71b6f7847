"""Element types of the output, and what may be merged with what.

The output has the donor's element types, tensor by tensor, unless `out_dtype` or `dtype` says otherwise.
Arithmetic is always float32 (float64 for F64 inputs), so `dtype` never lowers its precision: alone, it is
the output's type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from carrick.checkpoints.element_types import is_float
from carrick.checkpoints.layers import locate
from carrick.errors import PlanError
from carrick.plan.vocabulary import RESIZE_FIRST

if TYPE_CHECKING:
    from carrick.checkpoints.checkpoint import Checkpoint
    from carrick.plan.lineup import Model
    from carrick.plan.match import Target


class OutputTypes:
    """Decides the element type of each output tensor."""

    def __init__(self, donor: Checkpoint, stated: str | None) -> None:
        self._donor = donor
        self._stated = stated
        self._by_suffix: dict[str, str] = {}
        for name, tensor in donor.tensors.items():
            place = locate(name)
            if place is not None:
                self._by_suffix.setdefault(place.suffix, tensor.dtype)
        self.main = stated or main_float(donor)

    def of(self, target: Target) -> str:
        """Element type of an output tensor: integers keep theirs, floats have the stated or the donor's."""
        own = target.tensors[0].dtype
        if not is_float(own):
            return own
        if self._stated is not None:
            return self._stated
        if target.copied_from is not None:
            return own
        found = self._of_donor(target)
        return found if is_float(found) else own

    def _of_donor(self, target: Target) -> str:
        for name in (target.name, *target.names):
            held = self._donor.tensors.get(name)
            if held is not None:
                return held.dtype
        place = locate(target.name)
        if place is not None and place.suffix in self._by_suffix:
            return self._by_suffix[place.suffix]
        return self.main or target.tensors[0].dtype

    def describe(self, written: str | None) -> dict[str, str | None]:
        """Say what was decided and by whom; `written` is the key that says so, if one does."""
        source = f"`{written}`" if written else self._donor.ref
        return {"output": self.main, "from": source}


def main_float(checkpoint: Checkpoint) -> str | None:
    """Find the floating-point type that holds the most bytes of a checkpoint, None without any."""
    sizes = dtype_bytes(checkpoint)
    floats = {dtype: size for dtype, size in sizes.items() if is_float(dtype)}
    return max(floats, key=lambda d: floats[d]) if floats else None


def dtype_bytes(checkpoint: Checkpoint) -> dict[str, int]:
    """Bytes of a checkpoint by element type, in order of appearance."""
    sizes: dict[str, int] = {}
    for tensor in checkpoint.tensors.values():
        sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.nbytes
    return sizes


def check_alike(target: Target) -> None:
    """Refuse inputs that cannot be merged: other shapes, floats with integers, integers of other widths.

    Raises
    ------
    PlanError
        Names the tensor, both shapes or types, and both files.
    """
    tensors = target.tensors
    first = tensors[0]
    shape, dtype = first.shape, first.dtype
    for number in range(1, len(tensors)):
        other = tensors[number]
        if other.shape != shape:
            raise PlanError(_shape_message(target, number))
        if other.dtype != dtype and not (is_float(other.dtype) and is_float(dtype)):
            mixed = is_float(other.dtype) != is_float(dtype)
            why = (
                "numbers with a fraction and without cannot be merged"
                if mixed
                else "these types must be equal"
            )
            raise PlanError(
                f"tensor {target.name!r} is {dtype} in {_file(target, 0)} and {other.dtype} in "
                f"{_file(target, number)}; {why}"
            )


def _shape_message(target: Target, number: int) -> str:
    a, b = target.tensors[0].shape, target.tensors[number].shape
    message = (
        f"tensor {target.name!r} has the shape {list(a)} in {_file(target, 0)} and {list(b)} in "
        f"{_file(target, number)}"
    )
    # Only a vocabulary differs in the first dimension of a matrix as large as an embedding outside the
    # layers.
    vocabulary = len(a) == len(b) == 2 and a[1] == b[1] and locate(target.name) is None
    models = [target.lineup.everyone[place] for place in (0, number)]
    resized = next((model for model in models if model.resized is not None), None)
    if vocabulary and resized is not None:
        return (
            f"{message}: the vocabulary of {resized.ref} was resized before the training; {_remedy(resized)}"
        )
    if vocabulary:
        return (
            f"{message}: the vocabularies differ, and a union of tokenizers is not supported yet; resize "
            f"one model's "
            "embeddings to the other's"
        )
    return f"{message}; only models of one architecture and size can be merged"


def _remedy(model: Model) -> str:
    """Say how a base gets the vocabulary that an adapter on it was trained with."""
    if model.resized is None or not model.resized.untrained:
        return RESIZE_FIRST
    return (
        f"`carrick adapters apply {model.origin.ref} {model.resized.adapter}:0 -o RESIZED` writes the base as it was "
        "then; name that in the base's place"
    )


def _file(target: Target, number: int) -> str:
    model: Model = target.copied_from or target.lineup.everyone[number]
    return model.checkpoint.file_of(target.names[number])
