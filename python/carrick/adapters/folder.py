"""Where an adapter lies: a PEFT folder, one of several in a folder, or a Hub id in the local cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from carrick.checkpoints import find_path
from carrick.checkpoints.find import ADAPTER, HubFiles
from carrick.errors import FormatError
from carrick.suggestions import nearest

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
PICKLE = "adapter_model.bin"
# What tells an adapter on the Hub from a checkpoint, without its weights.
_TELLING = HubFiles((f"*{CONFIG}",), ("checkpoint-*",))


class AdapterFiles(NamedTuple):
    """The files of one adapter: `weights` is the safetensors file, or the index of several."""

    folder: Path
    config: Path
    weights: Path
    revision: str | None


def find_adapter(
    ref: str, name: str | None = None, revision: str | None = None, *, download: bool = False
) -> AdapterFiles:
    """Find the files of an adapter.

    Parameters
    ----------
    ref
        A folder, or a Hub id (`org/name`) that is in the local cache.
    name
        Which one, in a folder that holds several; `default` is the one at the top.
    revision, download
        As for `carrick.checkpoints.find`.

    Raises
    ------
    FormatError
        Nothing there, several adapters and none named, a pickle, or files missing.
    """
    path, commit = find_path(ref, revision, download=download, files=ADAPTER)
    if not path.is_dir():
        raise FormatError(f"{ref}: is a file; give the folder that holds {CONFIG}")
    folder = _named(path, name) if name is not None else path
    config = folder / CONFIG
    if not config.exists():
        raise FormatError(_why_no_config(folder))
    return AdapterFiles(folder, config, _weights(folder), commit)


def is_adapter(ref: str, revision: str | None = None, *, download: bool = False) -> bool:
    """Tell whether a model is an adapter, or a folder of adapters, rather than a checkpoint.

    Raises
    ------
    FormatError
        Nothing is there.
    """
    path, _ = find_path(ref, revision, download=download, files=_TELLING)
    if not path.is_dir() or any(path.glob("model*.safetensors*")):
        return False
    # Weights alone make an adapter, too: what it lacks is told when it is read.
    signs = (CONFIG, "adapter_model*.safetensors", f"*/{CONFIG}")
    return any(next(path.glob(sign), None) for sign in signs)


def adapter_names(folder: Path) -> list[str]:
    """Names of the adapters in the sub-folders of a folder, as a save of several adapters makes them."""
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and (p / CONFIG).exists())


def _named(folder: Path, name: str) -> Path:
    names = adapter_names(folder)
    if name in names:
        return folder / name
    if name == "default" and (folder / CONFIG).exists():
        return folder
    held = f"; it holds {_listed(names)}" if names else ""
    raise FormatError(f"{folder}: holds no adapter named {name!r}{nearest(name, names) or held}")


def _weights(folder: Path) -> Path:
    for name in (WEIGHTS, INDEX):
        if (folder / name).exists():
            return folder / name
    if (folder / PICKLE).exists():
        raise FormatError(
            f"{folder / PICKLE}: is a pickle, which is never loaded because it can run code; convert it with "
            "PEFT: PeftModel.from_pretrained(base, FOLDER).save_pretrained(NEW_FOLDER)"
        )
    raise FormatError(f"{folder}: has {CONFIG} but no {WEIGHTS}; complete the download")


def _why_no_config(folder: Path) -> str:
    names = adapter_names(folder)
    if names:
        return (
            f"{folder}: holds {'several adapters' if len(names) > 1 else 'an adapter in a sub-folder'} "
            f"({_listed(names)}); name one: {folder / names[0]}"
        )
    held = sorted(p.name for p in folder.iterdir())
    if not held:
        return f"{folder}: is empty; give the folder that holds {CONFIG} and {WEIGHTS}"
    if any(n.startswith("adapter_model") for n in held):
        return f"{folder}: has no {CONFIG}, which says the rank and alpha; restore it from where it was saved"
    whole = "; it is a whole model, not an adapter" if "config.json" in held else ""
    return f"{folder}: has no {CONFIG}{whole}; give the folder of a PEFT adapter"


def _listed(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
