"""Checkpoints against dense float64 NumPy: every type, shards, zeros, leaves, threads, tiles."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import carrick
from carrick.checkpoints import find
from carrick.similarity.checkpoints import line_up, measure
from oracles.dtypes import NUMPY
from oracles.files import write_model

from . import oracle

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from carrick.similarity import Likeness

    Tensors = dict[str, NDArray[Any]]

TYPES = ("F32", "BF16", "F16", "F64", "F8_E4M3", "F8_E5M2")


@dataclass
class Models:
    base: Tensors
    tuned: list[Tensors]

    def write(self, root: Path, shards: list[int]) -> tuple[Path, list[Path]]:
        folders = [
            write_model(root / f"model{number}", tensors, shards=count)
            for number, (tensors, count) in enumerate(zip([self.base, *self.tuned], shards, strict=True))
        ]
        return folders[0], folders[1:]


@st.composite
def families(draw: st.DrawFn) -> tuple[Models, list[int]]:
    seed = draw(st.integers(0, 2**32 - 1))
    count = draw(st.integers(2, 4))
    shapes = draw(st.lists(st.lists(st.integers(0, 40), max_size=3).map(tuple), min_size=1, max_size=5))
    random = np.random.default_rng(seed)
    types = st.sampled_from(TYPES)
    base: Tensors = {}
    tuned: list[Tensors] = [{} for _ in range(count)]
    for number, shape in enumerate(shapes):
        name = f"layers.{number}.part{number % 2}.weight"
        values = np.asarray(random.standard_normal(shape))
        base[name] = values.astype(NUMPY[draw(types)])
        for model in tuned:
            # Half of the entries stay as they are: their task vectors are zero where the types agree.
            change = np.where(random.random(shape) < 0.5, 0, random.standard_normal(shape))
            start = base[name].astype(np.float64)
            model[name] = np.asarray(start + change).astype(NUMPY[draw(types)])
    shards = [draw(st.integers(1, len(shapes))) for _ in range(count + 1)]
    return Models(base, tuned), shards


def check(found: Likeness, vectors: NDArray[np.float64]) -> None:
    assert found.elements == vectors.shape[1]
    np.testing.assert_allclose(found.norms, oracle.norms(vectors), rtol=1e-13)
    np.testing.assert_allclose(found.cosine, oracle.cosine(vectors), rtol=0, atol=1e-13)
    np.testing.assert_array_equal(found.sign_conflicts, oracle.sign_conflicts(vectors))


@given(families())
def test_as_the_definitions_say(family):
    models, shards = family
    with TemporaryDirectory() as root:
        base, tuned = models.write(Path(root), shards)
        found = carrick.similarity(tuned, base)
    names = list(models.base)
    check(found.whole, oracle.of_checkpoints(models.base, models.tuned, names))
    assert sorted(part.name for part in found.by_tensor) == sorted(names)
    for part in found.by_tensor:
        check(part, oracle.of_checkpoints(models.base, models.tuned, [part.name]))
    for part in found.by_module:
        held = [name for name in names if f".{part.name}." in name]
        check(part, oracle.of_checkpoints(models.base, models.tuned, held))
    assert sum(part.elements for part in found.by_layer) == found.whole.elements


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """Tensors of several leaves, one of them ending inside a block."""
    random = np.random.default_rng(5)
    shapes = {
        "long.weight": (3, 70_001),
        "wide.weight": (65_536, 3),
        "short.weight": (17,),
        "none.weight": (0, 4),
    }

    def tensors(dtype: str) -> Tensors:
        return {name: random.standard_normal(shape).astype(NUMPY[dtype]) for name, shape in shapes.items()}

    models = Models(tensors("BF16"), [tensors("F32"), tensors("BF16"), tensors("F16")])
    models.tuned[0]["wide.weight"] = models.tuned[0]["wide.weight"].astype(np.float64)
    return models, *models.write(tmp_path_factory.mktemp("long"), [1, 2, 1, 3])


def test_tensors_of_several_leaves(long):
    models, base, tuned = long
    found = carrick.similarity(tuned, base)
    check(found.whole, oracle.of_checkpoints(models.base, models.tuned, models.base))


def test_threads_tiles_memory_and_ways_of_reading_do_not_show(long):
    _, base, tuned = long
    checkpoints = find(str(base)), [find(str(folder)) for folder in tuned]
    names = line_up(*checkpoints).names

    def run(**options: object) -> object:
        return measure(*checkpoints, names, options, None)

    expected = run(threads=1)
    for options in (
        {"threads": 2},
        {"threads": 7, "tile": 1 << 16},
        {"threads": 3, "tile": 3 << 16},
        {"threads": 16, "memory": 12 << 20},
        {"threads": 2, "read": "mmap"},
    ):
        assert run(**options) == expected, options


def test_progress_counts_every_byte_at_most_once(long):
    _, base, tuned = long
    seen = []
    carrick.similarity(tuned, base, progress=seen.append)
    assert all(0 <= moment.bytes_done <= moment.bytes_total for moment in seen)
    assert all(moment.stage == "compare" for moment in seen)


def test_tiny_differences_have_signs(tmp_path):
    """Their product is below the smallest float32."""
    tiny = np.float32(2.0**-149)
    models = Models(
        {"w": np.zeros(4, np.float32)},
        [{"w": np.array([tiny, -tiny, 0, 1], np.float32)}, {"w": np.array([-tiny, -tiny, 1, 0], np.float32)}],
    )
    base, tuned = models.write(tmp_path, [1, 1, 1])
    assert carrick.similarity(tuned, base).whole.sign_conflicts == [[0, 0.5], [0.5, 0]]


def test_a_model_that_is_its_base_has_cosine_zero_and_a_note(tmp_path):
    base = {"w": np.arange(4, dtype=np.float32)}
    models = Models(base, [base, {"w": base["w"] + 1}])
    folder, tuned = models.write(tmp_path, [1, 1, 1])
    found = carrick.similarity(tuned, folder)
    assert found.whole.cosine == [[0, 0], [0, 1]]
    assert found.whole.norms == [0, 2]
    assert [note for note in found.notes if "task vector is zero" in note] == [
        "model1: its task vector is zero, and so are its cosines"
    ]


def test_opposite_and_equal_models(tmp_path):
    random = np.random.default_rng(0)
    change = random.standard_normal(1000).astype(np.float32)
    zero = {"w": np.zeros(1000, np.float32)}
    models = Models(zero, [{"w": change}, {"w": -change}, {"w": 3 * change}])
    base, tuned = models.write(tmp_path, [1] * 4)
    found = carrick.similarity(tuned, base).whole
    np.testing.assert_allclose(found.cosine, [[1, -1, 1], [-1, 1, -1], [1, -1, 1]], atol=1e-7)
    assert found.sign_conflicts == [[0, 1, 0], [1, 0, 1], [0, 1, 0]]


def test_what_not_all_have_and_integers_are_left_out_and_said(tmp_path):
    full = {"w": np.ones(3, np.float32), "ids": np.arange(3), "extra": np.ones(2, np.float32)}
    less = {"w": np.full(3, 2, np.float32), "ids": np.arange(3)}
    base, tuned = Models(full, [less, {**full, "w": less["w"]}]).write(tmp_path, [1, 1, 1])
    found = carrick.similarity(tuned, base)
    assert [part.name for part in found.by_tensor] == ["w"]
    assert "left out, not in every model: 1 tensor (extra)" in found.notes
    assert "left out, not floating-point numbers: 1 tensor (ids)" in found.notes


def test_excluded_tensors_do_not_count(tmp_path):
    base = {"a.weight": np.zeros(2, np.float32), "b.weight": np.zeros(3, np.float32)}
    one = {"a.weight": np.ones(2, np.float32), "b.weight": np.ones(4, np.float32)}
    two = {"a.weight": np.ones(2, np.float32), "b.weight": np.full(3, np.nan, np.float32)}
    folder, tuned = Models(base, [one, two]).write(tmp_path, [1, 1, 1])
    found = carrick.similarity(tuned, folder, exclude=[r"^b\."])
    assert found.whole.elements == 2
    assert "left out, excluded: 1 tensor (b.weight)" in found.notes


def test_signs_can_be_left_out(long):
    _, base, tuned = long
    found = carrick.similarity(tuned, base, signs=False)
    assert found.whole.sign_conflicts is None
    assert all(part.sign_conflicts is None for part in found.by_tensor)
