"""`carrick.adapters.apply`: adapters folded into their base, streamed, tensor by tensor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from carrick.config.location import Location
from carrick.config.model_ref import AdapterRef, ModelRef, read_adapter_ref, read_model_ref
from carrick.config.objects import read_object
from carrick.errors import ConfigError
from carrick.merge import merge
from carrick.plan import KEEP

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from carrick.progress import Progress
    from carrick.report import MergeReport


def apply(
    base: str | Path,
    adapters: str | Path | Sequence[str | Path | Mapping[str, Any]],
    out: str | Path,
    *,
    dtype: str | None = None,
    memory: str | int | None = None,
    threads: int | None = None,
    shard_size: str | int | None = None,
    dry_run: bool = False,
    force: bool = False,
    read: Literal["auto", "pread", "mmap"] = "auto",
    check_finite: bool = False,
    hash_inputs: bool = False,
    download: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> MergeReport:
    """Fold LoRA adapters into their base: W + Σ weight·s·B·A, computed in float32 and rounded once.

    Biases, modules that were trained whole, trained tokens and DoRA are folded in as well. Interrupted, the same
    call goes on where it stopped.

    Parameters
    ----------
    base
        A model folder, a .safetensors file, or a Hub id.
    adapters
        One adapter or several: a PEFT folder or Hub id, with ``@revision`` and ``:weight`` where needed, or a
        mapping of `path`, `revision` and `weight`.
    out
        Folder of the result, made by one rename at the end.
    dtype
        Element type of the output; by default that of the base.
    memory, threads, dry_run, force, read, check_finite, hash_inputs, download, progress
        As for :func:`carrick.merge`.
    shard_size
        Largest shard, such as ``"5GB"``; by default every tensor stays in the shard that the base has it in.

    Returns
    -------
    MergeReport

    Raises
    ------
    ConfigError, PlanError, FormatError
        What was asked for cannot be done; nothing is left behind.

    Examples
    --------
    >>> import json, numpy as np, pathlib, safetensors.numpy, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> safetensors.numpy.save_file({"h.0.q.weight": np.ones((2, 3), "f4")}, folder / "base.safetensors")
    >>> (folder / "adapter").mkdir()
    >>> config = {"peft_type": "LORA", "r": 1, "lora_alpha": 2}
    >>> _ = (folder / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    >>> key = "base_model.model.h.0.q"
    >>> factors = {f"{key}.lora_A.weight": np.ones((1, 3), "f4"), f"{key}.lora_B.weight": np.ones((2, 1), "f4")}
    >>> safetensors.numpy.save_file(factors, folder / "adapter" / "adapter_model.safetensors")
    >>> report = apply(folder / "base.safetensors", f"{folder}/adapter:0.5", folder / "merged")
    >>> safetensors.numpy.load_file(folder / "merged" / "model.safetensors")["h.0.q.weight"].tolist()
    [[2.0, 2.0, 2.0], [2.0, 2.0, 2.0]]
    """
    ref = _reference(base, [adapters] if isinstance(adapters, str | Path) else adapters)
    config: dict[str, Any] = {"merge_method": "passthrough", "models": [{"model": ref}]}
    if dtype is not None:
        config["dtype"] = dtype
    return merge(
        config,
        out,
        memory=memory,
        threads=threads,
        shard_size=KEEP if shard_size is None else shard_size,
        dry_run=dry_run,
        force=force,
        read=read,
        check_finite=check_finite,
        hash_inputs=hash_inputs,
        download=download,
        progress=progress,
    )


def _reference(base: str | Path, adapters: Sequence[str | Path | Mapping[str, Any]]) -> dict[str, Any]:
    """Return the base with its adapters as a configuration names them."""
    model: ModelRef = read_model_ref(read_object(str(base), Location(key="base")), "the base", [])
    where = Location(key="adapters")
    refs = [
        read_adapter_ref(read_object(one, where.item(index)), "an adapter")
        for index, one in enumerate(adapters)
    ]
    if not refs and not model.adapters:
        raise ConfigError("nothing to apply: give at least one adapter", key="adapters")
    place = {"path": model.path, "revision": model.revision}
    return {"model": _given(place), "lora": [_mapping(ref) for ref in (*model.adapters, *refs)]}


def _mapping(ref: AdapterRef) -> dict[str, Any]:
    weight = None if ref.weight == 1.0 else ref.weight
    return _given({"path": ref.path, "revision": ref.revision, "weight": weight})


def _given(mapping: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if value is not None}
