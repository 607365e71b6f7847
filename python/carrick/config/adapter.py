"""What only a merge of LoRA adapters is asked: its rank, its space, what becomes of modules saved whole."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast

from carrick.config.keys import ADAPTER_KEYS
from carrick.config.tree import ListNode, MapNode, Scalar, as_choice, as_count, as_text, shown

if TYPE_CHECKING:
    from carrick.config.tree import Node
    from carrick.methods import Method

MAX_RANK = 1 << 20
# Methods of checkpoints that mean something on updates. (The others walk between whole models.)
MERGING = ("linear", "task_arithmetic", "ties", "dare_linear", "dare_ties", "magnitude_prune", "layer_swap")
OF_CHECKPOINTS = {"outside_layers": "each of their modules has a basis"}
"""Parameters that mean nothing for adapters, and why."""


@dataclass(frozen=True, slots=True)
class AdapterOptions:
    """Options of a merge of adapters.

    Attributes
    ----------
    rank : rank of the result; None keeps it exact
    energy : share of Σσ² that the result keeps, in place of a rank
    space : merge the updates ΔW = s·B·A, or A and B apart as PEFT does
    precision : type of the decompositions' products
    modules_to_save : `refuse`, `merge` (as task vectors; needs the base), or the adapter to keep them from
    """

    rank: int | None = None
    energy: float | None = None
    space: Literal["delta", "factors"] = "delta"
    precision: Literal["float32", "float64"] = "float32"
    modules_to_save: str = "refuse"


def read_adapter_options(node: MapNode) -> AdapterOptions:
    """Return the adapter options of a document.

    Raises
    ------
    ConfigError
        A value that none of them takes, or `rank` beside `energy`.
    """
    rank, energy = node.get("rank"), node.get("energy")
    if rank is not None and energy is not None:
        raise node.keys["energy"].error("`rank` and `energy` both set the rank; remove one of them")
    space = _choice(node, "space", ("delta", "factors"))
    precision = _choice(node, "precision", ("float32", "float64"))
    saved = node.get("modules_to_save")
    return AdapterOptions(
        None if rank is None else _rank(rank),
        None if energy is None else _energy(energy),
        cast('Literal["delta", "factors"]', space or "delta"),
        cast('Literal["float32", "float64"]', precision or "float32"),
        "refuse" if saved is None else _saved(saved),
    )


def refuse_adapter_options(node: MapNode, method: Method) -> None:
    """Raise where a merge of checkpoints is asked what only adapters have; a basis of KnOTS may have a rank."""
    allowed = ("rank",) if method.family == "factored" else ()
    for key in ADAPTER_KEYS:
        if node.get(key) is not None and key not in allowed:
            raise node.keys[key].error(
                f"`{key}` belongs to a merge of adapters, and the models listed here are checkpoints; remove it"
            )


def refuse_whole_checkpoints(method: Method, node: Node) -> None:
    """Raise for a method that means nothing on updates."""
    if method.family != "factored" and method.name not in MERGING:
        raise node.where.error(
            f"`{method.name}` merges whole checkpoints, and the models listed are adapters; "
            f"the methods for these are cat, {', '.join(MERGING)} and the knots_ ones; in a YAML, those that "
            "are listed on their base (BASE+ADAPTER) are checkpoints"
        )


def for_adapters(method: Method) -> Method:
    """Return the row of a method as it holds for adapters.

    Updates need no base, weights are 1 (a sum) unless said otherwise, nothing is divided by their sum unless a variant
    does, and what speaks of whole checkpoints is left out.
    """
    parameters = []
    for parameter in method.parameters:
        if parameter.name in OF_CHECKPOINTS:
            continue
        change: dict[str, Any] = {}
        if parameter.name == "weight":
            change = {"required": False, "default": 1.0}
        elif parameter.name == "normalize":
            change = {"default": False}
        elif parameter.name == "kept_count" and method.name == "magnitude_prune":
            change = {"default": "floor"}  # PEFT's, as that of the variant which `ties` has for adapters
        parameters.append(replace(parameter, **change))
    # The base of `linear` holds the modules that adapters save whole.
    base = "optional" if method.base == "required" or method.name == "linear" else method.base
    return replace(method, parameters=tuple(parameters), base=base)


def refuse_weights(node: MapNode, method: Method) -> None:
    """Raise for a weight of an adapter that is copied as it is, by `layer_swap`.

    Raises
    ------
    ConfigError
        It is not 1, which changes nothing.
    """
    if method.name != "layer_swap":
        return
    models = node.get("models")
    for holder in (node, *(models.items if isinstance(models, ListNode) else ())):
        parameters = holder.get("parameters") if isinstance(holder, MapNode) else None
        weight = parameters.get("weight") if isinstance(parameters, MapNode) else None
        if weight is not None and not (isinstance(weight, Scalar) and weight.value in {1, "1", "1.0"}):
            raise weight.where.error(
                f"the weight is {shown(weight)}, and `layer_swap` copies each module as it is; leave the weight out, "
                "or merge with `cat`, where weights may differ from layer to layer"
            )


def default_variant(method: Method) -> str | None:
    """Name the reading that a method has for adapters: PEFT's, or the published one for KnOTS."""
    if method.family == "factored" or method.variant("peft") is None:
        return None
    return "peft"


def _rank(node: Node) -> int:
    return as_count(node, "`rank`", least=1, limit=MAX_RANK)


def _energy(node: Node) -> float:
    value = node.value if isinstance(node, Scalar) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value <= 1.0:
        raise node.where.error(f"`energy` is {shown(node)}; it has to be a number above 0, up to 1")
    return float(value)


def _saved(node: Node) -> str:
    """Return the policy; the number of an adapter is text on the command line, and a number in YAML."""
    value = node.value if isinstance(node, Scalar) else None
    return str(value) if type(value) is int else as_text(node, "`modules_to_save`")


def _choice(node: MapNode, key: str, choices: tuple[str, ...]) -> str | None:
    value = node.get(key)
    return None if value is None else as_choice(value, f"`{key}`", choices)
