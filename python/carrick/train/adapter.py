"""From the recipe's `adapter` to PEFT's configuration and model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carrick.train.base import check_targets

if TYPE_CHECKING:
    from torch import nn

    from carrick.train.recipe import Adapter, Task, Training


def lora_config(
    adapter: Adapter, task: Task, *, targets: list[str] | None = None, model: nn.Module | None = None
) -> Any:
    """Return PEFT's configuration of the adapter.

    Parameters
    ----------
    adapter
        The block of the recipe.
    task
        A classification's adapter belongs to the bare encoder: its task type is FEATURE_EXTRACTION, which keeps
        PEFT from saving a head with it.
    targets
        Full names of modules, over those of the recipe.
    model
        The model that it is for, by whose modules `layers` are found; PEFT knows layers only beside plain names.
    """
    from peft import LoraConfig  # noqa: PLC0415

    if targets is None and adapter.layers is not None and model is not None:
        targets = check_targets(model, adapter)
    chosen: Any = adapter.targets if targets is None else targets
    alpha = adapter.scale_numerator
    return LoraConfig(
        r=adapter.rank,
        lora_alpha=int(alpha) if alpha == int(alpha) else alpha,
        lora_dropout=adapter.dropout,
        use_rslora=adapter.rslora,
        target_modules=chosen,
        layers_to_transform=adapter.layers if targets is None else None,
        task_type="CAUSAL_LM" if task == "causal" else "FEATURE_EXTRACTION",
    )


def adapted(model: nn.Module, adapter: Adapter, task: Task, training: Training, **options: Any) -> Any:
    """Put a new LoRA adapter on the model, its A drawn by the training's seed, its B zero.

    Returns
    -------
    peft.PeftModel
    """
    from peft import get_peft_model  # noqa: PLC0415
    from transformers import set_seed  # noqa: PLC0415

    set_seed(training.seed)
    return get_peft_model(model, lora_config(adapter, task, model=model, **options))
