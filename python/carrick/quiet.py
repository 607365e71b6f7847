"""Silence for the libraries that train and load models: their bars, chatter and notices of deprecation.

What a user has to know is said by Carrick itself, in notes, records and errors.
"""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOGGERS = ("transformers", "trl", "peft", "accelerate", "datasets")
_MODULES = r"(transformers|trl|peft|accelerate)(\.|$)"


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep transformers, trl, peft, accelerate and datasets from printing, and put everything back at the end."""
    import datasets  # noqa: PLC0415
    from transformers.utils import logging as chatter  # noqa: PLC0415

    verbosity, drew, loaded = (
        chatter.get_verbosity(),
        chatter.is_progress_bar_enabled(),
        datasets.are_progress_bars_disabled(),
    )
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    chatter.set_verbosity_error()
    chatter.disable_progress_bar()
    datasets.disable_progress_bars()
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # trl and peft use names of transformers that will go, and so does whoever supports several versions.
            warnings.filterwarnings("ignore", category=FutureWarning, module=_MODULES)
            yield
    finally:
        chatter.set_verbosity(verbosity)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        if drew:
            chatter.enable_progress_bar()
        if not loaded:
            datasets.enable_progress_bars()
