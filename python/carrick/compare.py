"""Two checkpoints compared tensor by tensor: bytes first, then the distance of the values.

Both sides are streamed by the core, so checkpoints of any size compare in constant memory.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from carrick import _core
from carrick.checkpoints import Checkpoint, find

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Status = Literal["equal", "differs", "dtype", "shape", "only in A", "only in B"]


@dataclass(frozen=True)
class TensorComparison:
    """How one tensor of A relates to the tensor of the same name in B.

    Attributes
    ----------
    name
        The tensor's name.
    status
        ``equal`` (same type, shape and bytes), ``differs`` (values), ``dtype``, ``shape``, or where it is.
    a, b
        Type and shape on each side such as ``BF16 [4, 8]``; empty where the tensor is missing.
    max_abs, mean_abs
        Largest and mean |A - B| over the elements, computed in float64; None where nothing can be compared.
    nan
        Elements that are NaN on exactly one side; they count in no difference.
    """

    name: str
    status: Status
    a: str = ""
    b: str = ""
    max_abs: float | None = None
    mean_abs: float | None = None
    nan: int = 0


@dataclass(frozen=True)
class Comparison:
    """All tensors of two checkpoints, in A's order, then those that only B has."""

    tensors: list[TensorComparison] = field(default_factory=list)

    @property
    def same(self) -> bool:
        """Whether every tensor is on both sides with the same type, shape and bytes."""
        return all(tensor.status == "equal" for tensor in self.tensors)

    def count(self, status: Status) -> int:
        """Count the tensors with a status."""
        return sum(tensor.status == status for tensor in self.tensors)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"same": self.same, "tensors": [asdict(tensor) for tensor in self.tensors]}


def compare(
    a: str | Path,
    b: str | Path,
    *,
    download: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Comparison:
    """Compare two checkpoints.

    Parameters
    ----------
    a, b
        Model folders, safetensors files, or Hub ids that are in the local cache.
    download
        Fetch a Hub id that is not in the cache.
    progress
        Called before each tensor with its name, the bytes compared so far and the bytes in all.

    Returns
    -------
    Comparison
        One entry for each tensor name of either side.

    Raises
    ------
    FormatError
        When one of them cannot be found or is malformed.

    Examples
    --------
    >>> import numpy as np, pathlib, safetensors.numpy, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for name, last in [("a", 2.0), ("b", 2.5)]:
    ...     tensors = {"w": np.array([1.0, last], np.float32)}
    ...     safetensors.numpy.save_file(tensors, folder / f"{name}.safetensors")
    >>> found = compare(folder / "a.safetensors", folder / "b.safetensors").tensors[0]
    >>> found.status, found.max_abs, found.mean_abs
    ('differs', 0.5, 0.25)
    """
    left, right = (find(str(one), download=download) for one in (a, b))
    total, done = left.nbytes, 0
    found = []
    for name, tensor in left.tensors.items():
        if progress is not None:
            progress(name, done, total)
        found.append(_compare_tensor(name, left, right))
        done += tensor.nbytes
    found += [
        TensorComparison(name, "only in B", b=describe(right, name))
        for name in right.tensors
        if name not in left.tensors
    ]
    return Comparison(found)


def describe(checkpoint: Checkpoint, name: str) -> str:
    """Element type and shape of a tensor, such as ``BF16 [4, 8]``."""
    tensor = checkpoint.tensors[name]
    return f"{tensor.dtype} {list(tensor.shape)}"


def _compare_tensor(name: str, left: Checkpoint, right: Checkpoint) -> TensorComparison:
    if name not in right.tensors:
        return TensorComparison(name, "only in A", a=describe(left, name))
    a, b = left.tensors[name], right.tensors[name]
    sides = describe(left, name), describe(right, name)
    if a.shape != b.shape:
        return TensorComparison(name, "shape", *sides)
    distance = json.loads(
        _core.compare(left.file_of(name), a.begin, a.dtype, right.file_of(name), b.begin, b.dtype, a.elements)
    )
    status: Status = "dtype" if a.dtype != b.dtype else "equal" if distance["equal_bytes"] else "differs"
    return TensorComparison(name, status, *sides, distance["max_abs"], distance["mean_abs"], distance["nan"])
