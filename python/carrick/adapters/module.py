"""What an adapter holds for one module of the base."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carrick.adapters.keys import Kind
    from carrick.checkpoints import StoredTensor


@dataclass(frozen=True, slots=True)
class LoraModule:
    """One module of an adapter: ΔW = scale · B·A.

    Attributes
    ----------
    path
        The module's name in the base: `model.layers.0.self_attn.q_proj`.
    kind
        `linear`; `embedding`, with A (r, vocabulary) and B (dim, r); `conv`, with A (r, in, …) and
        B (out, r, 1, …).
    a, b, a_name, b_name
        The factors as they are stored.
    rank, alpha, scale
        Rank, α, and α/r or α/√r.
    transposed
        The base stores ΔWᵀ: embeddings always, linear layers by `fan_in_fan_out`.
    bias
        The bias of B, which is added with the same scale as B·A.
    magnitude
        The row norms of DoRA.
    """

    path: str
    kind: Kind
    a: StoredTensor
    b: StoredTensor
    a_name: str
    b_name: str
    rank: int
    alpha: float
    scale: float
    transposed: bool
    bias: StoredTensor | None = None
    magnitude: StoredTensor | None = None

    @property
    def out_features(self) -> int:
        """Rows of B: outputs, output channels, or the width of an embedding."""
        return self.b.shape[0]

    @property
    def in_features(self) -> int:
        """Columns of A: inputs, the vocabulary, or input channels times the size of the kernel."""
        return math.prod(self.a.shape[1:])

    @property
    def weight_name(self) -> str:
        """Name of the weight in the base."""
        return f"{self.path}.weight"


@dataclass(frozen=True, slots=True)
class TrainableTokens:
    """Rows of an embedding that replace the base's: the row numbers and the tensor of rows."""

    indices: tuple[int, ...]
    rows: StoredTensor
