"""How a language adapter begins: zero, orthogonal to the task adapters, or random (MLM §3.2).

The paper writes the zero initialisation as A = B = 0. Read literally it is a dead point: the gradient of A is
s·Bᵀ·G·xᵀ and that of B is s·G·(A·x)ᵀ, with G the gradient of the output, so that both are exactly zero and stay
so. What it is meant to do, start at the task adapter alone (ΔW = 0), is done by B = 0 with a Kaiming-uniform A.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from carrick.errors import ConfigError
from carrick.suggestions import nearest
from carrick.torch.live_layers import find_layers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carrick.torch.live_layers import LiveLayer

Initialisation = Literal["zero", "orthogonal", "random"]
INITIALISATIONS: tuple[str, ...] = get_args(Initialisation)

SIGMA = 0.02
"""Standard deviation of the random initialisation; ours, the paper gives none."""

# A row that keeps less than this share of its length lay in the row space: what is left is rounding.
_LEAST_LEFT = 1e-6


def kaiming(a: torch.Tensor, generator: torch.Generator) -> None:
    """Draw A as PEFT does, from a generator of its own: U(-1/√in, 1/√in).

    Parameters
    ----------
    a
        rank × in_features; written in place.
    generator
        On the CPU, so that the draw is the same on every device.
    """
    drawn = torch.empty(a.shape, dtype=torch.float32)
    torch.nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator)
    a.data.copy_(drawn)


def orthogonal(a: torch.Tensor, others: Sequence[torch.Tensor]) -> torch.Tensor:
    """Project the rows of A off the row space of others, and scale each back to its length (MLM §3.2).

    With Q R = [A₁ᵀ A₂ᵀ …] each row becomes a − Q·Qᵀ·a, done twice in float64, times |a| over its new length.

    Parameters
    ----------
    a
        A of the new adapter, rank × in_features.
    others
        A of each adapter to stay away from, rankᵢ × in_features.

    Returns
    -------
    torch.Tensor
        Of the shape and type of ``a``; its products with all rows of ``others`` are zero up to rounding.

    Raises
    ------
    ConfigError
        in_features < rank + Σ rankᵢ: the rows could not be independent of the others and of one another.

    Examples
    --------
    >>> orthogonal(torch.tensor([[3.0, 4.0, 0.0]]), [torch.tensor([[2.0, 0.0, 0.0]])])
    tensor([[0., 5., 0.]])
    """
    if not others:
        return a.clone()
    stacked = torch.cat([other.detach().to("cpu", torch.float64) for other in others])
    rank, width = a.shape
    if rank + len(stacked) > width:
        raise ConfigError(
            f"the task adapters take {len(stacked)} of {width} input features, which leaves no room for {rank} "
            "orthogonal rows; lower the rank or use `initialisation: zero`"
        )
    rows = a.detach().to("cpu", torch.float64)
    lengths = rows.norm(dim=1, keepdim=True)
    basis, _ = torch.linalg.qr(stacked.T)
    left = rows
    for _ in range(2):  # once leaves rounding errors of the size of what was taken away
        left = left - (left @ basis) @ basis.T
    norms = left.norm(dim=1, keepdim=True)
    if bool((norms <= _LEAST_LEFT * lengths).any()):
        raise ConfigError(
            "a row of A lies in the row space of the task adapters: nothing of it is left to be orthogonal; "
            "give another `seed`"
        )
    scaled: torch.Tensor = left * (lengths / norms)
    return scaled.to(a.device, a.dtype)


def initialise(
    model: Any,
    name: str,
    kind: str = "zero",
    others: Sequence[str] = (),
    *,
    sigma: float = SIGMA,
    seed: int = 0,
) -> dict[str, Any]:
    """Initialise an adapter of a live PeftModel; the same seed draws the same A for `zero` and `orthogonal`.

    Parameters
    ----------
    model
        A ``peft.PeftModel`` that has the adapter ``name`` and those of ``others``.
    name
        The adapter to write.
    kind
        ``zero``: B = 0, A Kaiming-uniform. ``orthogonal``: the same with the rows of A projected off those of
        ``others``. ``random``: A and B from N(0, σ²).
    others
        Names of the task adapters.
    sigma
        σ of ``random``.
    seed
        Of the draws; global random state is left alone.

    Returns
    -------
    dict
        What was done: the kind, the seed, modules, and those that no task adapter has (``free``), where
        nothing had to be orthogonal.

    Raises
    ------
    ConfigError
        An unknown kind, a σ that is not positive, or a module without room for orthogonal rows.
    """
    if kind not in INITIALISATIONS:
        hint = nearest(kind, INITIALISATIONS) or f"; it can be {', '.join(INITIALISATIONS)}"
        raise ConfigError(f"`initialisation` is `{kind}`{hint}")
    if kind == "random" and not (sigma > 0 and math.isfinite(sigma)):
        raise ConfigError(f"`sigma` is {sigma}; it is a standard deviation above 0")
    generator = torch.Generator().manual_seed(seed)
    layers = sorted(find_layers(model.base_model.model, [name]), key=lambda layer: layer.path)
    free = 0
    for layer in layers:
        if layer.embedding:
            raise ConfigError(
                f"{layer.path} is an embedding: a language adapter is initialised on linear layers; leave it out of "
                "`targets`"
            )
        a, b = layer.factors(name)
        if kind == "random":
            for factor in (a, b):
                factor.copy_(torch.empty(factor.shape).normal_(0.0, sigma, generator=generator))
            continue
        kaiming(a, generator)
        b.zero_()
        having = [other for other in others if layer.has(other)]
        free += not having
        if kind == "orthogonal":
            a.copy_(_off(layer, a, having))
    done: dict[str, Any] = {"kind": kind, "seed": seed, "modules": len(layers)}
    return done | ({"sigma": sigma} if kind == "random" else {"free": free} if kind == "orthogonal" else {})


def _off(layer: LiveLayer, a: torch.Tensor, others: Sequence[str]) -> torch.Tensor:
    try:
        return orthogonal(a, [layer.factors(other)[0] for other in others])
    except ConfigError as error:
        raise ConfigError(f"{layer.path}: {error}") from None
