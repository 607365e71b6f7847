"""Adapters merged into their base: the method on each ΔW = s·B·A, streamed into a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carrick import methods
from carrick.adapters.merge import document_of
from carrick.config.adapter import default_variant
from carrick.errors import ConfigError
from carrick.merge import merge
from carrick.plan import KEEP
from carrick.suggestions import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from carrick.progress import Progress
    from carrick.report import MergeReport

# On the base a sum of updates is task arithmetic, whatever it is called.
_SUMS = ("cat", "linear")
# Every method on task vectors, of which the last ones have no other reading for adapters.
_ON_BASE = (
    *_SUMS, "task_arithmetic", "ties", "dare_linear", "dare_ties", "magnitude_prune",
    "breadcrumbs", "breadcrumbs_ties", "della", "della_linear",
)  # fmt: skip


def merge_into_base(
    base: str | Path,
    adapters: Sequence[str | Path],
    out: str | Path,
    *,
    method: str = "cat",
    weights: Sequence[float] | None = None,
    density: float | None = None,
    variant: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    dtype: str | None = None,
    seed: int | None = None,
    memory: str | int | None = None,
    threads: int | None = None,
    force: bool = False,
    download: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> MergeReport:
    """Merge LoRA adapters into their base: base + method(ΔW₁, …, ΔWₙ), streamed in constant memory.

    The result has full rank, and nothing of it is lost, as an adapter of low rank would lose it.

    Parameters
    ----------
    base
        A model folder, a .safetensors file, or a Hub id.
    adapters
        PEFT folders or Hub ids.
    out
        Folder of the merged checkpoint.
    method, weights, density, variant, parameters, seed, memory, threads, force, download, progress
        As for :func:`carrick.adapters.merge`; KnOTS methods make an adapter first (`carrick adapters merge`).
    dtype
        Element type of the output; that of the base by default.

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
    >>> (folder / "a").mkdir()
    >>> _ = (folder / "a" / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 1, "lora_alpha": 1}')
    >>> key = "base_model.model.h.0.q"
    >>> factors = {f"{key}.lora_A.weight": np.ones((1, 3), "f4"), f"{key}.lora_B.weight": np.ones((2, 1), "f4")}
    >>> safetensors.numpy.save_file(factors, folder / "a" / "adapter_model.safetensors")
    >>> report = merge_into_base(folder / "base.safetensors", [folder / "a"], folder / "merged", weights=[2])
    >>> safetensors.numpy.load_file(folder / "merged" / "model.safetensors")["h.0.q.weight"].tolist()
    [[3.0, 3.0, 3.0], [3.0, 3.0, 3.0]]
    """
    if method.startswith("knots_"):
        raise ConfigError(
            f"`{method}` makes an adapter without loss: merge without --dense, then `carrick adapters apply` it"
        )
    if method not in _ON_BASE:
        hint = nearest(method, _ON_BASE) or f"; the methods for --dense are {', '.join(_ON_BASE)}"
        raise ConfigError(f"`{method}` is not a merge method of updates on a base{hint}")
    row = methods.load().get(method)
    reading = variant or (default_variant(row) if row is not None else None)
    given = dict(parameters or {})
    if "variant" in given:
        reading = str(given.pop("variant"))
    defaults: dict[str, Any] = {"normalize": False}
    if method == "magnitude_prune":
        defaults["kept_count"] = "floor"  # as for the other methods on updates
    config = document_of(
        [str(adapter) for adapter in adapters],
        method="task_arithmetic" if method in _SUMS else method,
        weights=[1.0] * len(adapters) if weights is None else weights,
        density=density,
        variant=reading,
        parameters={**defaults, **given},
        top={"base_model": str(base), "dtype": dtype, "seed": seed},
    )
    for entry in config["models"]:
        entry["model"] = {"model": str(base), "lora": {"path": entry["model"]}}
    return merge(
        config,
        out,
        memory=memory,
        threads=threads,
        shard_size=KEEP,
        force=force,
        download=download,
        progress=progress,
    )
