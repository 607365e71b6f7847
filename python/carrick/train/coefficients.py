"""Learned coefficients of a sum of adapters: CAT, of LoRA Soups (Prabhakar et al. 2024, §3), a baseline of MLM.

ΔW of module l is Σᵢ cᵢˡ·sᵢ·BᵢAᵢ, with one number for each module and adapter. The adapters are frozen, the
coefficients train. The authors' code puts a softmax over the adapters (cˡ = softmax(θˡ)), their text has free
coefficients; both are here. Both begin at the average, 1/n: the code draws θ from N(0, 1), a random mixture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch

from carrick.torch.live_layers import find_layers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carrick.torch.live_layers import LiveLayer

Kind = Literal["softmax", "free"]
MODULE = "mixture_coefficients"
"""Name under which the coefficients stand in the model, so that its optimizer and checkpoints have them."""


class MixtureCoefficients(torch.nn.Module):
    """The coefficients, and where they act.

    Parameters
    ----------
    layers
        LoRA layers of the live model; each row of coefficients is one of them.
    adapters
        Names of the adapters; each column is one of them.
    kind
        ``softmax`` over the adapters that a module has, or ``free``.

    Attributes
    ----------
    theta
        What trains, modules × adapters, float32.
    """

    def __init__(self, layers: Sequence[LiveLayer], adapters: Sequence[str], kind: Kind) -> None:
        super().__init__()
        self.paths = [layer.path for layer in layers]
        self.adapters = list(adapters)
        self.kind = kind
        has = torch.tensor([[layer.has(name) for name in adapters] for layer in layers])
        start = torch.zeros(has.shape) if kind == "softmax" else has / has.sum(dim=1, keepdim=True)
        self.theta = torch.nn.Parameter(start.to(layers[0].device))
        self.register_buffer("has", has.to(layers[0].device), persistent=False)
        # A list keeps the layers from becoming submodules of this one as well.
        self._layers = [layer.layer for layer in layers]
        self._scales = [
            {name: layer.scaling[name] for name in adapters if name in layer.scaling}
            for layer in self._layers
        ]

    def forward(self) -> torch.Tensor:
        """Return the coefficients, modules × adapters; 0 where an adapter does not have a module."""
        has: torch.Tensor = self.get_buffer("has")
        if self.kind == "softmax":
            return self.theta.masked_fill(~has, float("-inf")).softmax(dim=1)
        return self.theta * has

    def put_in_place(self) -> None:
        """Scale every adapter in every layer by its coefficient, which gradients then reach."""
        table = self()
        for row, (layer, scales) in enumerate(zip(self._layers, self._scales, strict=True)):
            for column, name in enumerate(self.adapters):
                if name in scales:
                    layer.scaling[name] = scales[name] * table[row, column]

    def table(self) -> dict[str, dict[str, float]]:
        """Return the coefficients as numbers: module to adapter to coefficient."""
        values = self().detach().to("cpu", torch.float64).tolist()
        has = self.get_buffer("has").tolist()
        return {
            path: {
                name: value for name, value, there in zip(self.adapters, row, present, strict=True) if there
            }
            for path, row, present in zip(self.paths, values, has, strict=True)
        }


def mix(model: Any, adapters: Sequence[str], kind: Kind) -> MixtureCoefficients:
    """Give the adapters of a live PeftModel coefficients that train; nothing else of it trains afterwards.

    Parameters
    ----------
    model
        A ``peft.PeftModel`` with the adapters loaded and active.
    adapters
        Their names.
    kind
        ``softmax`` or ``free``.

    Returns
    -------
    MixtureCoefficients
        Standing in the model; they take effect at the beginning of every forward pass.
    """
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    inner = model.base_model.model
    coefficients = MixtureCoefficients(find_layers(inner, adapters), adapters, kind)
    inner.add_module(MODULE, coefficients)
    # On the innermost model, whose forward also runs when text is generated.
    inner.register_forward_pre_hook(lambda *_: coefficients.put_in_place())
    return coefficients
