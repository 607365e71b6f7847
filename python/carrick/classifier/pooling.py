"""An encoder whose mean-pooled last hidden state goes through a frozen linear head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers.modeling_outputs import SequenceClassifierOutput

if TYPE_CHECKING:
    from carrick.classifier.head import Head


def mean_pool(hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Average the hidden states of each text over its tokens, padding left out.

    Parameters
    ----------
    hidden
        [texts, tokens, width].
    attention_mask
        [texts, tokens], 1 for tokens and 0 for padding; every text has a token.

    Returns
    -------
    torch.Tensor
        float32 [texts, width].
    """
    weights = attention_mask.unsqueeze(-1).to(torch.float32)
    return (hidden.float() * weights).sum(1) / weights.sum(1)


class PooledClassifier(nn.Module):
    """Logits of a frozen head over the mean-pooled last hidden state of an encoder.

    The head is a buffer: it never trains and no adapter carries it, so that adapters of several languages are
    plain LoRA files that can be merged.

    Parameters
    ----------
    encoder
        An `AutoModel`, or a `PeftModel` around one; what trains in it trains.
    head
        The shared head.
    """

    # The loss is a mean over the rows of a batch, not over the tokens that Trainer would count.
    accepts_loss_kwargs = False
    head_weight: torch.Tensor
    head_bias: torch.Tensor

    def __init__(self, encoder: nn.Module, head: Head) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("head_weight", torch.from_numpy(head.weight), persistent=False)
        self.register_buffer("head_bias", torch.from_numpy(head.bias), persistent=False)

    @property
    def config(self) -> Any:
        """The encoder's configuration."""
        return self.encoder.config

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor | None = None
    ) -> SequenceClassifierOutput:
        """Return the logits [texts, classes], and the mean cross-entropy where labels are given."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        # The head is float32 as it was fitted, also where the encoder computes in bfloat16.
        with torch.autocast(hidden.device.type, enabled=False):
            logits = mean_pool(hidden, attention_mask) @ self.head_weight.T + self.head_bias
            loss = None if labels is None else cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)

    def gradient_checkpointing_enable(self, **options: Any) -> None:
        """Recompute activations of the encoder on the way back."""
        encoder: Any = self.encoder
        encoder.gradient_checkpointing_enable(**options)
