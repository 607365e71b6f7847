"""Layers found by name: runs of numbered segments such as `model.layers.12.`, for any architecture."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

# The number of an expert (`experts.5.`) is not the number of a layer; six digits are more layers than any
# model has.
_NUMBERED = re.compile(r"(?<!experts)\.(\d{1,6})(?=\.)")
# Sequential containers (`classifier.0.weight`) are numbered too; a layer holds more than a weight and a bias.
_LEAST_TENSORS_OF_A_LAYER = 3
# A stack that holds this share of all layers' elements is the model; the others (a vision tower) come with
# it.
_MAIN_SHARE = 0.6

LAYER_COUNT_KEYS = (
    "num_hidden_layers",
    "n_layer",
    "num_layers",
    "n_layers",
    "num_decoder_layers",
    "encoder_layers",
    "decoder_layers",
    "encoder_layer",
    "depth",
)


class Place(NamedTuple):
    """A tensor's place in a stack: `model.layers`, 12, `mlp.up_proj.weight`."""

    prefix: str
    number: int
    suffix: str


@dataclass(frozen=True, slots=True)
class Stack:
    """A run of layers numbered 0 to `count` - 1 under one prefix; `elements` of all its tensors together."""

    prefix: str
    count: int
    elements: int = 0


def locate(name: str) -> Place | None:
    """Split a tensor's name at its first layer number, or tell that it has none.

    Examples
    --------
    >>> locate("model.layers.12.mlp.experts.5.w1.weight")
    Place(prefix='model.layers', number=12, suffix='mlp.experts.5.w1.weight')
    >>> locate("model.norm.weight") is None
    True
    """
    match = _NUMBERED.search(name)
    if match is None:
        return None
    return Place(name[: match.start()], int(match[1]), name[match.end() + 1 :])


def find_stacks(elements: Mapping[str, int], *, least: int = _LEAST_TENSORS_OF_A_LAYER) -> list[Stack]:
    """Find the stacks of layers among tensor names.

    Parameters
    ----------
    elements
        Tensor name to number of elements.
    least
        How many tensors the fullest layer has at least; an adapter may change a single one.

    Returns
    -------
    Stacks in the order of their first tensor. An encoder-decoder has two.

    Examples
    --------
    >>> names = [f"h.{i}.{t}" for i in range(3) for t in ("a.weight", "b.weight", "b.bias")]
    >>> find_stacks({name: 10 for name in [*names, "head.0.weight", "wte.weight"]})
    [Stack(prefix='h', count=3, elements=90)]
    """
    tensors: dict[str, dict[int, int]] = {}
    sizes: dict[str, int] = {}
    for name, count in elements.items():
        place = locate(name)
        if place is None:
            continue
        numbers = tensors.setdefault(place.prefix, {})
        numbers[place.number] = numbers.get(place.number, 0) + 1
        sizes[place.prefix] = sizes.get(place.prefix, 0) + count
    return [
        Stack(prefix, len(numbers), sizes[prefix])
        for prefix, numbers in tensors.items()
        if max(numbers) == len(numbers) - 1 and max(numbers.values()) >= least
    ]


def without_appended(stacks: list[Stack], config: Mapping[str, Any] | None) -> list[Stack]:
    """Take multi-token-prediction layers off a stack's count: they stand behind it under the next numbers.

    DeepSeek-V3 has `num_hidden_layers: 61` and its prediction layer as `model.layers.61`.
    """
    appended = next((s.get("num_nextn_predict_layers") for s in config_sections(config)), None)
    if not isinstance(appended, int) or appended <= 0:
        return stacks
    counts = layer_counts(config)
    return [
        Stack(s.prefix, s.count - appended, s.elements)
        if s.count not in counts and s.count - appended in counts
        else s
        for s in stacks
    ]


def main_stack(stacks: list[Stack], config: Mapping[str, Any] | None) -> Stack | None:
    """Tell the stack that layer ranges mean: the only one, or the one that is most of the model.

    Returns
    -------
    None where there is no stack, or two are alike (an encoder-decoder).
    """
    if len(stacks) == 1:
        return stacks[0]
    counts = layer_counts(config)
    total = sum(s.elements for s in stacks)
    large = [s for s in stacks if s.elements > _MAIN_SHARE * total and (not counts or s.count in counts)]
    return large[0] if large else None


def config_sections(config: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """Yield config.json and the configurations nested in it (`text_config`), the outermost first."""
    if config is None:
        return
    yield config
    for value in config.values():
        if isinstance(value, dict) and "model_type" in value:
            yield value


def layer_counts(config: Mapping[str, Any] | None) -> set[int]:
    """Collect every number of layers that config.json states.

    >>> sorted(layer_counts({"n_layer": 12, "text_config": {"model_type": "x", "num_hidden_layers": 4}}))
    [4, 12]
    """
    return set(_counts(config_sections(config)))


def _counts(sections: Iterable[Mapping[str, Any]]) -> Iterator[int]:
    for section in sections:
        for key in LAYER_COUNT_KEYS:
            value = section.get(key)
            if isinstance(value, int) and not isinstance(value, bool):
                yield value
