"""What PEFT makes of an adapter: loaded without a key too few or too many, merged, and asked for logits."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from adapters.dense import delta, values
from adapters.zoo import peft, tensors, torch
from carrick.adapters.adapter import read_adapter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from adapters.zoo import Case

    Array = NDArray[Any]

TOKENS = [[1, 5, 3, 30, 2, 9]]
TRAINED = ("lora_", "modules_to_save", "trainable_tokens_delta")


def model_of(case: Case, seed: int = 0) -> Any:
    """The base of a case, whose numbers hang on the seed alone."""
    torch.manual_seed(seed)
    return case.model().double().eval()


def loaded(case: Case, folder: Path, seed: int = 0) -> Any:
    """Load an adapter as `PeftModel.from_pretrained` does, and see that no key was missing or left over."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message=".*(missing|unexpected|mismatch).*")
        wrapped = peft.PeftModel(model_of(case, seed), peft.PeftConfig.from_pretrained(folder))
        result = wrapped.load_adapter(folder, "default")
    assert not result.unexpected_keys
    assert not [key for key in result.missing_keys if any(part in key for part in TRAINED)]
    return wrapped.eval()


def merged_weights(case: Case, folder: Path, seed: int = 0) -> dict[str, Array]:
    """The base's tensors after PEFT's `merge_and_unload`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: dict[str, Array] = tensors(loaded(case, folder, seed).merge_and_unload())
    return found


def logits(model: Any) -> Array:
    with torch.no_grad():
        found: Array = model(torch.tensor(TOKENS)).logits.numpy()
    return found


def updates_of(folder: Path) -> dict[str, Array]:
    """ΔW as (out, in) by module path, in float64."""
    adapter = read_adapter(folder)
    held = values(adapter)
    return {path: delta(module, held) for path, module in adapter.modules.items()}


def onto(base: Mapping[str, Array], updates: Mapping[str, Array], like: Sequence[Path]) -> dict[str, Array]:
    """The base's tensors with merged updates on them; `like` are adapters that have the modules."""
    modules = {path: module for folder in like for path, module in read_adapter(folder).modules.items()}
    found = {name: np.array(tensor) for name, tensor in base.items()}
    for path, update in updates.items():
        name = f"{path}.weight"
        turned = update.T if modules[path].transposed else update
        found[name] = found[name] + turned.reshape(found[name].shape)
    return found
