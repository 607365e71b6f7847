"""The random masks of DARE on a device: Philox4x32 with 7 rounds, keyed and counted as docs/methods.md says."""

from __future__ import annotations

import torch

from carrick._core import stream_key

_ROUNDS = 7
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = 0xFFFFFFFF
_GROUP = 64
"""Entries that share sixteen counters."""

_GROUPS_AT_ONCE = 1 << 16


def _multiply(x: torch.Tensor, factor: int) -> tuple[torch.Tensor, torch.Tensor]:
    """High and low words of the product of 32-bit words, in halves: a product of whole ones overflows int64."""
    low = (x & 0xFFFF) * factor
    high = (x >> 16) * factor + (low >> 16)
    return high >> 16, ((high & 0xFFFF) << 16) | (low & 0xFFFF)


def philox(counter: tuple[torch.Tensor, ...], key: tuple[int, int]) -> tuple[torch.Tensor, ...]:
    """Return the four output words of four counter words, all int64 below 2³²."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        high0, low0 = _multiply(c0, _MULTIPLIERS[0])
        high1, low1 = _multiply(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    return c0, c1, c2, c3


def keep_below(probability: float) -> int:
    """Return the count of 32-bit numbers that mean "keep": round(p·2³²).

    Examples
    --------
    >>> keep_below(0.5) == 1 << 31
    True
    """
    return int(min(max(probability, 0.0), 1.0) * 4294967296.0 + 0.5)


def keep_mask(
    seed: int, model: int, tensor: str, entries: int, *, probability: float, device: torch.device
) -> torch.Tensor:
    """Return which entries of a tensor are kept, row by row, as a flat tensor of bool.

    Parameters
    ----------
    seed
        Of the merge.
    model
        The adapter's place in the list.
    tensor
        The output tensor's name.
    entries
        How many there are.
    probability
        Of an entry to be kept.
    device
        Where the mask is wanted.

    Examples
    --------
    >>> keep_mask(42, 1, "model.layers.0.mlp.up_proj.weight", 4,
    ...           probability=0.75, device=torch.device("cpu")).tolist()
    [True, False, True, True]
    """
    key, below = stream_key(seed, model, tensor), keep_below(probability)
    groups = -(-entries // _GROUP)
    mask = torch.empty((groups, 4, 16), dtype=torch.bool, device=device)
    lanes = torch.arange(16, dtype=torch.int64, device=device)
    for start in range(0, groups, _GROUPS_AT_ONCE):
        end = min(start + _GROUPS_AT_ONCE, groups)
        counter = torch.arange(start, end, dtype=torch.int64, device=device)[:, None] * 16 + lanes
        zero = torch.zeros_like(counter)
        words = philox((counter & _LOW, counter >> 32, zero, zero), key)
        for place, word in enumerate(words):
            mask[start:end, place] = word < below
    return mask.reshape(-1)[:entries]
