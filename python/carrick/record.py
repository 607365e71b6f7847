"""``carrick.json``: from which bytes, by which plan, to which bytes. The same inputs give the same record.

There are no times in it and no absolute paths, so that records of two machines can be compared by `diff`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from carrick import __version__, _core
from carrick.names import public_name
from carrick.summary import options_by_method, parameters_by_model

if TYPE_CHECKING:
    from carrick.plan import Plan
    from carrick.summary import Value

NAME = "carrick.json"

CHECKSUM = {
    "algorithm": "XXH3-128",
    "form": "hexadecimal, most significant digit first",
    "of": "the little-endian XXH3-128 digests, in order, of the tensor's bytes cut every 65536 bytes",
}


Records = Mapping[str, Mapping[str, Any]]
"""Records of the intermediates that a merge comes from, by name."""

# What an intermediate's record says of tensors, which are gone with it.
_OF_TENSORS = ("checksum", "tensors", "intermediates")


def record(
    plan: Plan,
    report: Mapping[str, Any],
    *,
    hash_inputs: bool = False,
    intermediates: Records = MappingProxyType({}),
) -> dict[str, Any]:
    """Everything that tells one merge from another.

    Parameters
    ----------
    plan
        What was run.
    report
        What the engine said about it.
    hash_inputs
        Read all inputs once more and record the checksum of each file.
    intermediates
        Records of those that went into this merge, by way of others as well.
    """
    content = {
        "format": "carrick-record",
        "version": 1,
        "carrick": __version__,
        "method": plan.meta["method"],
        "variant": plan.meta["variant"],
        "seed": plan.seed,
        "options": {name: _compact(options) for name, options in options_by_method(plan).items()},
        "dtype": plan.meta["dtype"]["output"],
        "plan_hash": plan_hash(plan, intermediates),
        "inputs": inputs(plan, hash_inputs=hash_inputs),
        "checksum": CHECKSUM,
        "tensors": tensors_of(report),
        "nan": report["nan"],
        "inf": report["inf"],
        "overflow": report["overflow"],
    }
    if intermediates:
        content["intermediates"] = {
            name: {key: value for key, value in one.items() if key not in _OF_TENSORS}
            for name, one in intermediates.items()
        }
    return content


def tensors_of(report: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Type, shape, file and checksum of every tensor that the engine wrote."""
    return {
        tensor["name"]: {
            "dtype": tensor["dtype"],
            "shape": tensor["shape"],
            "file": tensor["shard"],
            "checksum": tensor["checksum"],
        }
        for tensor in report["tensors"]
    }


def write_record(content: Mapping[str, Any], folder: Path) -> None:
    """Write ``carrick.json`` into a folder."""
    text = json.dumps(content, indent=1, ensure_ascii=False)
    (folder / NAME).write_text(text + "\n", encoding="utf-8")


def plan_hash(plan: Plan, intermediates: Records = MappingProxyType({})) -> str:
    """Hash a plan (SHA-256) as on any machine: files by name, size, header instead of path and inode.

    Of intermediates it covers how they were planned and what came out.
    """
    content = plan.as_dict()
    names = _owners(plan)
    content["files"] = [
        {
            "model": names[number],
            "name": Path(file["path"]).name,
            "size": file["size"],
            "header": file["header_hash"],
        }
        for number, file in enumerate(content["files"])
    ]
    del content["meta"]
    if intermediates:
        content["intermediates"] = {
            name: [one["plan_hash"], {tensor: of["checksum"] for tensor, of in one["tensors"].items()}]
            for name, one in intermediates.items()
        }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _compact(values: Mapping[str, list[Value]]) -> dict[str, Value | list[Value]]:
    """Leave lists to what differs between tensors."""
    return {name: found[0] if len(found) == 1 else found for name, found in values.items()}


def _owners(plan: Plan) -> dict[int, str]:
    return {
        number: public_name(one)
        for model in plan.meta["models"]
        for one in (model, *_adapters(model))
        for number in one["files"]
    }


def _adapters(model: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Adapters of a model; their files are among the model's."""
    adapters: list[dict[str, Any]] = model.get("adapters", [])
    return adapters


def inputs(plan: Plan, *, hash_inputs: bool) -> list[dict[str, Any]]:
    """Models, adapters and intermediates that a plan reads: revision, role, parameters, files."""
    parameters = parameters_by_model(plan)
    found = []
    for model, values in zip(plan.meta["models"], parameters, strict=True):
        adapters = _adapters(model)
        of_adapters = {number for adapter in adapters for number in adapter["files"]}
        own = [number for number in model["files"] if number not in of_adapters]
        entry = {
            "name": public_name(model),
            "revision": model["revision"],
            "role": model["role"],
            "parameters": _compact(values),
            "files": _files(plan, own, hash_inputs=hash_inputs),
        }
        if model.get("intermediate"):
            entry["intermediate"] = True
        if adapters:
            entry["adapters"] = [
                {
                    "name": public_name(adapter),
                    "revision": adapter["revision"],
                    "weight": adapter["weight"],
                    "files": _files(plan, adapter["files"], hash_inputs=hash_inputs),
                }
                for adapter in adapters
            ]
        found.append(entry)
    return found


def _files(plan: Plan, numbers: list[int], *, hash_inputs: bool) -> list[dict[str, Any]]:
    files = []
    for number in numbers:
        file = plan.files[number]
        entry = {"name": Path(file.path).name, "size": file.size, "header_hash": file.header_hash}
        if hash_inputs:
            entry["content_hash"] = _core.hash_file(file.path)
        files.append(entry)
    return files
