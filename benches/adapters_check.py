"""Compare what a tool made of adapters with float64 NumPy before a time of it is believed.

The oracles are written from the papers: a KnOTS basis by QR of the factors and one small SVD, TIES with a
threshold over the whole model, sums and merges of the dense ΔW of single modules.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
from benches.adapters_inputs import PREFIX
from benches.verify import Checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from benches.adapters_inputs import Adapters

    Array = np.ndarray[Any, Any]

CUT = 1e-6
# Every how many columns enter the sample that brackets a threshold; the bracket in fractions of all entries.
STRIDE = 16
BRACKET = 0.002


class AdapterFile:
    """The factors of a PEFT folder in float64, read by NumPy and json alone."""

    def __init__(self, folder: Path) -> None:
        self.tensors = Checkpoint(folder).tensors
        self.config: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text())

    def factors(self, path: str) -> tuple[Array, Array]:
        """Return A and s·B of a module."""
        a, b = (self.tensors[f"{PREFIX}{path}.lora_{which}.weight"].astype(np.float64) for which in "AB")
        return a, b * self._scale(path, a.shape[0])

    def _scale(self, path: str, rank: int) -> float:
        for pattern, alpha in (self.config.get("alpha_pattern") or {}).items():
            if re.fullmatch(rf"(.*\.)?({pattern.removeprefix('^')})", path):
                return float(alpha) / rank
        return float(self.config["lora_alpha"]) / rank

    def update(self, path: str) -> Array:
        """Return s·B·A."""
        a, b = self.factors(path)
        product: Array = b @ a
        return product


def relative_error(got: Array, want: Array) -> float:
    """Return ‖got - want‖/‖want‖ in the Frobenius norm."""
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


def product_error(a: Array, b: Array, want: Array) -> float:
    """Return ‖B·A - want‖/‖want‖."""
    return relative_error(b @ a, want)


class Knots:
    """KnOTS-TIES of adapters in float64: all modules take part in the threshold, single ones are merged."""

    def __init__(self, adapters: Adapters, density: float) -> None:
        self.files = [AdapterFile(folder) for folder in adapters.folders]
        self.paths = list(adapters.modules)
        self.maps = {path: self._maps(path) for path in self.paths}
        self.thresholds = [self._threshold(adapter, density) for adapter in range(len(self.files))]

    def _basis(self, path: str) -> tuple[Array, list[Array]]:
        """Return Uc and R_B block by block: U = Q_B·Uc of the adapters' B side by side, coordinates Ucᵀ·R_B·A."""
        factors = [file.factors(path) for file in self.files]
        r_b = np.linalg.qr(np.concatenate([b for _, b in factors], axis=1), mode="r")
        blocks = np.split(r_b, len(factors), axis=1)
        small = [block @ np.linalg.qr(a.T, mode="r").T for block, (a, _) in zip(blocks, factors, strict=True)]
        u, sigma, _ = np.linalg.svd(np.concatenate(small, axis=1), full_matrices=False)
        return u[:, sigma > CUT * sigma[0]], blocks

    def _maps(self, path: str) -> list[Array]:
        u, blocks = self._basis(path)
        return [u.T @ block for block in blocks]

    def _coordinates(self, path: str, adapter: int, stride: int = 1) -> Array:
        a, _ = self.files[adapter].factors(path)
        values: Array = self.maps[path][adapter] @ a[:, ::stride]
        return values

    def _threshold(self, adapter: int, density: float) -> float:
        """Return the (int(d·n)+1)-th largest magnitude of all modules: a sample brackets it, all entries decide."""
        if density >= 1:
            return 0.0
        magnitudes = [np.abs(self._coordinates(path, adapter, STRIDE)).ravel() for path in self.paths]
        total = sum(
            self.maps[path][adapter].shape[0] * self.files[adapter].factors(path)[0].shape[1]
            for path in self.paths
        )
        kept = min(int(density * total) + 1, total)
        width = BRACKET
        while True:
            sample = np.concatenate(magnitudes)
            low, high = np.quantile(sample, [max(0, 1 - density - width), min(1, 1 - density + width)])
            above, inside = 0, []
            for path in self.paths:
                values = np.abs(self._coordinates(path, adapter))
                above += int((values > high).sum())
                inside.append(values[(values >= low) & (values <= high)])
            candidates = np.sort(np.concatenate(inside))[::-1]
            if above < kept <= above + candidates.size:
                return float(candidates[kept - above - 1])
            width *= 4

    def update(self, path: str) -> Array:
        """Return U·X of a module, X the mean of the entries that agree with the sign of their sum."""
        kept = []
        for adapter, threshold in enumerate(self.thresholds):
            values = self._coordinates(path, adapter)
            kept.append(np.where(np.abs(values) >= threshold, values, 0))
        stack = np.stack(kept)
        total = stack.sum(0)
        agree = np.where(total > 0, stack > 0, (stack < 0) & (total < 0))
        merged = (stack * agree).sum(0) / np.maximum(1, agree.sum(0))
        q, _ = np.linalg.qr(np.concatenate([file.factors(path)[1] for file in self.files], axis=1))
        update: Array = q @ (self._basis(path)[0] @ merged)
        return update


def summed(adapters: Adapters, path: str) -> Array:
    """Return Σ s·B·A of a module."""
    updates = (AdapterFile(folder).update(path) for folder in adapters.folders)
    return sum(updates, start=np.zeros(adapters.modules[path]))


def ties_of_updates(adapters: Adapters, path: str, density: float) -> Array:
    """Return TIES of a module's ΔW as PEFT defines it: int(d·n) entries of each, unweighted vote, mean."""
    kept = []
    for folder in adapters.folders:
        update = AdapterFile(folder).update(path)
        count = int(density * update.size)
        threshold = np.partition(np.abs(update), update.size - count, axis=None)[update.size - count]
        kept.append(np.where(np.abs(update) >= threshold, update, 0))
    stack = np.stack(kept)
    agree = np.where(stack.sum(0) >= 0, stack > 0, stack < 0)
    merged: Array = (stack * agree).sum(0) / np.maximum(1, agree.sum(0))
    return merged
