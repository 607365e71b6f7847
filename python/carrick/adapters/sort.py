"""The tensors of an adapter file, each put in its place; what fits nowhere, or does not agree, is an error."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from carrick.adapters.factors import check_module
from carrick.adapters.keys import Part, parse
from carrick.adapters.module import LoraModule, TrainableTokens
from carrick.errors import FormatError
from carrick.plan.same_bytes import same_bytes
from carrick.plan.tied import VOCABULARY_HEAD, is_of_words

if TYPE_CHECKING:
    from carrick.adapters.config import AdapterConfig
    from carrick.checkpoints import Checkpoint, StoredTensor

# Whole embeddings are stored beside LoRA when the vocabulary was resized; nothing in the file says so.
_EMBEDDINGS = {
    "embed_tokens", "lm_head", "wte", "wpe", "word_embeddings", "tok_embeddings", "embed_in", "embed_out", "shared",
    "embeddings", "decoder", "output",
}  # fmt: skip

_SUFFIXES: tuple[tuple[Part, str], ...] = (("bias", "lora_B.bias"), ("magnitude", "lora_magnitude_vector"))


@dataclass
class SortedTensors:
    """The parts of an adapter, as `Adapter` has them."""

    modules: dict[str, LoraModule] = field(default_factory=dict)
    saved: dict[str, StoredTensor] = field(default_factory=dict)
    biases: dict[str, StoredTensor] = field(default_factory=dict)
    tokens: dict[str, TrainableTokens] = field(default_factory=dict)
    carried: set[str] = field(default_factory=set)
    keys: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def sort_tensors(checkpoint: Checkpoint, config: AdapterConfig) -> SortedTensors:
    """Sort the tensors of an adapter file into modules and what was trained beside them.

    Raises
    ------
    FormatError
        A factor without its partner, a rank that is not the configuration's, a tensor that fits nowhere.
    """
    parts: dict[str, dict[Part, str]] = {}
    plain: dict[str, str] = {}  # key -> name in the base
    for key in checkpoint.tensors:
        part, path = parse(key)
        if part == "plain":
            plain[key] = path
        elif part in parts.setdefault(path, {}):
            raise _wrong(
                checkpoint, key, f"is the same part of {path} as {parts[path][part]!r}; save one adapter"
            )
        else:
            parts[path][part] = key
    found = SortedTensors()
    _leave_out_tied(checkpoint, parts, plain)
    for path, keys in parts.items():
        if "tokens" in keys:
            _add_tokens(found, checkpoint, config, path, keys.pop("tokens"))
        if keys:
            found.modules[path] = check_module(checkpoint, config, path, keys)
            for part, suffix in _SUFFIXES:
                if part in keys:
                    found.keys[f"{path}.{suffix}"] = keys[part]
    _add_plain(found, checkpoint, config, plain)
    if config.ensure_weight_tying:
        _count_tied_heads(found)
    if not (found.modules or found.saved or found.tokens):
        raise FormatError(f"{checkpoint.files[0].path}: holds no tensor; save the adapter again")
    if config.trainable_token_indices and not found.tokens:
        raise FormatError(
            f"{checkpoint.files[0].path}: has no rows for `trainable_token_indices`; save the adapter again"
        )
    return found


def _leave_out_tied(checkpoint: Checkpoint, parts: dict[str, dict[Part, str]], plain: dict[str, str]) -> None:
    """Leave out a head that is stored as a copy of the embeddings: PEFT stores both where they are tied and resized.

    The rows tell: those of a head that was trained by itself differ from the embeddings'.
    """
    whole = {name: key for key, name in plain.items()}
    paths = [path for path, keys in parts.items() if "tokens" in keys and f"{path}.weight" in whole]
    for head in [path for path in paths if VOCABULARY_HEAD.search(f"{path}.weight")]:
        rows = checkpoint.tensors[parts[head]["tokens"]]
        others = (checkpoint.tensors[parts[path]["tokens"]] for path in paths if path != head)
        if any(same_bytes(checkpoint, rows, checkpoint, other) for other in others):
            paths.remove(head)
            del parts[head]["tokens"]
            del plain[whole[f"{head}.weight"]]


def _count_tied_heads(found: SortedTensors) -> None:
    """Count a head as trained where the embeddings are: of the two `modules_to_save` names the embeddings alone."""
    trained = [name for name in found.saved if name not in found.carried and is_of_words(name)]
    for head in [name for name in found.carried if VOCABULARY_HEAD.search(name)]:
        if any(found.saved[name].shape == found.saved[head].shape for name in trained):
            found.carried.remove(head)


def _add_tokens(
    found: SortedTensors, checkpoint: Checkpoint, config: AdapterConfig, path: str, key: str
) -> None:
    rows = checkpoint.tensors[key]
    # PEFT looks for the end of the name, without regard to dots.
    named = [indices for name, indices in config.trainable_token_indices.items() if path.endswith(name)]
    if not named:
        raise _wrong(
            checkpoint, key, "has no entry in `trainable_token_indices`, which says whose rows these are"
        )
    if len(rows.shape) != 2 or rows.shape[0] != len(named[0]):
        raise _wrong(
            checkpoint,
            key,
            f"has the shape {list(rows.shape)}, and `trainable_token_indices` names {len(named[0])} rows",
        )
    found.tokens[path] = TrainableTokens(named[0], rows)
    found.keys[path] = key


def _add_plain(
    found: SortedTensors, checkpoint: Checkpoint, config: AdapterConfig, plain: dict[str, str]
) -> None:
    unused = []
    # The plain name is the one that PEFT loads; a wrapper's name for the same tensor comes after it.
    for key, name in sorted(plain.items(), key=lambda item: ".modules_to_save." in item[0]):
        module, _, leaf = name.rpartition(".")
        if module.endswith(".original_module"):
            unused.append(key)
        elif name in found.keys:
            continue
        elif _is_saved(module, config) or (leaf == "weight" and _is_embedding(found, module)):
            found.saved[name] = checkpoint.tensors[key]
            found.keys[name] = key
            if not _is_saved(module, config):
                found.carried.add(name)
        elif leaf == "bias" and (
            config.bias == "all" or (config.bias == "lora_only" and module in found.modules)
        ):
            found.biases[name] = checkpoint.tensors[key]
            found.keys[name] = key
        elif leaf == "bias" and _is_embedding(found, module) and f"{module}.weight" in plain.values():
            found.saved[name] = checkpoint.tensors[key]
            found.keys[name] = key
            found.carried.add(name)
        else:
            raise _wrong(
                checkpoint,
                key,
                "is no part of LoRA, of `modules_to_save`, of `bias` or of an embedding; remove it, or name its "
                "module in `modules_to_save` of adapter_config.json",
            )
    if unused:
        found.notes.append(
            f"{checkpoint.files[0].path}: holds copies of the base's own tensors, which are not read "
            f"({unused[0]}{', …' if len(unused) > 1 else ''})"
        )


def _is_saved(module: str, config: AdapterConfig) -> bool:
    """Whether a module, or one that it is part of, ends with a name of `modules_to_save`."""
    return any(re.search(rf"{re.escape(name)}(\.|$)", module) for name in config.modules_to_save)


def _is_embedding(found: SortedTensors, module: str) -> bool:
    return module in found.modules or module in found.tokens or module.rpartition(".")[2] in _EMBEDDINGS


def _wrong(checkpoint: Checkpoint, key: str, reason: str) -> FormatError:
    return FormatError(f"{checkpoint.file_of(key)}: tensor {key!r} {reason}")
