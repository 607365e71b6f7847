"""Checkpoints of what trains: a mixin for Trainer and SFTTrainer.

The trainers save a whole model, or what PEFT takes for its adapter. Neither fits a frozen head around an encoder,
two adapters of which one trains, or learned coefficients. Here a checkpoint holds every parameter that was
trainable when the training began, by its name; the rest is the base, which is loaded anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

WEIGHTS = "model.safetensors"
CLOCK = "clock.json"
PREFIX = "checkpoint-"


class TrainableCheckpoints:
    """Save and load the parameters that train; to be put before a trainer among the bases of a class."""

    model: nn.Module
    state: Any
    accelerator: Any
    trainable: frozenset[str] = frozenset()

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        from safetensors.torch import save_file  # noqa: PLC0415

        folder = Path(output_dir or "")
        folder.mkdir(parents=True, exist_ok=True)
        if state_dict is None:
            state_dict = {name: tensor.detach() for name, tensor in self.model.named_parameters()}
        kept = {name: state_dict[name].contiguous() for name in sorted(self.trainable & state_dict.keys())}
        save_file(kept, folder / WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        load_trainable(self.model if model is None else model, Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        self.accelerator.wait_for_everyone()  # the main process deletes the last one, which others may be writing
        load_trainable(self.model, Path(self.state.best_model_checkpoint))

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write none: the card of a result is not the trainer's."""

    def floating_point_ops(self, inputs: Any) -> int:
        """Count nothing: the record states tokens and seconds."""
        del inputs
        return 0


def load_trainable(model: nn.Module, folder: Path) -> None:
    """Put a checkpoint's parameters into a model of the same names."""
    import torch  # noqa: PLC0415
    from safetensors.torch import load_file  # noqa: PLC0415

    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in load_file(folder / WEIGHTS).items():
            parameters[name].copy_(tensor)


def newest(folder: Path) -> Path | None:
    """Return the last checkpoint that was finished; one that a kill cut short has no clock yet."""
    found = [each for each in folder.glob(f"{PREFIX}*") if (each / CLOCK).is_file()]
    return max(found, key=lambda each: int(each.name.removeprefix(PREFIX)), default=None)


def write_clock(checkpoint: Path, seconds: float) -> None:
    """Finish a checkpoint with the seconds that training has taken up to it."""
    part = checkpoint / f"{CLOCK}.part"
    part.write_text(json.dumps({"seconds": seconds}), encoding="utf-8")
    part.replace(checkpoint / CLOCK)  # in one step: the file says that the rest is there


def read_clock(checkpoint: Path) -> float:
    """Return the seconds that training had taken up to a checkpoint."""
    return float(json.loads((checkpoint / CLOCK).read_text("utf-8"))["seconds"])
