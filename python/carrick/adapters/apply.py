"""`carrick.adapters.apply`: adapters folded into their base, streamed, tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from carrick.adapters.finite import naming_adapter
from carrick.adapters.in_memory import as_folder, as_folders, is_state_dict
from carrick.adapters.references import on_base, open_reference, read_references
from carrick.errors import ConfigError
from carrick.merge import merge
from carrick.plan import KEEP

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from carrick.adapters.in_memory import StateDict
    from carrick.progress import Progress
    from carrick.report import MergeReport


def apply(
    base: str | Path,
    adapters: str | Path | StateDict | Sequence[str | Path | Mapping[str, Any] | StateDict],
    out: str | Path,
    *,
    dtype: str | None = None,
    memory: str | int | None = None,
    threads: int | None = None,
    shard_size: str | int | None = None,
    seed: int | None = None,
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
        mapping of `path`, `revision` and `weight`. In the place of a path, a pair of a PEFT state dict and its
        configuration (a mapping, or a `peft.LoraConfig`).
    out
        Folder of the result, made by one rename at the end.
    dtype
        Element type of the output; by default that of the base.
    memory, threads, dry_run, force, read, check_finite, hash_inputs, download, progress
        As for :func:`carrick.merge`.
    shard_size
        Largest shard, such as ``"5GB"``; by default every tensor stays in the shard that the base has it in.
    seed
        Recorded in carrick.json, 0 by default. Nothing is drawn at random, so that no weight depends on it.

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
    >>> report = apply(base, f"{adapter}:0.5", base.parent / "merged")
    >>> safetensors.numpy.load_file(report.out / "model.safetensors")["h.0.q.weight"].tolist()
    [[2.0, 2.0, 2.0], [2.0, 2.0, 2.0]]
    """
    with ExitStack() as stack:
        refs = read_references(_on_disk(adapters, stack))
        model = on_base(base, refs)
        if not model["lora"]:
            raise ConfigError("nothing to apply: give at least one adapter", key="adapters")
        config: dict[str, Any] = {"merge_method": "passthrough", "models": [{"model": model}]}
        if dtype is not None:
            config["dtype"] = dtype
        with naming_adapter(lambda: map(open_reference, read_references(model["lora"]))):
            return merge(
                config,
                out,
                memory=memory,
                threads=threads,
                shard_size=KEEP if shard_size is None else shard_size,
                seed=seed,
                dry_run=dry_run,
                force=force,
                read=read,
                check_finite=check_finite,
                hash_inputs=hash_inputs,
                download=download,
                progress=progress,
            )


def _on_disk(adapters: Any, stack: ExitStack) -> Sequence[str | Mapping[str, Any]]:
    """Return a reference to each adapter; those in memory are written to temporary folders."""
    alone = isinstance(adapters, str | Path) or is_state_dict(adapters)
    listed = [adapters] if alone else adapters
    if not isinstance(listed, Iterable):
        return as_folders(listed, stack)  # says what would do
    found: list[str | Mapping[str, Any]] = []
    for number, one in enumerate(listed, 1):
        what = f"adapter {number}"
        if not isinstance(one, Mapping):
            found.append(as_folder(one, what, stack))
        elif isinstance(one.get("path"), tuple):
            found.append({**one, "path": as_folder(one["path"], what, stack)})
        else:
            found.append(one)
    return found
