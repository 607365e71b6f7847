"""The factors of one module: whether they fit each other and what adapter_config.json says of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from carrick.adapters.module import LoraModule
from carrick.checkpoints import is_float
from carrick.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carrick.adapters.config import AdapterConfig
    from carrick.adapters.keys import Kind, Part
    from carrick.checkpoints import Checkpoint, StoredTensor


def check_module(
    checkpoint: Checkpoint, config: AdapterConfig, path: str, keys: Mapping[Part, str]
) -> LoraModule:
    """Make a module of its tensors.

    Parameters
    ----------
    checkpoint, config
        The adapter's files.
    path
        The module.
    keys
        The key in the file of each part there is.

    Raises
    ------
    FormatError
        A part is missing, has a wrong shape or type, or is not what the configuration says.
    """
    check = _Check(checkpoint, path, keys)
    kind, a_name, b_name = check.factors()
    a, b = checkpoint.tensors[a_name], checkpoint.tensors[b_name]
    rank = check.rank(kind, a, b)
    expected = config.rank_of(path)
    if rank != expected:
        where = "`rank_pattern`" if config.rank_pattern else "`r`"
        raise check.wrong(
            a_name,
            f"has rank {rank}, and {where} of adapter_config.json says {expected}; restore the configuration that "
            "the adapter was saved with",
        )
    out = b.shape[0]
    return LoraModule(
        path=path,
        kind=kind,
        a=a,
        b=b,
        a_name=a_name,
        b_name=b_name,
        rank=rank,
        alpha=config.alpha_of(path),
        scale=config.scale_of(path),
        transposed=kind == "embedding" or (kind == "linear" and config.fan_in_fan_out),
        bias=check.vector("bias", out, "lora_bias", wanted=config.lora_bias and kind != "embedding"),
        magnitude=check.vector("magnitude", out, "use_dora", wanted=config.use_dora),
    )


class _Check:
    """The checks of one module's tensors."""

    def __init__(self, checkpoint: Checkpoint, path: str, keys: Mapping[Part, str]) -> None:
        self.checkpoint = checkpoint
        self.path = path
        self.keys = keys

    def wrong(self, key: str, reason: str) -> FormatError:
        return FormatError(f"{self.checkpoint.file_of(key)}: tensor {key!r} {reason}")

    def factors(self) -> tuple[Kind, str, str]:
        """Kind of module, and the keys of A and B."""
        keys = self.keys
        if ".base_layer." in f"{self.path}.":
            raise self.wrong(
                next(iter(keys.values())),
                "belongs to torch's MultiheadAttention, of which PEFT applies the output projection twice; it is "
                "not supported: leave the module out of the adapter",
            )
        for first, second, letter in (
            ("a", "b", "B"),
            ("b", "a", "A"),
            ("embedding_a", "embedding_b", "B"),
            ("embedding_b", "embedding_a", "A"),
        ):
            if first in keys and second not in keys:
                raise self.wrong(
                    keys[first],  # type: ignore[index]
                    f"is there, and the factor {letter} of {self.path} is not; save the adapter again",
                )
        if "a" in keys and "embedding_a" in keys:
            raise self.wrong(keys["a"], f"and {keys['embedding_a']!r} are both there; save the adapter again")
        if "a" in keys:
            many = len(self.checkpoint.tensors[keys["a"]].shape) > 2
            return "conv" if many else "linear", keys["a"], keys["b"]
        if "embedding_a" in keys:
            return "embedding", keys["embedding_a"], keys["embedding_b"]
        key = next(iter(keys.values()))
        raise self.wrong(key, f"is there, and the factors of {self.path} are not; save the adapter again")

    def rank(self, kind: Kind, a: StoredTensor, b: StoredTensor) -> int:
        """Rank, which both factors have."""
        a_name, b_name = (
            self.keys[p] for p in (("embedding_a", "embedding_b") if kind == "embedding" else ("a", "b"))
        )
        for key, tensor in ((a_name, a), (b_name, b)):
            if not is_float(tensor.dtype):
                raise self.wrong(key, f"is {tensor.dtype}; factors are floating point numbers")
            if len(tensor.shape) < 2 or tensor.elements == 0:
                raise self.wrong(
                    key,
                    f"has the shape {list(tensor.shape)}; it was saved in pieces (DeepSpeed, FSDP): gather the "
                    "weights and save again",
                )
        if len(a.shape) != len(b.shape) or math.prod(b.shape[2:]) != 1:
            raise self.wrong(
                b_name, f"has the shape {list(b.shape)}, which does not fit A of {list(a.shape)}"
            )
        rank, other = a.shape[0], b.shape[1]
        if kind == "conv" and rank != other and rank % other == 0:
            raise self.wrong(
                b_name,
                f"belongs to a convolution in {rank // other} groups, which is not supported; leave the module out "
                "of the adapter",
            )
        if rank != other:
            raise self.wrong(
                b_name,
                f"has rank {other} (shape {list(b.shape)}), and A of {self.path} has rank {rank} (shape "
                f"{list(a.shape)}); save the adapter again",
            )
        return rank

    def vector(self, part: Part, size: int, setting: str, *, wanted: bool) -> StoredTensor | None:
        """Return the bias of B or the magnitude of DoRA, which is there when the configuration says so."""
        key = self.keys.get(part)
        if key is None:
            if not wanted:
                return None
            raise FormatError(
                f"{self.checkpoint.files[0].path}: `{setting}` is true, and {self.path} has no {part}; save the "
                "adapter again"
            )
        if not wanted:
            raise self.wrong(
                key,
                f"is there, and `{setting}` of adapter_config.json is not true; correct the one "
                "that is wrong",
            )
        tensor = self.checkpoint.tensors[key]
        if not is_float(tensor.dtype) or tensor.elements != size:
            raise self.wrong(
                key,
                f"is {tensor.dtype} with the shape {list(tensor.shape)}; {size} floating point numbers fit",
            )
        return tensor
