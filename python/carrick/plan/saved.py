"""Saved plans: read back, and checked before anything is done with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from carrick.checkpoints.element_types import ELEMENT_TYPES, byte_count, element_size
from carrick.checkpoints.headers import FileRecord
from carrick.errors import PlanError
from carrick.plan.description import Description, Place, read_count, read_place
from carrick.plan.job import ADAPTER_FORMAT, FORMAT, VERSION, Input, Job, Plan, Shard


def load_plan(path: Path | str) -> Plan:
    """Read a plan that `carrick plan --json` wrote.

    Raises
    ------
    PlanError
        Not a plan, one of another version, or one that contradicts itself.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise PlanError(
            f"{path}: is not a plan (not UTF-8); write one with `carrick plan CONFIG --json`"
        ) from None
    except OSError as error:
        raise PlanError(
            f"{path}: cannot be read ({error.strerror}); give a file of `carrick plan --json`"
        ) from error
    return parse_plan(text, str(path))


def parse_plan(text: str, name: str = "<plan>") -> Plan:
    """Read a plan from its JSON text.

    Parameters
    ----------
    text
        What `Plan.to_json` wrote.
    name
        Where the text comes from, for messages.

    Raises
    ------
    PlanError
        As for `load_plan`.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PlanError(
            f"{name}: is not a plan ({error}); write one with `carrick plan CONFIG --json`"
        ) from None
    if isinstance(content, list) and any(isinstance(one, dict) and "format" in one for one in content):
        raise PlanError(
            f"{name}: holds the plans of several documents, the later ones of models that are not made yet; run "
            "their configuration: carrick merge CONFIG OUT"
        )
    if isinstance(content, dict) and content.get("format") == ADAPTER_FORMAT:
        raise PlanError(
            f"{name}: is the plan of a merge of adapters, which says what would be done and cannot be run; run its "
            "configuration: carrick merge CONFIG OUT"
        )
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise PlanError(f"{name}: is not a plan; write one with `carrick plan CONFIG --json`")
    if content.get("version") != VERSION:
        raise PlanError(
            f"{name}: is a plan of version {content.get('version')!r} and this is version {VERSION}; make "
            f"it again"
        )
    try:
        plan = _read(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise PlanError(
            f"{name}: is not a whole plan ({what}); make it again with `carrick plan --json`"
        ) from None
    _check(plan, name)
    return plan


def _read(content: dict[str, Any]) -> Plan:
    records = [
        FileRecord(
            _str(f["path"]), read_count(f["size"]), int(f["mtime_ns"]), read_count(f["inode"]),
            _str(f["header_hash"]), read_count(f["data_start"]),
        )
        for f in content["files"]
    ]  # fmt: skip
    shards = [Shard(_str(s["name"]), read_count(s["data_bytes"])) for s in content["shards"]]
    jobs = [_job(j) for j in content["jobs"]]
    meta = content.get("meta", {})
    if not isinstance(meta, dict):
        raise TypeError("`meta` is not an object")
    return Plan(records, shards, jobs, read_count(content["seed"]), meta)


def _job(content: dict[str, Any]) -> Job:
    method = content["method"]
    options = method.get("options", {})
    if not isinstance(options, dict):
        raise TypeError(f"options of {content['name']!r} are not an object")
    return Job(
        _str(content["name"]),
        tuple(read_count(n) for n in content["shape"]),
        _dtype(content["dtype"]),
        _str(method["name"]),
        options,
        [_input(i) for i in content["inputs"]],
        read_count(content["shard"]),
        read_count(content["offset"]),
    )


def _input(content: dict[str, Any]) -> Input:
    index = content.get("index")
    parameters = content.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise TypeError("`parameters` of an input are not an object")
    described = content.get("described")
    return Input(
        read_place(content) if described is None else Description.from_dict(described),
        content.get("base", False) is True,
        None if index is None else read_count(index),
        parameters,
        content.get("delta", False) is True,
    )


def _str(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def _dtype(value: object) -> str:
    if value not in ELEMENT_TYPES:
        raise ValueError(f"{value!r} is no element type")
    return str(value)


def _check(plan: Plan, name: str) -> None:
    """Every byte of the shards belongs to one job, and every input lies in a file of the plan."""
    for shard in plan.shards:
        if "/" in shard.name or "\\" in shard.name or not shard.name.endswith(".safetensors"):
            raise PlanError(f"{name}: {shard.name!r} is not the name of an output file; make the plan again")
    names = {job.name for job in plan.jobs}
    if len(names) != len(plan.jobs):
        raise PlanError(f"{name}: a tensor is written twice; make the plan again")
    ends = [0] * len(plan.shards)
    for job in plan.jobs:
        if job.shard >= len(ends) or job.offset != ends[job.shard] or job.offset % element_size(job.dtype):
            raise PlanError(
                f"{name}: tensor {job.name!r} does not lie where the one before it ends; make it again"
            )
        ends[job.shard] += job.nbytes
        for i in job.inputs:
            if not all(_lies_inside(plan, place, elements) for place, elements in i.places(job.elements)):
                raise PlanError(
                    f"{name}: an input of {job.name!r} lies outside its file; make the plan again"
                )
    for shard, end in zip(plan.shards, ends, strict=True):
        if shard.data_bytes != end:
            raise PlanError(
                f"{name}: {shard.name} has {shard.data_bytes} bytes and its tensors {end}; make it again"
            )


def _lies_inside(plan: Plan, place: Place, elements: int) -> bool:
    record = plan.files[place.file] if place.file < len(plan.files) else None
    end = place.offset + byte_count(place.dtype, elements)
    return record is not None and record.data_start + end <= record.size
