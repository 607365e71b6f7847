"""The output's config.json: the donor's, with the few entries that the merge changes."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from carrick.checkpoints.layers import LAYER_COUNT_KEYS, config_sections
from carrick.errors import PlanError
from carrick.plan.vocabulary import RESIZE_FIRST

if TYPE_CHECKING:
    from carrick.checkpoints.checkpoint import Checkpoint
    from carrick.plan.lineup import Model
    from carrick.plan.vocabulary import Resized

_TORCH_NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}
_DTYPE_KEYS = ("torch_dtype", "dtype")
# Lists whose length may equal the number of layers by chance.
_NOT_PER_LAYER = {
    "architectures",
    "keys_to_ignore_at_inference",
    "suppress_tokens",
    "begin_suppress_tokens",
    "forced_decoder_ids",
    "image_grid_pinpoints",
    "rope_scaling",
    "mrope_section",
}
_TOKEN_IDS = ("_token_id", "_token_ids")
# Lists of layer numbers, whatever their length.
_LAYER_NUMBERS = ("mlp_only_layers", "cross_attention_layers", "global_attention_layers", "moe_layers")
# Rules that speak of layer numbers and cannot be rewritten for a stack in another order.
_LAYER_RULES = (
    "first_k_dense_replace",
    "max_window_layers",
    "decoder_sparse_step",
    "sliding_window_pattern",
    "full_attention_interval",
    "moe_layer_frequency",
    "interleave_moe_layer_step",
)


class ConfigEdits:
    """config.json of the output, and what was changed in it."""

    def __init__(self, donor: Checkpoint) -> None:
        self.donor = donor
        self.config: dict[str, Any] | None = copy.deepcopy(donor.config)
        self.edits: dict[str, list[Any]] = {}
        self.notes: list[str] = []

    def set_dtype(self, dtype: str | None) -> None:
        """Write the output's element type where config.json names one; None leaves it."""
        if dtype is None or dtype not in _TORCH_NAMES:
            return
        for section in config_sections(self.config):
            for key in _DTYPE_KEYS:
                if isinstance(section.get(key), str):
                    self._set(section, key, _TORCH_NAMES[dtype])

    def set_tied(self, tied: bool) -> None:
        """Write `tie_word_embeddings` where config.json says otherwise, or nothing at all."""
        if self.config is None:
            return
        stated = [s for s in config_sections(self.config) if "tie_word_embeddings" in s]
        for section in stated or [self.config]:
            self._set(section, "tie_word_embeddings", tied)

    def set_vocabulary(self, resized: Resized) -> None:
        """Write the number of tokens that an adapter's embeddings have.

        Raises
        ------
        PlanError
            config.json has no `vocab_size` that equals the donor's rows.
        """
        if self.config is None:
            self.notes.append(
                f"{self.donor.ref}: has no config.json; the vocabulary's size is written nowhere."
            )
            return
        counted = [s for s in config_sections(self.config) if s.get("vocab_size") == resized.old]
        if not counted:
            raise PlanError(
                f"{self.donor.folder / 'config.json'}: has no `vocab_size` of {resized.old}, the rows of the base's "
                f"embeddings, so that the {resized.new} of the output cannot be written; {RESIZE_FIRST}"
            )
        for section in counted:
            self._set(section, "vocab_size", resized.new)

    def set_layers(self, layers: list[tuple[Model, int]]) -> None:
        """Write the number of layers and rebuild the lists that have an entry for each.

        Parameters
        ----------
        layers
            For each output layer, the model and layer whose entries it takes.

        Raises
        ------
        PlanError
            config.json has no entry that equals the donor's number of layers.
        """
        if self.config is None:
            self.notes.append(
                f"{self.donor.ref}: has no config.json; the number of layers is written nowhere."
            )
            return
        old, new = self.donor.layers, len(layers)
        counted = [(s, k) for s in config_sections(self.config) for k in LAYER_COUNT_KEYS if s.get(k) == old]
        if not counted and new != old:
            raise PlanError(
                f"{self.donor.folder / 'config.json'}: no entry equals the {old} layers of the files, so "
                f"the output's "
                f"{new} cannot be written; known entries are {', '.join(LAYER_COUNT_KEYS[:4])}, …"
            )
        for section, key in counted:
            self._rebuild_lists(section, old, layers)
            self._set(section, key, new)

    def _rebuild_lists(self, section: Any, old: int, layers: list[tuple[Model, int]]) -> None:
        identity = [number for _, number in layers] == list(range(old))
        for key, value in list(section.items()):
            if key in _LAYER_NUMBERS and isinstance(value, list):
                self._set(
                    section, key, [o for o, (m, n) in enumerate(layers) if n in _numbers(m, key, value)]
                )
            elif _is_per_layer(key, value, old):
                self._set(section, key, [_of_layer(m, n, key, value) for m, n in layers])
            elif key in _LAYER_RULES and value and not identity:
                self.notes.append(
                    f"config.json: `{key}` speaks of layer numbers and is left as it is; check that it "
                    f"still holds."
                )

    def _set(self, section: Any, key: str, value: Any) -> None:
        old = section.get(key)
        if old != value or type(old) is not type(value):
            section[key] = value
            self.edits[key] = [old, value]


def _is_per_layer(key: str, value: Any, layers: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == layers
        and key not in _NOT_PER_LAYER
        and not key.endswith(_TOKEN_IDS)
    )


def _entry(model: Model, key: str) -> Any:
    for section in config_sections(model.checkpoint.config):
        if key in section:
            return section[key]
    return None


def _numbers(model: Model, key: str, donors: list[Any]) -> list[Any]:
    """Return a model's own list of layer numbers, which may be empty; the donor's where it has none."""
    own = _entry(model, key)
    return own if isinstance(own, list) else donors


def _of_layer(model: Model, number: int, key: str, donors: list[Any]) -> Any:
    """Look up a layer's entry in its own model's list, else in the donor's."""
    own = _entry(model, key)
    if isinstance(own, list) and len(own) == model.checkpoint.layers:
        return own[number]
    return donors[number] if number < len(donors) else donors[-1]
