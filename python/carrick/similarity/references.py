"""What is compared, as a user names it: checkpoints, with adapters on them where wanted, or adapters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carrick.adapters.folder import is_adapter
from carrick.adapters.in_memory import as_folders
from carrick.config.location import Location
from carrick.config.model_ref import AdapterRef, ModelRef, read_adapter_ref, read_model_ref
from carrick.config.objects import read_object
from carrick.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import ExitStack
    from pathlib import Path

    from carrick.adapters.in_memory import StateDict


def read_models(
    models: Sequence[str | Path | StateDict], stack: ExitStack, *, download: bool = False
) -> list[ModelRef | AdapterRef]:
    """Read the models of a comparison, and tell adapters (`path[@revision][:weight]`) from checkpoints.

    Adapters in memory are written to temporary folders of `stack`.

    Raises
    ------
    ConfigError
        Fewer than two, or a reference that cannot be read.
    FormatError
        Nothing is there.
    """
    if isinstance(models, str):
        raise ConfigError(f"models is {models!r}: give a list of two or more models")
    texts = as_folders(models, stack, what="model")
    if len(texts) < 2:
        only = f" ({texts[0]})" if texts else ""
        raise ConfigError(f"similarity needs two models or more, and {len(texts)} was given{only}")
    where = Location(key="models")
    return [_read(text, where.item(place), download=download) for place, text in enumerate(texts)]


def read_base(base: str | Path, *, download: bool = False) -> ModelRef:
    """Read the base of a comparison, which is a checkpoint.

    Raises
    ------
    ConfigError
        It is an adapter.
    """
    ref = _read(str(base), Location(key="base"), download=download)
    if isinstance(ref, AdapterRef):
        raise ConfigError(
            f"{base}: is an adapter; --base is the checkpoint that the models were trained from"
        )
    return ref


def _read(text: str, where: Location, *, download: bool) -> ModelRef | AdapterRef:
    node = read_object(text, where)
    model = read_model_ref(node, "a model", [])
    if model.adapters:
        return model
    alone = read_adapter_ref(node, "a model")
    return alone if is_adapter(alone.path, alone.revision, download=download) else model
