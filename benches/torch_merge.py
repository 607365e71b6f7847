"""The same merges as a short multi-threaded torch script: float32 arithmetic, one tensor at a time.

Written as one would write it for a single use: torch's own parallel operators, `kthvalue` rather than a sort
for a trim, memory-mapped inputs, no copies that are easy to avoid. The result is in memory until it is saved.

    python benches/torch_merge.py METHOD MODEL… OUT      the first model is the base
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

WEIGHT, DENSITY, GAMMA, EPSILON, T = 0.5, 0.5, 0.01, 0.15, 0.4
SHARD_BYTES = 5 * 10**9


def trim(delta: torch.Tensor, density: float) -> torch.Tensor:
    """Zero all but the largest `density` of a tensor; entries equal to the last one kept stay as well."""
    magnitude = delta.abs()
    kept = max(1, int(density * delta.numel()))
    threshold = torch.kthvalue(magnitude.flatten(), delta.numel() - kept + 1).values
    return torch.where(magnitude >= threshold, delta, 0.0)


def cut_outliers(delta: torch.Tensor, density: float, gamma: float) -> torch.Tensor:
    """Zero the largest `gamma` of a tensor and the smallest, keeping `density` between."""
    n = delta.numel()
    magnitude = delta.abs()
    top = int(gamma * n)
    bottom = max(0, n - int(density * n) - top)
    flat = magnitude.flatten()
    low = torch.kthvalue(flat, bottom).values if bottom else flat.new_tensor(-1.0)
    high = torch.kthvalue(flat, n - top).values
    return torch.where((magnitude > low) & (magnitude <= high), delta, 0.0)


def drop(delta: torch.Tensor, density: float) -> torch.Tensor:
    """Keep each entry with probability `density`, divided by it."""
    return delta * torch.empty_like(delta).bernoulli_(density) / density


def drop_by_rank(delta: torch.Tensor, density: float, epsilon: float) -> torch.Tensor:
    """Keep large entries of a row more often than small ones, each divided by its own probability."""
    rows = delta.reshape(1, -1) if delta.ndim == 1 else delta
    rank = rows.abs().argsort(dim=1).argsort(dim=1)
    keep = density - epsilon + 2 * epsilon * rank / (rows.shape[1] - 1)
    return (rows * torch.bernoulli(keep) / keep).reshape(delta.shape)


def elect(deltas: list[torch.Tensor], *, normalize: bool) -> torch.Tensor:
    """Sum the weighted deltas that have the elected sign, over their weights where asked."""
    votes = torch.zeros_like(deltas[0])
    for delta in deltas:
        votes.add_(delta, alpha=WEIGHT)
    positive = votes >= 0
    merged, divisor = torch.zeros_like(votes), torch.zeros_like(votes)
    for delta in deltas:
        agree = torch.where(positive, delta > 0, delta < 0)
        merged.add_(torch.where(agree, delta, 0.0), alpha=WEIGHT)
        divisor.add_(agree, alpha=WEIGHT)
    return merged.div_(torch.where(divisor == 0, 1.0, divisor)) if normalize else merged


def slerp(first: torch.Tensor, second: torch.Tensor, t: float) -> torch.Tensor:
    """Interpolate along the arc between two tensors taken as vectors."""
    cosine = torch.clamp((first * second).sum() / (first.norm() * second.norm()), -1, 1)
    if cosine.abs() > 0.9995:
        return torch.lerp(first, second, t)
    angle = torch.acos(cosine)
    return (torch.sin((1 - t) * angle) * first + torch.sin(t * angle) * second) / torch.sin(angle)


def model_stock(base: torch.Tensor, models: list[torch.Tensor]) -> torch.Tensor:
    """Interpolate between the base and the mean of the models by the angle between their deltas."""
    deltas = [(model - base).flatten() for model in models]
    count = len(models)
    cosines = [
        torch.clamp(
            torch.dot(deltas[i], deltas[j]) / (deltas[i].norm() * deltas[j].norm()).clamp_min(1e-6), -1, 1
        )
        for i in range(count)
        for j in range(i)
    ]
    cosine = torch.stack(cosines).mean()
    t = count * cosine / (1 + (count - 1) * cosine)
    return t * torch.stack(models).mean(0) + (1 - t) * base


def merge(method: str, base: torch.Tensor, models: list[torch.Tensor]) -> torch.Tensor:  # noqa: PLR0911
    """Merge one tensor, in float32."""
    if method == "linear":
        return torch.stack([base, *models]).mean(0)
    if method == "slerp":
        return slerp(base, models[0], T)
    if method == "model_stock":
        return model_stock(base, models)
    deltas = [model.sub_(base) for model in models]
    if method == "nuslerp":
        return base + slerp(deltas[0], deltas[1], 0.5)
    if method == "ties":
        return base + elect([trim(deltas.pop(0), DENSITY) for _ in models], normalize=True)
    if method == "dare_ties":
        return base + elect([drop(delta, DENSITY) for delta in deltas], normalize=False)
    if method == "breadcrumbs_ties":
        return base + elect([cut_outliers(delta, DENSITY, GAMMA) for delta in deltas], normalize=False)
    if method == "della":
        return base + elect([drop_by_rank(delta, DENSITY, EPSILON) for delta in deltas], normalize=True)
    message = f"no method {method!r}"
    raise ValueError(message)


def main() -> None:
    """Merge the single-file models named on the command line."""
    method, *folders, out = sys.argv[1:]
    files = [safe_open(Path(folder) / "model.safetensors", "pt") for folder in folders]
    merged: dict[str, torch.Tensor] = {}
    with torch.inference_mode():
        for name in files[0].keys():  # noqa: SIM118 (not a dict)
            base, *models = [file.get_tensor(name) for file in files]
            result = merge(method, base.float(), [model.float() for model in models])
            merged[name] = result.to(base.dtype)
    Path(out).mkdir(parents=True)
    save_file(merged, Path(out) / "model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main()
