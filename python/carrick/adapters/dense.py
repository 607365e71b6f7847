"""Adapters merged into their base: the method on each ΔW = s·B·A, streamed into a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carrick import methods
from carrick.adapters.finite import naming_adapter
from carrick.adapters.references import on_base, open_reference, split_weights
from carrick.adapters.request import document_of
from carrick.config.adapter import default_variant
from carrick.errors import ConfigError
from carrick.merge import merge
from carrick.plan import KEEP
from carrick.suggestions import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from carrick.adapters.weights import ByModule
    from carrick.progress import Progress
    from carrick.report import MergeReport

# On the base a sum of updates is task arithmetic, whatever it is called.
_SUMS = ("cat", "linear")
# Every method on task vectors, of which the last ones have no other reading for adapters.
_ON_BASE = (
    *_SUMS, "task_arithmetic", "ties", "dare_linear", "dare_ties", "magnitude_prune",
    "breadcrumbs", "breadcrumbs_ties", "della", "della_linear",
)  # fmt: skip


def refuse_for_checkpoints(**given: bool) -> None:
    """Raise for options of an adapter that a dense merge would have no use for: none is dropped without a word.

    Raises
    ------
    ConfigError
        Names the first one that is given.
    """
    for name, is_given in given.items():
        if is_given:
            raise ConfigError(
                f"--{name.replace('_', '-')} ({name}=…) belongs to a merge into an adapter, and --dense (dense=True) "
                "writes a checkpoint: leave one out"
            )


def merge_into_base(
    base: str | Path | None,
    adapters: Sequence[str | Path],
    out: str | Path | None,
    *,
    method: str = "cat",
    weights: Sequence[float | ByModule] | None = None,
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
        PEFT folders or Hub ids, with ``@revision`` and ``:weight`` where needed.
    out
        Folder of the merged checkpoint, which has to be named.
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
    >>> import safetensors.numpy
    >>> from carrick.adapters.example import write_example
    >>> base, adapter = write_example()
    >>> report = merge_into_base(base, [f"{adapter}:-1"], base.parent / "merged")
    >>> safetensors.numpy.load_file(report.out / "model.safetensors")["h.0.q.weight"].tolist()
    [[-1.0, -1.0, -1.0], [-1.0, -1.0, -1.0]]
    """
    if base is None:
        raise ConfigError(
            "--dense (dense=True) writes a checkpoint: name the base to merge into with --base BASE (base=…)"
        )
    if out is None:
        raise ConfigError("dense=True writes a checkpoint, which no report holds: name its folder, out=…")
    if method.startswith("knots_"):
        raise ConfigError(
            f"`{method}` makes an adapter without loss: merge without --dense, then `carrick adapters apply` it"
        )
    if method not in _ON_BASE:
        hint = nearest(method, _ON_BASE) or f"; the methods for --dense are {', '.join(_ON_BASE)}"
        raise ConfigError(f"`{method}` is not a merge method of updates on a base{hint}")
    row = methods.load()[method]
    given = dict(parameters or {})
    if variant is None and "variant" not in given:
        variant = default_variant(row)
    elif not row.variants:
        raise ConfigError(f"`{method}` has no variants; leave the variant out")
    defaults: dict[str, Any] = {"normalize": False}
    if method == "magnitude_prune":
        defaults["kept_count"] = "floor"  # as for the other methods on updates
    reading = row.variant(str(variant or given.get("variant")))
    # What a variant says itself comes before what holds for adapters, and what is written before both.
    given = defaults | dict(reading.options if reading else ()) | given
    refs, own = split_weights([str(adapter) for adapter in adapters], weights)
    config = document_of(
        list(map(str, refs)),
        method="task_arithmetic" if method in _SUMS else method,
        weights=[1.0] * len(refs) if own is None else own,
        density=density,
        variant=variant,
        parameters=given,
        top={"base_model": str(base), "dtype": dtype, "seed": seed},
    )
    for entry, ref in zip(config["models"], refs, strict=True):
        entry["model"] = on_base(base, [ref])
    with naming_adapter(lambda: map(open_reference, refs)):
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
