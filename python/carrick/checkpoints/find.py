"""From what a user wrote (a folder, a file, a Hub id) to a checkpoint on disk."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from carrick.checkpoints.checkpoint import Checkpoint, read_checkpoint
from carrick.errors import FormatError
from carrick.suggestions import nearest_file

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)


class HubFiles(NamedTuple):
    """Which files of a Hub repository are fetched, by pattern; `*` stands for slashes too."""

    wanted: tuple[str, ...]
    unwanted: tuple[str, ...]


# What a merge needs; never pickles, nor copies of the weights in other formats.
MODEL = HubFiles(
    ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken", "*.py"),
    ("consolidated*", "*/*", "adapter_model*"),
)
# An adapter, or several in sub-folders; not the checkpoints of the training run beside them.
ADAPTER = HubFiles(
    ("*adapter_config.json", "*adapter_model*.safetensors", "*adapter_model.safetensors.index.json"),
    ("checkpoint-*",),
)


def find(ref: str, revision: str | None = None, *, download: bool = False) -> Checkpoint:
    """Find a checkpoint and read its headers.

    Parameters
    ----------
    ref
        A model folder, one .safetensors file, an index file, or a Hub id (`org/name`) that is in the local
        cache.
    revision
        Branch, tag or commit of a Hub id.
    download
        Fetch a Hub id that is not in the cache.

    Raises
    ------
    FormatError
        Nothing there, or what is there is no checkpoint.
    """
    path, commit = find_path(ref, revision, download=download)
    return read_checkpoint(path, ref, commit)


def find_path(
    ref: str, revision: str | None = None, *, download: bool = False, files: HubFiles = MODEL
) -> tuple[Path, str | None]:
    """Find where a model lies, without opening it: its path, and the commit if it is a Hub snapshot.

    Parameters and exceptions are those of `find`; `files` says what a download fetches.
    """
    path = existing_path(ref)
    if path is not None:
        if revision is not None:
            raise FormatError(
                f"{ref}: is a local path, which has no revision {revision!r}; leave the revision out"
            )
        return path.absolute(), None
    if not _HUB_ID.fullmatch(ref):
        raise FormatError(f"{ref}: {_why_not_there(ref)}")
    folder = _snapshot(ref, revision, files, download=download)
    return folder, folder.name


def existing_path(ref: str) -> Path | None:
    """Return the file or folder that a text names, None where there is none.

    Raises
    ------
    FormatError
        Nothing can be called so: the home folder of a user who is not there, or a name that is too long.
    """
    try:
        path = Path(ref).expanduser()
        return path if path.exists() else None
    except (OSError, RuntimeError, ValueError) as error:
        raise FormatError(f"{ref}: cannot be looked for ({error}); check the name") from None


def _why_not_there(ref: str) -> str:
    base, *adapters = ref.split("+")
    if adapters and existing_path(base) is not None:
        return (
            "names a model with adapters on it, which merges, `similarity` and `evaluate` take; give one of both here, "
            f"or write the model first: `carrick adapters apply {' '.join([base, *adapters])} -o OUT`"
        )
    return f"no such file or folder{nearest_file(Path(ref).expanduser(), whole=True)}"


def _snapshot(repo: str, revision: str | None, files: HubFiles, *, download: bool) -> Path:
    from huggingface_hub import snapshot_download  # noqa: PLC0415  (slow to import, wanted for Hub ids alone)
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError  # noqa: PLC0415

    at = f" at revision {revision!r}" if revision else ""
    try:
        return Path(
            snapshot_download(
                repo,
                revision=revision,
                local_files_only=not download,
                allow_patterns=list(files.wanted),
                ignore_patterns=list(files.unwanted),
            )
        )
    except LocalEntryNotFoundError as error:
        if download:
            raise FormatError(f"{repo}{at}: cannot be downloaded ({_first_line(error)})") from error
        raise FormatError(
            f"{repo}{at}: neither a local folder nor in the Hugging Face cache; allow the download with "
            f"--download (download=True), or fetch it first with `hf download`{nearest_file(Path(repo), whole=True)}"
        ) from error
    except (HfHubHTTPError, HFValidationError) as error:
        raise FormatError(f"{repo}{at}: cannot be downloaded ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
