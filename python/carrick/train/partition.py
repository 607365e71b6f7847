"""Which parameters belong to the language and which to the task (XLT §3.3), for models that train.

The table of roles and the counts of layers are those of the merge `layer_swap`, so that what is trained here is
what is swapped there: embeddings, head and final norm belong to the task.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from carrick.checkpoints import find_stacks
from carrick.config import load
from carrick.errors import ConfigError
from carrick.plan.layer_swap import LANGUAGE, TASK, Experts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from carrick.checkpoints import Stack
    from carrick.train.recipe import Partition

Side = Literal["language", "task"]


def trained_side(partition: Partition) -> Side:
    """Tell which side trains; with `match` that of what is found, the language's, unless said otherwise.

    Raises
    ------
    ConfigError
        A named partition without a side.

    Examples
    --------
    >>> from carrick.train.recipe import Partition
    >>> trained_side(Partition(match="mlp")), trained_side(Partition(name="B", side="task"))
    ('language', 'task')
    """
    if partition.side is not None:
        return partition.side
    if partition.name is not None:
        raise ConfigError(
            f"`partition` {partition.name} has two sides; say which one trains: `side: task` or `side: language`"
        )
    return "language"


def described(partition: Partition) -> str:
    """Name a partition in messages.

    >>> from carrick.train.recipe import Partition
    >>> described(Partition(name="B", side="task"))
    'partition B, side task'
    """
    what = f"partition {partition.name}" if partition.name else f"`match: {partition.match}`"
    return what if partition.side is None else f"{what}, side {partition.side}"


class Sides:
    """Tells for each parameter of a model whose it is.

    Parameters
    ----------
    elements
        Name of every parameter, as a checkpoint has them, to its number of elements.
    partition
        How they are divided.
    stacks
        Its stacks of layers, where they are known; by default those that the names tell.

    Raises
    ------
    PlanError
        The model has no layers, or too few for both sides.

    Examples
    --------
    >>> from carrick.train.recipe import Partition
    >>> names = [f"model.layers.{i}.mlp.{p}_proj.weight" for i in range(4) for p in ("gate", "up", "down")]
    >>> sides = Sides(dict.fromkeys([*names, "lm_head.weight"], 10), Partition(name="B"))
    >>> [sides.of(f"model.layers.{i}.mlp.up_proj.weight") for i in range(4)], sides.of("lm_head.weight")
    (['language', 'task', 'task', 'language'], 'task')
    """

    def __init__(
        self, elements: Mapping[str, int], partition: Partition, *, stacks: Sequence[Stack] | None = None
    ) -> None:
        chosen: dict[str, Any] = (
            {"parameters": {"partition": partition.name}}
            if partition.name
            else {"layers": {"match": partition.match}}
        )
        models = [{"model": TASK}, {"model": LANGUAGE}]  # in this order; neither is opened
        (document,) = load({"merge_method": "layer_swap", "models": models, **chosen}, adapters=True)
        self._experts = Experts(document, find_stacks(elements) if stacks is None else stacks, elements)

    def of(self, name: str) -> Side:
        """Tell a parameter's side.

        Raises
        ------
        PlanError
            The name fits no row of the table of roles.
        """
        return "language" if self._experts.giver(name) == LANGUAGE else "task"


def sides_of(model: Any, partition: Partition) -> dict[str, Side]:
    """Tell the side of every trainable or frozen parameter of a live model, LoRA factors among them.

    Factors of an adapter are on the side of the weight that they change.

    Parameters
    ----------
    model
        A ``torch.nn.Module``: a transformers model, a PeftModel of it, or a module that holds one.
    partition
        How its parameters are divided.

    Returns
    -------
    Parameter name, as ``named_parameters`` has it, to side.
    """
    stored = {name: stored_name(name) for name, _ in model.named_parameters()}
    elements = {stored[name]: p.numel() for name, p in model.named_parameters() if not _is_factor(name)}
    sides = Sides(elements, partition)
    return {name: sides.of(stored[name]) for name in stored}


def train_only(model: Any, partition: Partition) -> dict[str, Any]:
    """Freeze every parameter of a live model that is not on the side that trains.

    What was frozen before stays frozen: of a PeftModel only factors train.

    Parameters
    ----------
    model
        The model; `requires_grad` of its parameters is changed.
    partition
        Which of them train.

    Returns
    -------
    dict
        For the record: the partition, and elements and names of what trains.

    Raises
    ------
    ConfigError
        Nothing would train.
    """
    sides = sides_of(model, partition)
    trained = trained_side(partition)
    names = []
    for name, parameter in model.named_parameters():
        if sides[name] != trained:
            parameter.requires_grad_(False)
        elif parameter.requires_grad:
            names.append(name)
    if not names:
        raise ConfigError(
            f"{described(partition)}: none of the model's trainable parameters is there; nothing would train"
        )
    elements = {name: parameter.numel() for name, parameter in model.named_parameters()}
    return {
        **partition.model_dump(exclude_none=True),
        "side": trained,
        "trained_parameters": sum(elements[name] for name in names),
        "trained_tensors": len(names),
    }


def check_partition(model: Any, targets: Iterable[str] | None, partition: Partition) -> None:
    """Refuse a partition that leaves nothing to train; a model without memory for its weights will do.

    Parameters
    ----------
    model
        The base model.
    targets
        Full paths of the modules that an adapter is put on; None where the model itself trains.
    partition
        What is trained of them.

    Raises
    ------
    ConfigError, PlanError
        Nothing would train, a side is not named, or the model has too few layers.
    """
    if targets is not None:
        modules_of(model, targets, partition)
    elif trained_side(partition) not in sides_of(model, partition).values():
        raise ConfigError(f"{described(partition)}: no parameter of the model is there; nothing would train")


def modules_of(model: Any, modules: Iterable[str], partition: Partition) -> list[str]:
    """Return those of some modules whose weights are on the side that trains; the targets of a partial LoRA.

    "Parameters are frozen if no adapter is added for that parameter" (XLT §4.1).

    Parameters
    ----------
    model
        The base model.
    modules
        Full paths of its modules, such as ``model.layers.0.self_attn.q_proj``.
    partition
        Which of them are adapted.

    Raises
    ------
    ConfigError
        None is left.
    """
    modules = list(modules)
    sides = Sides({name: p.numel() for name, p in model.named_parameters()}, partition)
    chosen = [path for path in modules if sides.of(f"{path}.weight") == trained_side(partition)]
    if not chosen:
        raise ConfigError(
            f"{described(partition)}: none of the {len(modules)} modules of `targets` is there; add "
            "targets or choose another partition"
        )
    return chosen


_WRAPPERS = re.compile(r"^(?:module\.)?(?:base_model\.model\.)?")
_FACTOR = re.compile(r"\.lora_(?:A|B|embedding_A|embedding_B)\..+$")


def stored_name(name: str) -> str:
    """Name in the base's checkpoint of a live parameter, or of the weight that a LoRA factor changes.

    Examples
    --------
    >>> stored_name("base_model.model.model.layers.0.mlp.up_proj.base_layer.weight")
    'model.layers.0.mlp.up_proj.weight'
    >>> stored_name("base_model.model.model.layers.0.mlp.up_proj.lora_A.default.weight")
    'model.layers.0.mlp.up_proj.weight'
    """
    bare = _WRAPPERS.sub("", name).replace(".base_layer.", ".")
    return _FACTOR.sub(".weight", bare)


def _is_factor(name: str) -> bool:
    return _FACTOR.search(name) is not None
