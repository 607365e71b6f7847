"""`carrick.similarity`: from what a user named to a finished comparison."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal

from carrick.config.model_ref import AdapterRef, ModelRef
from carrick.errors import ConfigError
from carrick.memory import budget, container_limit, memory_in_use
from carrick.names import full_name, public_name
from carrick.plan.lineup import open_refs
from carrick.similarity import adapters as adapter_side
from carrick.similarity import checkpoints as checkpoint_side
from carrick.similarity.groups import by_layer, by_module
from carrick.similarity.references import read_base, read_models
from carrick.similarity.result import Likeness, Similarity, likeness
from carrick.similarity.sums import PairSums, add_up
from carrick.threads import check_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from carrick.adapters.adapter import Adapter
    from carrick.adapters.in_memory import StateDict
    from carrick.checkpoints import Checkpoint
    from carrick.plan.lineup import Model
    from carrick.progress import Progress


def similarity(
    models: Sequence[str | Path | StateDict],
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
    A checkpoint with adapters is never written: what these change is computed block by block.

    Parameters
    ----------
    models
        Two or more checkpoints (model folders, safetensors files, Hub ids in the local cache), with adapters on
        them where wanted (``base+adapter:0.5``); or two or more PEFT adapters, with a weight where it is not 1. Pairs
        of a PEFT state dict and its configuration (a mapping, or a `peft.LoraConfig`) are adapters in memory.
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
    check_threads(threads)
    with ExitStack() as stack:
        refs = read_models(models, stack, download=download)
        allowed, capped = budget(memory, container_limit(), memory_in_use())
        notes = [capped] if capped else []
        if not any(isinstance(ref, ModelRef) for ref in refs):
            if base is not None:
                notes.append(f"the base {base} is not read: the factors of an adapter are its task vector")
            adapters = [ref for ref in refs if isinstance(ref, AdapterRef)]
            return _of_adapters(
                adapters, notes, progress, signs=bool(signs), exclude=exclude, download=download
            )
        everyone = _on_base(base, refs, download=download)
        options = {"memory": allowed, "threads": threads}
        return _of_checkpoints(
            everyone, notes, options, progress, signs=signs, exclude=exclude, download=download
        )


def _on_base(
    base: str | Path | None, refs: Sequence[ModelRef | AdapterRef], *, download: bool
) -> list[ModelRef]:
    """Return the base and the checkpoints to compare with it, of which there is one at least."""
    adapters = [ref for ref in refs if isinstance(ref, AdapterRef)]
    checkpoints = [ref for ref in refs if isinstance(ref, ModelRef)]
    if adapters:
        raise ConfigError(
            f"{adapters[0]}: is an adapter, and {checkpoints[0]} a checkpoint; give the adapter on its base, as "
            f"BASE+{adapters[0]}"
        )
    if base is None:
        raise ConfigError(
            f"{checkpoints[0]}: is a checkpoint, and its task vector is the difference from its base; name the base: "
            "--base BASE (base=…)"
        )
    return [read_base(base, download=download), *checkpoints]


def _of_checkpoints(
    refs: Sequence[ModelRef],
    notes: list[str],
    options: dict[str, int | None],
    progress: Callable[[Progress], None] | None,
    *,
    signs: bool | None,
    exclude: Sequence[str],
    download: bool,
) -> Similarity:
    """Compare checkpoints, of which the first one is the base."""
    opened = open_refs(refs, {}, download=download)
    base, *models = [opened[ref] for ref in refs]
    first, *others = [model.checkpoint for model in (base, *models)]
    lineup = checkpoint_side.line_up(first, others, exclude)
    notes = [*notes, *(note for each in [first, *others] for note in each.notes), *lineup.notes]
    changed = changed_tensors([base, *models], lineup.names)
    stored = [name for name in lineup.names if name not in changed]
    sums = checkpoint_side.measure(first, others, stored, options, progress)
    if changed:
        from carrick.adapters.finite import naming_adapter  # noqa: PLC0415
        from carrick.similarity.adapted import measure  # noqa: PLC0415  (NumPy, which stored tensors do not need)

        files = [record for model in opened.values() for record in model.checkpoint.files]
        computed = [name for name in lineup.names if name in changed]
        with naming_adapter(lambda: (one.adapter for model in opened.values() for one in model.adapters)):
            sums |= measure(base, models, computed, files, progress)
        sums = {name: sums[name] for name in lineup.names}
    if signs is False:
        sums = {name: PairSums(each.elements, each.products) for name, each in sums.items()}
    base_name, *names = _short([_name_of(model) for model in (base, *models)], refs)
    prefixes = {stack.prefix for stack in first.stacks}
    return _result("checkpoints", names, sums, notes, base=base_name, prefixes=prefixes)


def changed_tensors(everyone: Sequence[Model], names: Sequence[str]) -> set[str]:
    """Names of the tensors that adapters change beyond putting another stored one in their place."""
    return {
        name for name in names if any(model.changes(model.checkpoint.tensors[name]) for model in everyone)
    }


def _of_adapters(
    refs: Sequence[AdapterRef],
    notes: list[str],
    progress: Callable[[Progress], None] | None,
    *,
    signs: bool,
    exclude: Sequence[str],
    download: bool,
) -> Similarity:
    from carrick.adapters.adapter import read_adapter  # noqa: PLC0415  (wanted for adapters alone)
    from carrick.adapters.forms import in_one_form  # noqa: PLC0415

    read = [read_adapter(ref.path, revision=ref.revision, download=download) for ref in refs]
    adapters, renamed = in_one_form(read)
    weights = [ref.weight for ref in refs]
    lineup = adapter_side.line_up(adapters, exclude)
    sums = adapter_side.measure(adapters, weights, lineup.modules, progress, signs=signs)
    pairs = zip(adapters, weights, strict=True)
    names = [str(AdapterRef(public_name(_entry(adapter)), weight=weight)) for adapter, weight in pairs]
    return _result("adapters", _short(names, refs), sums, notes + renamed + lineup.notes)


def _short(names: list[str], asked: Sequence[ModelRef | AdapterRef]) -> list[str]:
    """Short names where they tell the models apart, and what was asked for where they do not."""
    return [str(ref) if names.count(name) > 1 else name for name, ref in zip(names, asked, strict=True)]


def _name_of(model: Model) -> str:
    adapters = [{**_entry(one.adapter), "weight": one.weight} for one in model.adapters]
    return full_name({**_entry(model.origin), "adapters": adapters})


def _entry(model: Checkpoint | Adapter) -> dict[str, Any]:
    """Describe a model as a plan does."""
    return {"ref": model.ref, "revision": model.revision, "folder": str(model.folder)}


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
