"""Compare a merged checkpoint with the tests' oracles before a time of it is believed.

A sample of tensors is compared with float64 NumPy (tests/oracles), for TIES also stretches of the largest
tensor, whose threshold is found over all of it. Carrick has to lie within the oracle's bounds everywhere.
Other tools compute in another precision, break ties differently or draw other random numbers: of those, the
share of entries within two units of the format is recorded.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.oracles import breadcrumbs, consensus, dare, della, linear, model_stock, nuslerp, slerp, ties  # noqa: E402
from tests.oracles.estimate import Estimate, assert_matches  # noqa: E402
from tests.oracles.onto_base import onto_base  # noqa: E402
from tests.oracles.sparse import sparsify  # noqa: E402

Array = np.ndarray[Any, Any]
DTYPES: dict[str, Any] = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
RELATIVE_UNIT = {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
LARGEST_SAMPLE = 1 << 22
STRETCH = 1 << 16
PIECE = 1 << 22
AGREEMENT_UNITS = 2


class Checkpoint:
    """The tensors of a folder as memory-mapped arrays, read by nothing but NumPy and json."""

    def __init__(self, folder: Path) -> None:
        self.tensors: dict[str, Array] = {}
        for path in sorted(folder.glob("*.safetensors")):
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(length))
            data = np.memmap(path, np.uint8, "r", offset=8 + length)
            for name, entry in header.items():
                if name == "__metadata__":
                    continue
                begin, end = entry["data_offsets"]
                self.tensors[name] = data[begin:end].view(DTYPES[entry["dtype"]]).reshape(entry["shape"])


def sample(shapes: dict[str, tuple[int, ...]]) -> list[str]:
    """Choose norms and matrices of the first, a middle and the last layer, small enough for the oracle."""
    layers = sorted({int(name.split(".")[2]) for name in shapes if ".layers." in name})
    chosen = {
        layers[0]: "self_attn.k_proj.weight",
        layers[len(layers) // 2]: "self_attn.q_proj.weight",
        layers[-1]: "self_attn.v_proj.weight",
    }
    names = [f"model.layers.{layer}.{matrix}" for layer, matrix in chosen.items()]
    names += [f"model.layers.{layer}.input_layernorm.weight" for layer in chosen]
    return [name for name in [*names, "model.norm.weight"] if prod(shapes[name]) <= LARGEST_SAMPLE]


Merge = Callable[[dict[str, Array], list[dict[str, Array]], dict[str, Any]], dict[str, Estimate]]
ORACLES: dict[str, Merge] = {
    "linear": lambda base, models, options: linear.merge([base, *models], **options),
    "slerp": lambda base, models, options: slerp.merge(base, models[0], **options),
    "nuslerp": lambda base, models, options: nuslerp.merge(base, models[0], models[1], **options),
    "model_stock": lambda base, models, options: model_stock.merge(base, models, **options),
    "ties": lambda base, models, options: ties.merge(base, models, **options),
    "breadcrumbs_ties": lambda base, models, options: breadcrumbs.ties(base, models, **options),
    "dare_ties": lambda base, models, options: dare.ties(base, models, **options),
    "della": lambda base, models, options: della.ties(base, models, **options),
}
PER_MODEL = ("weight", "density", "gamma", "epsilon")


def expected(
    method: str, options: dict[str, Any], base: dict[str, Array], models: list[dict[str, Array]]
) -> dict[str, Estimate]:
    """Return what the oracle of a method gives, with the same options for every model."""
    count = len(models) + (method == "linear")
    each = {key: [value] * count if key in PER_MODEL else value for key, value in options.items()}
    return ORACLES[method](base, models, each)


class Comparison:
    """Counts over all entries that were compared."""

    def __init__(self, *, exact: bool) -> None:
        self.exact = exact
        self.entries = self.agreeing = self.tensors = 0

    def add(self, name: str, got: Array, want: Estimate) -> None:
        """Compare one tensor; an exact comparison raises AssertionError where it does not hold."""
        if self.exact:
            assert_matches(got, want, name)
        low, high = want.interval(got.dtype)
        slack = AGREEMENT_UNITS * RELATIVE_UNIT[got.dtype.name] * np.abs(want.value)
        seen = got.astype(np.float64)
        self.agreeing += int(((seen >= low - slack) & (seen <= high + slack)).sum())
        self.entries += got.size
        self.tensors += 1

    def record(self) -> dict[str, Any]:
        """Return the counts, ready for JSON."""
        agree = self.agreeing / self.entries
        return {"exact": self.exact, "tensors": self.tensors, "entries": self.entries, "agree": agree}


def _magnitudes(base: Array, model: Array) -> Iterator[tuple[int, Array]]:
    """Yield the bits of |model - base| in float32 piece by piece, with the flat index of each piece."""
    for start in range(0, base.size, PIECE):
        piece = slice(start, start + PIECE)
        delta = model[piece].astype(np.float32) - base[piece].astype(np.float32)
        yield start, np.abs(delta).view(np.uint32)


def _from_the_top(counts: Array, kept: int) -> tuple[int, int]:
    """Return the bin that holds the `kept`-th largest entry, and how many of that bin are kept."""
    above = np.cumsum(counts[::-1])
    number = int(np.searchsorted(above, kept))
    return counts.size - 1 - number, kept - int(above[number] - counts[::-1][number])


def trim_cut(base: Array, model: Array, density: float) -> tuple[int, int]:
    """Return a trim's threshold and the flat index from which entries equal to it are dropped.

    By two histograms of 16 bits each, so that a tensor of any size needs little memory.
    """
    kept = max(1, int(density * base.size))
    counts = np.zeros(1 << 16, np.int64)
    for _, bits in _magnitudes(base, model):
        counts += np.bincount(bits >> 16, minlength=1 << 16)
    high, kept = _from_the_top(counts, kept)
    counts[:] = 0
    for _, bits in _magnitudes(base, model):
        counts += np.bincount(bits[bits >> 16 == high] & 0xFFFF, minlength=1 << 16)
    low, kept = _from_the_top(counts, kept)
    threshold = high << 16 | low
    for start, bits in _magnitudes(base, model):
        equal = np.flatnonzero(bits == threshold)
        if equal.size > kept:
            return threshold, start + int(equal[kept])
        kept -= equal.size
    return threshold, base.size


def compare_largest(
    comparison: Comparison,
    options: dict[str, Any],
    name: str,
    *,
    base: Array,
    models: list[Array],
    got: Array,
) -> None:
    """Compare stretches of one large tensor that was merged by TIES."""
    n = base.size
    starts = np.linspace(0, max(0, n - STRETCH), 8).astype(int)
    stretches = [slice(int(start), min(n, int(start) + STRETCH)) for start in starts]
    flat = base.reshape(-1)
    flat_models = [model.reshape(-1) for model in models]
    cuts = [trim_cut(flat, model, options["density"]) for model in flat_models]
    weights = [options["weight"]] * len(models)
    for stretch in stretches:
        index = np.arange(stretch.start, stretch.stop)
        origin = flat[stretch].astype(np.float32)
        vectors = []
        for model, (threshold, cut) in zip(flat_models, cuts, strict=True):
            delta = model[stretch].astype(np.float32) - origin
            bits = np.abs(delta).view(np.uint32)
            vectors.append(sparsify(delta, (bits > threshold) | ((bits == threshold) & (index < cut))))
        elected = consensus.elect(consensus.votes(vectors, weights, "weighted"), "plus", 0, "weighted_mean")
        agree = consensus.agreeing(vectors, weights, "weighted", elected)
        update = consensus.disjoint_merge(
            vectors, weights, agree, elected, aggregate="weighted_mean", normalize=True
        )
        want = onto_base(flat[stretch], update, 1.0, vectors)
        comparison.add(f"{name}[{stretch.start}:{stretch.stop}]", got.reshape(-1)[stretch], want)


def verify(
    method: str, options: dict[str, Any], base: Path, models: list[Path], out: Path, *, exact: bool
) -> dict[str, Any]:
    """Compare a sample of a merged checkpoint with the oracle.

    Raises
    ------
    AssertionError
        A tensor is missing or, where `exact` is set, lies outside the oracle's bounds.
    """
    first, *rest = (Checkpoint(folder).tensors for folder in (base, *models))
    result = Checkpoint(out).tensors
    missing = sorted(set(first) - set(result))
    assert not missing, f"{out} lacks {len(missing)} tensors, among them {missing[0]}"
    names = sample({name: tensor.shape for name, tensor in first.items()})
    comparison = Comparison(exact=exact)
    for name in names:
        inputs = [{name: model[name]} for model in rest]
        want = expected(method, options, {name: first[name]}, inputs)[name]
        comparison.add(name, result[name], want)
    if method == "ties":
        largest = max(first, key=lambda name: first[name].size)
        others = [model[largest] for model in rest]
        compare_largest(comparison, options, largest, base=first[largest], models=others, got=result[largest])
    return comparison.record()
