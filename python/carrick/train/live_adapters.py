"""Several LoRA adapters on one live model: loaded, scaled by their weights, some frozen, all of them active.

A frozen adapter is part of the base: it is not trained, and its dropout is off. What comes out of the sum of its
ΔW and the others' is what `carrick.adapters.merge` with `cat` and the same weights gives.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from carrick.adapters.adapter import read_adapter
from carrick.adapters.folder import CONFIG, WEIGHTS
from carrick.adapters.keys import orientations
from carrick.errors import ConfigError, PlanError
from carrick.hub_cache import nothing_downloaded
from carrick.suggestions import nearest
from carrick.torch.live_layers import find_layers, refuse_config

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence


class AdapterOnDisk(NamedTuple):
    """An adapter that a training begins with: its name in the model, how it was asked for, and its folder."""

    name: str
    ref: str
    folder: Path


def find_adapters(refs: Sequence[str], prefix: str) -> list[AdapterOnDisk]:
    """Find adapters that a recipe names, and name them: ``ta`` for one, ``ta_1``, ``ta_2`` for several.

    Parameters
    ----------
    refs
        Folders, or Hub ids in the local cache.
    prefix
        What they are called in the model; no part of ``lora_``, by which PEFT tells its tensors.

    Raises
    ------
    FormatError
        One is not there or not a readable LoRA adapter.
    """
    names = [prefix] if len(refs) == 1 else [f"{prefix}_{number}" for number in range(1, len(refs) + 1)]
    return [AdapterOnDisk(name, ref, _folder(ref)) for name, ref in zip(names, refs, strict=True)]


def _folder(ref: str) -> Path:
    with nothing_downloaded("adapter", ref):
        return read_adapter(ref).folder


def check_base(base: torch.nn.Module, adapter: AdapterOnDisk) -> None:
    """Refuse an adapter that was trained on another base, or that is more than LoRA factors.

    Raises
    ------
    ConfigError
        The base has no such module.
    PlanError
        The base's module has another shape.
    CarrickError
        DoRA, `modules_to_save`, biases, trained tokens: two such adapters cannot be active together.
    """
    from peft import PeftConfig  # noqa: PLC0415  (loads for two seconds)

    refuse_config(adapter.ref, PeftConfig.from_pretrained(str(adapter.folder)))
    modules = read_adapter(str(adapter.folder)).modules
    shapes = {
        path: tuple(module.weight.shape)
        for path, module in base.named_modules()
        if isinstance(getattr(module, "weight", None), torch.Tensor)
    }
    for path in modules:
        if path not in shapes:
            raise ConfigError(
                f"{adapter.ref}: changes `{path}`, which the base does not have{nearest(path, shapes)}; use the base "
                "that the adapter was trained on"
            )
    try:
        orientations(modules.values(), shapes)
    except PlanError as error:
        raise PlanError(f"{adapter.ref}: {error}") from None


def load_adapters(base: torch.nn.Module, adapters: Sequence[AdapterOnDisk]) -> Any:
    """Load adapters from disk onto a base, frozen; `activate` makes them take part.

    Returns
    -------
    peft.PeftModel

    Raises
    ------
    ConfigError, PlanError, CarrickError
        One does not fit the base: see `check_base`.
    """
    from peft import PeftModel  # noqa: PLC0415  (loads for two seconds)

    for adapter in adapters:
        check_base(base, adapter)
    first, *others = adapters
    model = PeftModel.from_pretrained(base, str(first.folder), adapter_name=first.name, is_trainable=False)
    for other in others:
        model.load_adapter(str(other.folder), other.name, is_trainable=False)
    return model


def activate(
    model: Any, names: Sequence[str], *, trained: Collection[str], weights: Mapping[str, float] | None = None
) -> None:
    """Let several adapters take part at once, of which some train.

    Parameters
    ----------
    model
        A ``peft.PeftModel`` that has them.
    names
        Those that take part; ΔW is the sum of theirs.
    trained
        Those that train. The others are frozen and lose their dropout.
    weights
        λ of an adapter, 1 where absent: its ΔW is λ·s·B·A.
    """
    model.base_model.set_adapter(list(names))  # PeftModel.set_adapter takes no list
    for name in names:
        # Afterwards: a list of active adapters has all of them train, also those that were loaded frozen.
        model.set_requires_grad(name, name in trained)
        for live in find_layers(model.base_model.model, [name]):
            live.layer.set_scale(name, (weights or {}).get(name, 1.0))
            if name not in trained:
                live.layer.lora_dropout[name] = torch.nn.Identity()


def save_adapter(model: Any, name: str, folder: Path) -> None:
    """Write one adapter of several as a folder of its own; PEFT puts it into a sub-folder of its name.

    Parameters
    ----------
    model
        A ``peft.PeftModel``.
    name
        The adapter.
    folder
        Where its two files go; what else is there stays.
    """
    with tempfile.TemporaryDirectory(dir=made(folder)) as scratch:
        model.save_pretrained(scratch, selected_adapters=[name], save_embedding_layers=False)
        move_files(Path(scratch, name), folder)


def move_files(source: Path, folder: Path) -> None:
    """Move the two files of an adapter to another folder of the same disk."""
    for file in (WEIGHTS, CONFIG):
        (source / file).replace(made(folder) / file)


def made(folder: Path) -> Path:
    """Make a folder if it is not there, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def account(adapters: Sequence[AdapterOnDisk]) -> list[dict[str, str]]:
    """Describe adapters for the record: name in the training, place, checksum of the factors."""
    described = []
    for adapter in adapters:
        digest = hashlib.sha256()
        for file in read_adapter(str(adapter.folder)).files:
            with Path(file.path).open("rb") as stream:
                hashlib.file_digest(stream, lambda: digest)  # noqa: B023  (called at once)
        described.append({"name": adapter.name, "adapter": adapter.ref, "sha256": digest.hexdigest()})
    return described


def read_weights(weights: Sequence[float] | None, count: int, what: str) -> list[float]:
    """Return λ of each adapter, 1 where the recipe gives none.

    Parameters
    ----------
    weights
        The recipe's `weights`.
    count
        Number of adapters.
    what
        What they are, for the message: ``the task adapter and the language adapter``.

    Raises
    ------
    ConfigError
        Another number of weights than of adapters, or one of 0: the adapter would not train.

    Examples
    --------
    >>> read_weights(None, 2, "two adapters"), read_weights([0.5, 0.5], 2, "two adapters")
    ([1.0, 1.0], [0.5, 0.5])
    """
    if weights is None:
        return [1.0] * count
    if len(weights) != count:
        raise ConfigError(f"`weights` has {len(weights)} numbers; give one for each of the {count}: {what}")
    if 0 in weights:
        raise ConfigError(f"`weights` is {list(weights)}: an adapter of weight 0 takes no part; leave it out")
    return [float(weight) for weight in weights]
