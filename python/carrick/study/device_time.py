"""What training and scoring of language models take, from tokens × parameters and a device's speed and price."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carrick.study.stage import Work

if TYPE_CHECKING:
    from carrick.study.lsm.recipe import Device


def trained(
    device: Device, data: str, *, parameters: float, rows: float, tokens: float, batch: int, lora: bool
) -> Work:
    """Return what a training takes.

    Forward and backward are 6 · parameters · tokens, of a frozen base under LoRA 4 (no gradients of its weights),
    and 2 more to compute activations again where they are checkpointed.

    Parameters
    ----------
    device
        Its speed and price.
    data
        What is read, for people.
    parameters
        Of the base.
    rows
        Rows that are seen, times epochs.
    tokens
        Tokens a row.
    batch
        Rows of an optimizer step.
    lora
        Whether the base is frozen.

    Examples
    --------
    >>> from carrick.study.lsm.recipe import Device
    >>> gpu = Device(name="x", flops=1e14, decode_tokens_per_second=1e3, load_seconds=0.0, price=3.6)
    >>> work = trained(gpu, "rows", parameters=1e9, rows=1000, tokens=100, batch=32, lora=False)
    >>> work.steps, work.tokens, round(work.seconds, 3), round(work.cost, 6)
    (32, 100000, 8.0, 0.008)
    """
    seen = round(rows * tokens)
    flops = (6.0 if lora else 8.0) * parameters * seen
    steps = max(1, -(-round(rows) // batch))
    return _priced(device, data, steps, seen, flops, flops / device.flops + device.load_seconds)


def scored(
    device: Device, data: str, *, parameters: float, rows: float, prompt: float, answer: float
) -> Work:
    """Return what scoring takes: prompts at the device's FLOP/s, answers at its decoding rate."""
    read, written = round(rows * prompt), round(rows * answer)
    flops = 2.0 * parameters * (read + written)
    seconds = 2.0 * parameters * read / device.flops + written / device.decode_tokens_per_second
    return _priced(device, data, 0, read + written, flops, seconds + device.load_seconds)


def merged(device: Device, data: str, parameters: float) -> Work:
    """Return what a merge takes: processor time, which the device waits for; a generous guess."""
    return _priced(device, data, 0, 0, 0.0, 8 * parameters / 1e9)


def _priced(device: Device, data: str, steps: int, tokens: int, flops: float, seconds: float) -> Work:  # noqa: PLR0917
    cost = seconds / 3600 * device.price
    return Work(data, steps, tokens, flops, seconds, cost, device.currency)
