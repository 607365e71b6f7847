"""Train everything, then take back what one side does not need: reset against freeze (XLT §6, Table 2).

Of a checkpoint the other side's tensors are the base's again, byte for byte: a `layer_swap` of the tuned model and
the base. Of an adapter the other side's modules are dropped, so that nothing is added to the base there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carrick import _core
from carrick.adapters.adapter import read_adapter
from carrick.adapters.folder import CONFIG, WEIGHTS, is_adapter
from carrick.adapters.keys import base_name
from carrick.adapters.write import METADATA, adapter_config, write_config
from carrick.checkpoints import find
from carrick.errors import ConfigError
from carrick.home import absolute
from carrick.merge import merge
from carrick.output_folder import check_replaceable
from carrick.partial import PartialFolder
from carrick.plan.output import check_named_inputs
from carrick.train.partition import Sides, described, trained_side

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from carrick.adapters.adapter import Adapter, LoraModule
    from carrick.checkpoints import Checkpoint
    from carrick.train.recipe import Partition


def reset(
    base: str | Path, tuned: str | Path, out: str | Path, partition: Partition, *, force: bool = False
) -> dict[str, Any]:
    """Write a tuned model, or adapter, with everything outside a partition's side as it was before the training.

    The counterpart of training with the same `partition`: there everything else is frozen, here it is reset.

    Parameters
    ----------
    base
        The model that both began with.
    tuned
        A checkpoint, or an adapter, that was trained in full.
    out
        Folder of the result.
    partition
        Which side keeps its training.
    force
        Replace a model that is already at ``out``.

    Returns
    -------
    dict
        What was done: the partition, and tensors (of an adapter: modules) kept and reset.

    Raises
    ------
    ConfigError
        Nothing would be kept.
    PlanError, FormatError
        The models do not fit each other, or the partition does not fit the model.
    """
    side = trained_side(partition)
    what = {**partition.model_dump(exclude_none=True), "side": side}
    if is_adapter(str(tuned)):
        return what | _reset_adapter(base, tuned, absolute(out), partition, force=force)
    # The first listed gives the task's side, the second the language's.
    order = (tuned, base) if side == "task" else (base, tuned)
    models = [{"model": str(ref)} for ref in order]
    chosen: dict[str, Any] = (
        {"parameters": {"partition": partition.name}}
        if partition.name
        else {"layers": {"match": partition.match}}
    )
    merge({"merge_method": "layer_swap", "models": models, **chosen}, out, force=force)
    sides = _sides(find(str(base)), partition)
    given = [sides.of(name) for name in find(str(out)).tensors]
    return what | {"kept": given.count(side), "reset": len(given) - given.count(side)}


def _sides(checkpoint: Checkpoint, partition: Partition) -> Sides:
    elements = {name: tensor.elements for name, tensor in checkpoint.tensors.items()}
    return Sides(elements, partition, stacks=checkpoint.stacks)


def _reset_adapter(
    base: str | Path, tuned: str | Path, out: Path, partition: Partition, *, force: bool
) -> dict[str, int]:
    """Write an adapter without the modules of the other side."""
    adapter = read_adapter(tuned)
    if adapter.saved or adapter.biases or adapter.tokens:
        raise ConfigError(
            f"{tuned}: holds more than LoRA factors (modules trained whole, biases or tokens), which have no side; "
            "apply it to its base and reset the checkpoint"
        )
    checkpoint = find(str(base))
    sides = _sides(checkpoint, partition)
    kept = [
        module
        for module in adapter.modules.values()
        if sides.of(base_name(module, checkpoint.tensors)) == trained_side(partition)
    ]
    if not kept:
        raise ConfigError(f"{described(partition)}: {tuned} has no module there; nothing would be left of it")
    check_replaceable(out, force=force)
    check_named_inputs(out, [str(base), str(tuned)])
    with PartialFolder(out) as partial:
        _write(adapter, kept, partial.path)
        partial.prepare_commit({WEIGHTS, CONFIG})
        _core.commit(str(partial.path), str(out), [WEIGHTS], force)
    return {"kept": len(kept), "reset": len(adapter.modules) - len(kept)}


def _write(adapter: Adapter, kept: Sequence[LoraModule], folder: Path) -> None:
    from safetensors.torch import load_file, save_file  # noqa: PLC0415  (torch, for bfloat16)

    stored = {name: tensor for file in adapter.files for name, tensor in load_file(file.path).items()}
    # Beside its factors a module may have the bias of B and DoRA's magnitudes.
    wanted = {f"{module.path}.{part}" for module in kept for part in ("lora_B.bias", "lora_magnitude_vector")}
    names = [name for module in kept for name in (module.a_name, module.b_name)]
    names += [key for name, key in adapter.keys.items() if name in wanted]
    save_file({name: stored[name] for name in names}, folder / WEIGHTS, METADATA)
    config = adapter_config(
        adapter.config,
        {module.path: module.rank for module in kept},
        # α over r is the scale that the module has now, rsLoRA or not.
        alphas={module.path: module.scale * module.rank for module in kept},
        use_dora=adapter.config.use_dora,
        lora_bias=adapter.config.lora_bias,
    )
    write_config(folder, config)
