"""Names of an adapter's tensors: what each key of the file is, and the base's tensor that it changes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple

from carrick.checkpoints import locate
from carrick.errors import PlanError
from carrick.suggestions import nearest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from carrick.adapters.module import LoraModule

Kind = Literal["linear", "embedding", "conv"]
Part = Literal["a", "b", "embedding_a", "embedding_b", "bias", "magnitude", "tokens", "plain"]

PREFIX = "base_model.model."

# An adapter's name may stand inside a key (`lora_A.default.weight`), as in the state of a live model.
_NAME = r"(?:\.[^.]+)?"
_PARTS: tuple[tuple[Part, re.Pattern[str]], ...] = (
    ("a", re.compile(rf"(.+)\.lora_A{_NAME}\.weight")),
    ("b", re.compile(rf"(.+)\.lora_B{_NAME}\.weight")),
    ("bias", re.compile(rf"(.+)\.lora_B{_NAME}\.bias")),
    ("embedding_a", re.compile(rf"(.+)\.lora_embedding_A{_NAME}")),
    ("embedding_b", re.compile(rf"(.+)\.lora_embedding_B{_NAME}")),
    ("magnitude", re.compile(rf"(.+)\.lora_magnitude_vector{_NAME}(?:\.weight)?")),
    ("tokens", re.compile(rf"(.+)\.token_adapter\.trainable_tokens_delta{_NAME}")),
)
_WRAPPERS = re.compile(r"\.(?:(?:token_adapter\.)?base_layer|modules_to_save(?:\.[^.]+)?)(?=\.[^.]+$)")


class Key(NamedTuple):
    """What a key of the file is: the part, and the module's path (`plain`: the tensor's name in the base)."""

    part: Part
    path: str


def parse(key: str) -> Key:
    """Tell what a key of an adapter file is.

    Examples
    --------
    >>> parse("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight")
    Key(part='a', path='model.layers.0.self_attn.q_proj')
    >>> parse("base_model.model.classifier.modules_to_save.weight")
    Key(part='plain', path='classifier.weight')
    >>> parse("base_model.model.model.embed_tokens.token_adapter.base_layer.weight")
    Key(part='plain', path='model.embed_tokens.weight')
    """
    name = key.removeprefix(PREFIX)
    for part, pattern in _PARTS:
        if match := pattern.fullmatch(name):
            return Key(part, match[1])
    # A wrapped module's own tensors are stored under the wrapper's names.
    return Key("plain", _WRAPPERS.sub("", name))


def tensor_names(path: str, kind: Kind) -> tuple[str, str]:
    """Keys of A and B on disk, as PEFT writes and expects them.

    Examples
    --------
    >>> tensor_names("h.0.attn.c_attn", "linear")
    ('base_model.model.h.0.attn.c_attn.lora_A.weight', 'base_model.model.h.0.attn.c_attn.lora_B.weight')
    >>> tensor_names("wte", "embedding")
    ('base_model.model.wte.lora_embedding_A', 'base_model.model.wte.lora_embedding_B')
    """
    if kind == "embedding":
        return f"{PREFIX}{path}.lora_embedding_A", f"{PREFIX}{path}.lora_embedding_B"
    return f"{PREFIX}{path}.lora_A.weight", f"{PREFIX}{path}.lora_B.weight"


def find_name(wanted: str, names: Collection[str]) -> str | None:
    """Find a tensor of a checkpoint by the name that the whole model has for it.

    A checkpoint that was saved without its head lacks the first part of the name; either is found when it is the
    only one.

    Examples
    --------
    >>> find_name("transformer.wpe.weight", {"wpe.weight", "wte.weight"})
    'wpe.weight'
    """
    if wanted in names:
        return wanted
    shorter = wanted.partition(".")[2]
    found = [shorter] if shorter in names and "." in shorter else []
    found += [name for name in names if name.endswith(f".{wanted}")]
    return found[0] if len(found) == 1 else None


def base_name(module: LoraModule, names: Collection[str]) -> str:
    """Find the tensor of a checkpoint that a module changes.

    A checkpoint that was saved without its head has `layers.0…` where the whole model has `model.layers.0…`;
    either is found when it is the only one.

    Parameters
    ----------
    module
        A module of an adapter.
    names
        The checkpoint's tensor names; a set or a mapping, for speed.

    Raises
    ------
    PlanError
        No tensor, or several, fit.
    """
    wanted = module.weight_name
    if wanted in names:
        return wanted
    shorter = wanted.partition(".")[2]
    if "." in shorter and shorter in names:
        return shorter
    found = [name for name in names if name.endswith(f".{wanted}")]
    if len(found) == 1:
        return found[0]
    if found:
        raise PlanError(
            f"{module.path}: could be {' or '.join(sorted(found)[:3])} in the base; use the base that the adapter "
            "was trained on"
        )
    raise PlanError(
        f"{module.path}: the base has no tensor {wanted!r}{nearest(wanted, names)}; use the base that the adapter "
        "was trained on"
    )


def orientations(modules: Iterable[LoraModule], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, bool]:
    """Tell of each module whether the base stores ΔWᵀ, from the shapes of the base's weights.

    `fan_in_fan_out` of adapter_config.json is one value for all modules, and PEFT writes what the last one it
    wrapped was: of GPT-2 with its head, one kind is wrong. A weight that is not square decides for itself; a
    square one goes with the modules of its stack of layers; where those do not agree or there are none, the
    configuration decides.

    Parameters
    ----------
    modules
        Modules of an adapter.
    shapes
        Shape of the base's weight by module path.

    Raises
    ------
    PlanError
        A weight has neither shape.
    """
    found: dict[str, bool] = {}
    square: list[LoraModule] = []
    votes: dict[str, set[bool]] = {}
    for module in modules:
        if module.kind != "linear":
            found[module.path] = module.transposed
            continue
        direct = (module.out_features, module.in_features)
        shape = shapes[module.path]
        if shape not in (direct, direct[::-1]):
            raise PlanError(
                f"{module.path}: changes a weight of {direct[0]} × {direct[1]}, and the base's has the shape "
                f"{list(shape)}; use the base that the adapter was trained on"
            )
        if direct[0] == direct[1]:
            square.append(module)
        else:
            found[module.path] = shape != direct
            votes.setdefault(_stack(module), set()).add(found[module.path])
    for module in square:
        vote = votes.get(_stack(module), set())
        found[module.path] = next(iter(vote)) if len(vote) == 1 else module.transposed
    return found


def _stack(module: LoraModule) -> str:
    place = locate(module.weight_name)
    return place.prefix if place else module.path
