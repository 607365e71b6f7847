"""The validation loss of a language model: a mean over the answers' tokens, however they fall into batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


class MeanOverTokens:
    """Weigh each batch by its tokens; to be put before SFTTrainer among the bases of a class.

    The trainer averages the means of its batches. There a token of a short answer would weigh more than one of a
    long, and the loss, by which weights and points of a grid are chosen, would depend on the batch size.
    """

    accelerator: Any
    _nll: float = 0.0
    _tokens: int = 0

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **options: Any) -> Any:
        """Evaluate as the trainer does, and put the mean over tokens in the place of its loss."""
        import torch  # noqa: PLC0415

        self._nll, self._tokens = 0.0, 0
        inner: Any = super()
        output = inner.evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **options)
        sums = torch.tensor([self._nll, self._tokens], dtype=torch.float64, device=self.accelerator.device)
        nll, tokens = self.accelerator.reduce(sums, "sum").tolist()
        output.metrics[f"{metric_key_prefix}_loss"] = nll / tokens
        return output

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> Any:
        """Compute the loss of a batch, and count its tokens."""
        labels = inputs["labels"].clone()
        labels[self._new_rows(len(labels)) :] = -100
        inner: Any = super()
        found = inner.prediction_step(model, {**inputs, "labels": labels}, prediction_loss_only, ignore_keys)
        tokens = int((labels[:, 1:] != -100).sum())  # the first token of a row is not predicted
        self._nll += float(found[0]) * tokens
        self._tokens += tokens
        return found

    def _new_rows(self, rows: int) -> int:
        """Count the rows of a batch that are not repeated: of several processes the last batches are filled up."""
        state = self.accelerator.gradient_state
        if not state.end_of_dataloader or state.remainder <= 0:
            return rows
        return int(min(max(state.remainder - rows * self.accelerator.process_index, 0), rows))
