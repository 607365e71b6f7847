"""One training in several processes, as `accelerate launch` starts them: one of them writes."""

from __future__ import annotations

import os


class Processes:
    """The processes of this training.

    Parameters
    ----------
    device
        `cpu` or `cuda`.

    Attributes
    ----------
    count
        How many they are.
    """

    def __init__(self, device: str) -> None:
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self._several = self.count > 1
        self._device = device

    @property
    def is_main(self) -> bool:
        """Whether this process writes folders and prints; alone it does."""
        return not self._several or int(os.environ.get("RANK", "0")) == 0

    def meet(self) -> None:
        """Wait until every process is here."""
        if self._several:
            from accelerate import PartialState  # noqa: PLC0415

            PartialState(cpu=self._device == "cpu").wait_for_everyone()
