"""Loading an encoder without the pooler that a mean-pooled classifier does not use."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def encoder_options(folder: Path) -> dict[str, Any]:
    """Return what `AutoModel.from_pretrained` is told beside the folder.

    BERT and its kin bring a pooler of their own (tanh over the first token): left out, `dense` among the targets
    of an adapter does not hit it.
    """
    from transformers import AutoConfig  # noqa: PLC0415
    from transformers.models.auto.modeling_auto import MODEL_MAPPING  # noqa: PLC0415

    config = AutoConfig.from_pretrained(folder)
    model = MODEL_MAPPING[type(config)]
    takes = "add_pooling_layer" in inspect.signature(model.__init__).parameters
    return {"add_pooling_layer": False} if takes else {}
