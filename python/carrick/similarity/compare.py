"""`carrick.similarity`: from what a user named to a finished comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from carrick.checkpoints import find, find_path
from carrick.checkpoints.find import HubFiles
from carrick.errors import ConfigError
from carrick.memory import budget, container_limit, memory_in_use
from carrick.names import public_name
from carrick.similarity import adapters as adapter_side
from carrick.similarity import checkpoints as checkpoint_side
from carrick.similarity.groups import by_layer, by_module
from carrick.similarity.result import Likeness, Similarity, likeness
from carrick.similarity.sums import PairSums, add_up

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from carrick.adapters.adapter import Adapter
    from carrick.checkpoints import Checkpoint
    from carrick.progress import Progress

# What tells an adapter on the Hub from a checkpoint, without its weights.
_TELLING = HubFiles(("*adapter_config.json",), ("checkpoint-*",))


def similarity(
    models: Sequence[str | Path],
    base: str | Path | None = None,
    *,
    signs: bool | None = None,
    exclude: Sequence[str] = (),
    memory: str | int | None = None,
    threads: int | None = None,
    download: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Similarity:
    """Compare the task vectors of models, pair by pair: cosine similarity, norms and sign conflicts.

    A task vector is what fine-tuning changed: the difference of a checkpoint from its base, or ΔW = s·B·A of an
    adapter. Checkpoints are streamed in one pass, in constant memory; adapters are compared from their factors.

    Parameters
    ----------
    models
        Two or more checkpoints (model folders, safetensors files, Hub ids in the local cache), or two or more
        PEFT adapters.
    base
        The checkpoint that the models were trained from. Checkpoints need it; adapters do not.
    signs
        Count sign conflicts. By default checkpoints only, where it costs nothing: of adapters the dense ΔW has
        to be formed, block by block.
    exclude
        Regular expressions, searched in names: tensors (or modules) that are left out.
    memory
        What the engine may allocate for checkpoints, such as ``"512MiB"`` or bytes; 1 GiB by default.
    threads
        Worker threads for checkpoints; all usable CPUs by default. The result does not depend on them.
    download
        Fetch models from the Hub that are not in the local cache.
    progress
        Called about ten times a second, for adapters once a module; an exception from it stops the run.

    Returns
    -------
    Similarity
        Of the whole model, each layer, each kind of module and each tensor.

    Raises
    ------
    ConfigError, PlanError, FormatError
        Fewer than two models, checkpoints without a base, checkpoints beside adapters, different shapes, NaN
        or infinities.

    Examples
    --------
    >>> import numpy as np, pathlib, safetensors.numpy, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for name, values in {"base": [1, 1, 1], "math": [1, 2, 3], "code": [1, 2, -1]}.items():
    ...     tensors = {"w": np.array(values, np.float32)}
    ...     safetensors.numpy.save_file(tensors, folder / f"{name}.safetensors")
    >>> models = [folder / "math.safetensors", folder / "code.safetensors"]
    >>> found = similarity(models, base=folder / "base.safetensors")
    >>> round(found.whole.cosine[0][1], 4), found.whole.sign_conflicts[0][1]
    (-0.6, 0.5)
    """
    refs = _refs(models)
    if threads is not None and threads < 1:
        raise ConfigError(f"threads is {threads}: it must be at least 1")
    allowed, capped = budget(memory, container_limit(), memory_in_use())
    notes = [capped] if capped else []
    if _kind(refs, download=download) == "adapters":
        if base is not None:
            notes.append(f"the base {base} is not read: the factors of an adapter are its task vector")
        return _of_adapters(refs, notes, progress, signs=bool(signs), exclude=exclude, download=download)
    options = {"memory": allowed, "threads": threads}
    return _of_checkpoints(
        refs, base, notes, options, progress, signs=signs, exclude=exclude, download=download
    )


def _refs(models: Sequence[str | Path]) -> list[str]:
    if isinstance(models, str):
        raise ConfigError(f"models is {models!r}: give a list of two or more models")
    refs = [str(model) for model in models]
    if len(refs) < 2:
        only = f" ({refs[0]})" if refs else ""
        raise ConfigError(f"similarity needs two models or more, and {len(refs)} was given{only}")
    return refs


def _kind(refs: Sequence[str], *, download: bool) -> Literal["checkpoints", "adapters"]:
    adapters = [ref for ref in refs if is_adapter(ref, download=download)]
    if not adapters:
        return "checkpoints"
    if len(adapters) < len(refs):
        other = next(ref for ref in refs if ref not in adapters)
        raise ConfigError(
            f"{adapters[0]}: is an adapter, and {other} a checkpoint; fold the adapter into its base "
            f"(carrick adapters apply BASE {adapters[0]} -o OUT) and compare OUT"
        )
    return "adapters"


def is_adapter(ref: str, *, download: bool = False) -> bool:
    """Tell whether a model is an adapter, or a folder of adapters, rather than a checkpoint.

    Raises
    ------
    FormatError
        Nothing is there.
    """
    path, _ = find_path(ref, download=download, files=_TELLING)
    if not path.is_dir() or any(path.glob("model*.safetensors*")):
        return False
    return (path / "adapter_config.json").exists() or any(path.glob("*/adapter_config.json"))


def _of_checkpoints(
    refs: Sequence[str],
    base: str | Path | None,
    notes: list[str],
    options: dict[str, int | None],
    progress: Callable[[Progress], None] | None,
    *,
    signs: bool | None,
    exclude: Sequence[str],
    download: bool,
) -> Similarity:
    if base is None:
        raise ConfigError(
            f"{refs[0]}: is a checkpoint, and its task vector is the difference from its base; name the base: "
            "--base BASE (base=…)"
        )
    if is_adapter(str(base), download=download):
        raise ConfigError(
            f"{base}: is an adapter; --base is the checkpoint that the models were trained from"
        )
    first, *models = [find(ref, download=download) for ref in [str(base), *refs]]
    lineup = checkpoint_side.line_up(first, models, exclude)
    notes = [*notes, *(note for each in [first, *models] for note in each.notes), *lineup.notes]
    sums = checkpoint_side.measure(first, models, lineup.names, options, progress)
    if signs is False:
        sums = {name: PairSums(each.elements, each.products) for name, each in sums.items()}
    base_name, *names = _names([first, *models])
    prefixes = {stack.prefix for stack in first.stacks}
    return _result("checkpoints", names, sums, notes, base=base_name, prefixes=prefixes)


def _of_adapters(
    refs: Sequence[str],
    notes: list[str],
    progress: Callable[[Progress], None] | None,
    *,
    signs: bool,
    exclude: Sequence[str],
    download: bool,
) -> Similarity:
    from carrick.adapters.adapter import read_adapter  # noqa: PLC0415  (wanted for adapters alone)

    adapters = [read_adapter(ref, download=download) for ref in refs]
    lineup = adapter_side.line_up(adapters, exclude)
    sums = adapter_side.measure(adapters, lineup.modules, progress, signs=signs)
    return _result("adapters", _names(adapters), sums, notes + lineup.notes)


def _names(models: Sequence[Checkpoint | Adapter]) -> list[str]:
    """Short names where they tell the models apart, and what was asked for where they do not."""
    entries = [{"ref": m.ref, "revision": m.revision, "folder": str(m.folder)} for m in models]
    names = [public_name(entry) for entry in entries]
    return [m.ref if names.count(name) > 1 else name for m, name in zip(models, names, strict=True)]


def _result(
    kind: Literal["checkpoints", "adapters"],
    models: list[str],
    sums: dict[str, PairSums],
    notes: list[str],
    *,
    base: str | None = None,
    prefixes: Collection[str] | None = None,
) -> Similarity:
    whole = likeness("model", add_up(list(sums.values())))
    zero = [model for model, norm in zip(models, whole.norms, strict=True) if norm == 0]
    notes += [f"{model}: its task vector is zero, and so are its cosines" for model in zero]
    return Similarity(
        kind,
        models,
        base,
        whole,
        _parts(sums, by_layer(sums, prefixes)),
        _parts(sums, by_module(sums)),
        [likeness(name, each) for name, each in sums.items()],
        list(dict.fromkeys(notes)),
    )


def _parts(sums: dict[str, PairSums], groups: dict[str, list[str]]) -> list[Likeness]:
    return [likeness(name, add_up([sums[each] for each in held])) for name, held in groups.items()]
