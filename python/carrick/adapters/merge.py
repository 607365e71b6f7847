"""`carrick.adapters.merge`: LoRA adapters in, one LoRA adapter out."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal

from carrick.adapters.in_memory import as_folders, take_into_memory, target_of
from carrick.adapters.merging.engine import Engine
from carrick.adapters.merging.run import AdapterReport, merge_document
from carrick.adapters.references import split_weights
from carrick.adapters.request import document_of
from carrick.config import load
from carrick.memory import budget, container_limit, memory_in_use
from carrick.output_folder import check_replaceable
from carrick.progress import listener
from carrick.threads import check_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from carrick.adapters.in_memory import StateDict
    from carrick.adapters.weights import ByModule
    from carrick.progress import Progress


def merge(
    adapters: Sequence[str | Path | StateDict],
    out: str | Path | None = None,
    *,
    method: str = "cat",
    weights: Sequence[float | ByModule] | None = None,
    density: float | None = None,
    rank: int | None = None,
    energy: float | None = None,
    variant: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    space: Literal["delta", "factors"] = "delta",
    base: str | Path | None = None,
    dense: bool = False,
    modules_to_save: str = "refuse",
    precision: Literal["float32", "float64"] = "float32",
    dtype: str | None = None,
    seed: int | None = None,
    memory: str | int | None = None,
    threads: int | None = None,
    device: str = "cpu",
    force: bool = False,
    download: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> AdapterReport:
    """Merge LoRA adapters on ΔW = s·B·A, without ever forming it.

    Parameters
    ----------
    adapters
        PEFT folders or Hub ids, with ``@revision`` and ``:weight`` where needed, or pairs of a PEFT state dict and
        its configuration (a mapping, or a `peft.LoraConfig`) for adapters in memory.
    out
        Folder of the merged adapter, made by one rename at the end. None leaves it in memory: the report's
        `state_dict` and `config`.
    method
        `cat` (the exact weighted sum), `ties`, `knots_ties` and others: `carrick methods`.
    weights
        One for each adapter, where none is in its name; 1 by default, a sum. One that differs between modules is a
        list, as in a YAML: ``[{"filter": "self_attn", "value": 0.5}, {"value": 1}]``.
    density
        Fraction of each update that trims and drops keep.
    rank, energy
        Cut the result down to its best approximation of this rank, or with this share of Σσ².
    variant
        A published reading of the method.
    parameters
        Any other parameter of the method by name (`{"lambda": 0.6, "aggregate": "sum"}`).
    space
        `factors` merges A and B apart, as PEFT's `linear`, `ties` and others do.
    base
        The adapters' base, where modules saved whole are merged, and for `dense`.
    dense
        Merge into the base and write a checkpoint to `out`, in which nothing is lost to a rank; the report then has
        no modules and no configuration.
    modules_to_save
        `refuse`, `merge`, or the adapter (name or number from 1) to keep modules saved whole from.
    precision
        Type of a decomposition's products; sums and singular values are float64 always.
    dtype
        Element type of the output; that of the adapters by default.
    seed
        Key of random masks.
    memory, threads
        What the engine may allocate; its threads.
    device
        `cpu`, or a torch device (`cuda`) for KnOTS and merges to a rank; needs ``carrick[torch]``.
    force
        Replace an adapter that is already at ``out``.
    download
        Fetch adapters from the Hub that are not in the local cache.
    progress
        Called about ten times a second; an exception from it stops the run.

    Returns
    -------
    AdapterReport

    Raises
    ------
    ConfigError, PlanError, FormatError
        What was asked for cannot be done; nothing is left behind.

    Examples
    --------
    >>> import numpy as np
    >>> config = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["q"]}
    >>> key = "base_model.model.h.0.q"
    >>> state = {f"{key}.lora_A.weight": np.ones((1, 3)), f"{key}.lora_B.weight": np.ones((2, 1))}
    >>> merged = merge([(state, config), (state, config)], weights=[1, 0.5])
    >>> a, b = (merged.state_dict[f"{key}.lora_{f}.weight"] for f in "AB")
    >>> (b @ a).tolist(), merged.config["r"]
    ([[1.5, 1.5, 1.5], [1.5, 1.5, 1.5]], 2)
    """
    with ExitStack() as stack:
        folders = as_folders(adapters, stack)
        if dense:
            from carrick.adapters.dense import merge_into_base, refuse_for_checkpoints  # noqa: PLC0415

            refuse_for_checkpoints(
                rank=rank is not None,
                energy=energy is not None,
                space=space != "delta",
                modules_to_save=modules_to_save != "refuse",
                precision=precision != "float32",
                device=device != "cpu",
            )
            written = merge_into_base(
                base,
                folders,
                out,
                method=method,
                weights=weights,
                density=density,
                variant=variant,
                parameters=parameters,
                dtype=dtype,
                seed=seed,
                memory=memory,
                threads=threads,
                force=force,
                download=download,
                progress=progress,
            )
            return AdapterReport(**vars(written))
        refs, own = split_weights(folders, weights)
        config = document_of(
            list(map(str, refs)),
            method=method,
            weights=own,
            density=density,
            variant=variant,
            parameters=parameters,
            top={
                "rank": rank,
                "energy": energy,
                "space": space,
                "base_model": None if base is None else str(base),
                "modules_to_save": modules_to_save,
                "precision": precision,
                "dtype": dtype,
                "seed": seed,
            },
        )
        target = target_of(out, stack)
        check_replaceable(target, force=force)
        check_threads(threads)
        allowed, capped = budget(memory, container_limit(), memory_in_use())
        engine = Engine(allowed, threads, device, download, listener(progress))
        (document,) = load(config, adapters=True)
        report = merge_document(document, target, engine, force=force)
        report.notes += [capped] if capped else []
        if out is None:
            take_into_memory(report)
        return report
