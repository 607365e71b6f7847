"""From the recipe's `adapter` to PEFT's configuration and model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carrick.train.base import check_targets

if TYPE_CHECKING:
    from torch import nn

    from carrick.train.recipe import Adapter, Task, Training


def lora_config(adapter: Adapter, task: Task, model: nn.Module, *, targets: list[str] | None = None) -> Any:
    """Return PEFT's configuration of the adapter.

    Parameters
    ----------
    adapter
        The block of the recipe.
    task
        A classification's adapter belongs to the bare encoder: its task type is FEATURE_EXTRACTION, which keeps
        PEFT from saving a head with it.
    model
        The model that it is for. Patterns and `layers` are resolved by its modules: PEFT knows layers only beside
        plain names, and takes a pattern for every module that it matches, also those that it cannot adapt.
    targets
        Full names of modules, over those of the recipe.
    """
    from peft import LoraConfig  # noqa: PLC0415
    from transformers.pytorch_utils import Conv1D  # noqa: PLC0415

    found = check_targets(model, adapter) if targets is None else targets
    by_name = targets is None and isinstance(adapter.targets, list) and adapter.layers is None
    alpha = adapter.scale_numerator
    return LoraConfig(
        r=adapter.rank,
        lora_alpha=int(alpha) if alpha == int(alpha) else alpha,
        lora_dropout=adapter.dropout,
        use_rslora=adapter.rslora,
        target_modules=adapter.targets if by_name else found,
        # As PEFT would set it by itself, with a warning.
        fan_in_fan_out=any(isinstance(model.get_submodule(name), Conv1D) for name in found),
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
    return get_peft_model(model, lora_config(adapter, task, model, **options))
