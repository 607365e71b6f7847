"""Writing a fine-tuned model: in the base's own types, with the files that stand beside the weights."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from carrick.checkpoints.checkpoint import read_checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

    from carrick.checkpoints.checkpoint import Checkpoint
    from carrick.train.base import Base

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".onnx", ".gguf", ".h5", ".msgpack", ".index.json")


def save_whole(model: Any, folder: Path, base: Base) -> None:
    """Write the model with the types of the base's tensors; the tokenizer's files are copied.

    What trained in float32 is rounded once, so that a bfloat16 base gives a bfloat16 model that merges with it.
    Tensors of the base that the live model has not (buffers, an unused pooler) are copied from it. A model that
    transformers builds from other tensors than are stored (fused experts) is written by transformers.

    Parameters
    ----------
    model
        A transformers model of the base's architecture.
    folder
        Where config.json, weights and the other files go.
    base
        What was fine-tuned.
    """
    from huggingface_hub import save_torch_state_dict  # noqa: PLC0415

    stored = read_checkpoint(base.path, base.name, base.commit)
    live = dict(model.state_dict())
    names = _live_names(stored, live, str(getattr(model, "base_model_prefix", "")))
    written = {live[name].data_ptr() for name in names.values()}
    left = [
        name
        for name, tensor in live.items()
        if name not in names.values() and tensor.data_ptr() not in written
    ]
    folder.mkdir(parents=True, exist_ok=True)
    if left:
        model.to(_common_type(stored)).save_pretrained(folder)
    else:
        state = {name: _as_stored(name, live, names, one) for name, one in _tensors(stored)}
        save_torch_state_dict(state, folder, max_shard_size="5GB", metadata={"format": "pt"})
    for file in base.path.iterdir():
        if file.is_file() and not file.name.endswith(_WEIGHTS):
            shutil.copyfile(file, folder / file.name)


def _live_names(stored: Checkpoint, live: Mapping[str, Tensor], prefix: str) -> dict[str, str]:
    """Return the live name of each stored tensor that has one; a head-less model lacks its base's prefix."""
    found = {}
    for name in stored.tensors:
        short = name.removeprefix(f"{prefix}.") if prefix else name
        for candidate in (name, short, f"{prefix}.{name}"):
            if candidate in live:
                found[name] = candidate
                break
    return found


def _as_stored(name: str, live: Mapping[str, Tensor], names: Mapping[str, str], stored: Tensor) -> Tensor:
    if name not in names:
        return stored
    # A copy each: two tied tensors that the base stores twice stay two.
    return live[names[name]].detach().to(device="cpu", dtype=stored.dtype, copy=True).contiguous()


def _tensors(stored: Checkpoint) -> Iterator[tuple[str, Tensor]]:
    from safetensors import safe_open  # noqa: PLC0415

    for record in stored.files:
        with safe_open(record.path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  (not a mapping)
                yield name, file.get_tensor(name)


def _common_type(stored: Checkpoint) -> Any:
    """Return the type of most elements of the base."""
    elements: dict[Any, int] = {}
    for _, tensor in _tensors(stored):
        elements[tensor.dtype] = elements.get(tensor.dtype, 0) + tensor.numel()
    return max(elements, key=lambda dtype: elements[dtype])
