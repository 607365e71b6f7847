"""Where every byte of the output goes: shards, order, offsets, names."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from carrick.checkpoints.element_types import element_size
from carrick.plan.job import Shard

if TYPE_CHECKING:
    from carrick.plan.job import Job, Plan

DEFAULT_SHARD_SIZE = 5 * 10**9
ShardSize: TypeAlias = int | Literal["keep"]
"""Bytes of a shard's data, or `keep`: every tensor stays in the shard that the donor has it in."""
KEEP: Literal["keep"] = "keep"
SINGLE = "model.safetensors"


def lay_out(jobs: list[Job], shard_size: int = DEFAULT_SHARD_SIZE) -> tuple[list[Job], list[Shard]]:
    """Fill shards with whole tensors in the order given, and give every job its place.

    Within a shard larger elements come first, so that every tensor is aligned to its element's size without
    holes; the order given, the donor's own, decides otherwise: its files are read front to back.

    Parameters
    ----------
    jobs
        In the donor's file order.
    shard_size
        Bytes of a shard's data; a tensor larger than that has a shard of its own.

    Returns
    -------
    The jobs shard by shard in offset order, and the shards.
    """
    groups: list[list[Job]] = [[]]
    filled = 0
    for job in jobs:
        if groups[-1] and filled + job.nbytes > shard_size:
            groups.append([])
            filled = 0
        groups[-1].append(job)
        filled += job.nbytes
    return _place(groups)


def keep_shards(jobs: list[Job], homes: list[int]) -> tuple[list[Job], list[Shard]]:
    """Give every job a place in the shard that the donor has its tensor in.

    Parameters
    ----------
    jobs
        In the donor's file order.
    homes
        For each job the number of the donor's file, which never falls.

    Returns
    -------
    As `lay_out`; a file of the donor of which nothing is left has no shard.
    """
    pairs = groupby(zip(homes, jobs, strict=True), key=lambda pair: pair[0])
    return _place([[job for _, job in group] for _, group in pairs])


def _place(groups: list[list[Job]]) -> tuple[list[Job], list[Shard]]:
    placed: list[Job] = []
    shards: list[Shard] = []
    for number, group in enumerate(groups):
        offset = 0
        group.sort(key=lambda job: -element_size(job.dtype))
        for job in group:
            job.shard, job.offset = number, offset
            offset += job.nbytes
        placed.extend(group)
        shards.append(Shard(shard_name(number, len(groups)), offset))
    return placed, shards


def shard_name(number: int, count: int) -> str:
    """Name of a shard, counted from 0.

    >>> shard_name(0, 1), shard_name(1, 12)
    ('model.safetensors', 'model-00002-of-00012.safetensors')
    """
    return SINGLE if count == 1 else f"model-{number + 1:05d}-of-{count:05d}.safetensors"


def index_of(plan: Plan) -> dict[str, Any] | None:
    """Content of model.safetensors.index.json; None where one file holds everything."""
    if len(plan.shards) == 1:
        return None
    names = {job.name: plan.shards[job.shard].name for job in plan.jobs}
    return {
        "metadata": {"total_size": plan.bytes_written},
        "weight_map": dict(sorted(names.items())),
    }
