"""Every byte of the output has one owner, aligned, in shards of the wanted size."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (hypothesis and pytest read annotations)

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrick.checkpoints import element_size, find
from carrick.errors import PlanError
from carrick.plan import Job, index_of
from carrick.plan.layout import lay_out
from plan.tiny import linear, llama, llama_config, plan_of, trio, write

DTYPES = ["F64", "F32", "F16", "BF16", "F8_E4M3", "I64", "U8", "BOOL"]
SHAPES = st.lists(st.integers(0, 5), max_size=3)


@given(st.lists(st.tuples(st.sampled_from(DTYPES), SHAPES), min_size=1, max_size=30), st.integers(1, 400))
def test_contiguous_aligned_and_filled_in_order(tensors: list[tuple[str, list[int]]], size: int) -> None:
    jobs = [Job(f"t{n}", tuple(shape), dtype, "copy", {}, []) for n, (dtype, shape) in enumerate(tensors)]
    order = {job.name: n for n, job in enumerate(jobs)}
    placed, shards = lay_out(jobs, size)
    assert sorted(order) == sorted(j.name for j in placed)
    ends = [0] * len(shards)
    for job in placed:
        assert job.offset == ends[job.shard]
        assert job.offset % element_size(job.dtype) == 0
        ends[job.shard] += job.nbytes
    assert ends == [s.data_bytes for s in shards]
    assert [j.shard for j in placed] == sorted(j.shard for j in placed)
    for number, shard in enumerate(shards):
        held = [j for j in placed if j.shard == number]
        assert shard.data_bytes <= size or len([j for j in held if j.nbytes]) == 1
        keys = [(-element_size(j.dtype), order[j.name]) for j in held]
        assert keys == sorted(keys)
        if number:
            first = min(order[j.name] for j in held)
            assert first == 1 + max(order[j.name] for j in placed if j.shard == number - 1)
            # A shard ends only where the next tensor would not fit any more.
            opener = next(j for j in held if order[j.name] == first)
            assert shards[number - 1].data_bytes + opener.nbytes > size


def test_donors_own_order(tmp_path: Path) -> None:
    a = write(tmp_path / "A", llama(), llama_config(), shards=3)
    b = write(tmp_path / "B", llama(seed=1), llama_config())
    assert [j.name for j in plan_of(linear(a, b)).jobs] == list(find(str(a)).tensors)
    assert [j.name for j in plan_of(linear(b, a)).jobs] == list(find(str(b)).tensors)


def test_names_and_index(tmp_path: Path) -> None:
    a, b, _ = trio(tmp_path)
    plan = plan_of(linear(a, b))
    assert [s.name for s in plan.shards] == ["model.safetensors"]
    assert index_of(plan) is None
    plan = plan_of(linear(a, b), shard_size=300)
    count = len(plan.shards)
    assert count > 2
    assert [s.name for s in plan.shards] == [
        f"model-{n + 1:05d}-of-{count:05d}.safetensors" for n in range(count)
    ]
    index = index_of(plan)
    assert index is not None
    assert index["metadata"]["total_size"] == plan.bytes_written == sum(v.nbytes for v in llama().values())
    assert index["weight_map"] == {j.name: plan.shards[j.shard].name for j in plan.jobs}


def test_a_tensor_larger_than_a_shard_is_alone(tmp_path: Path) -> None:
    tensors = {"a": np.zeros(2, np.float32), "b": np.zeros(50, np.float32), "c": np.zeros(2, np.float32)}
    a = write(tmp_path / "A", tensors)
    plan = plan_of(linear(a), shard_size=100)
    assert [s.data_bytes for s in plan.shards] == [8, 200, 8]


def test_shard_size_of_nothing(tmp_path: Path) -> None:
    a, b, _ = trio(tmp_path)
    with pytest.raises(PlanError, match="shard size of 0"):
        plan_of(linear(a, b), shard_size=0)


def test_scalars_and_empty_tensors(tmp_path: Path) -> None:
    tensors = {"empty": np.zeros((0, 4), np.float32), "scalar": np.array(1.0, np.float32)}
    a, b = (write(tmp_path / n, tensors) for n in "AB")
    plan = plan_of(linear(a, b))
    assert {j.name: (j.shape, j.nbytes) for j in plan.jobs} == {"empty": ((0, 4), 0), "scalar": ((), 4)}
