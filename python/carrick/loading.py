"""Models loaded by transformers, of which nothing is made up: no weight is random, no pickle is opened."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from carrick.errors import ConfigError
from carrick.quiet import quiet_libraries

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def naming_config(config: str) -> Iterator[None]:
    """Say which config.json is malformed where transformers stumbles over it.

    Parameters
    ----------
    config
        What the message calls it, such as "the config.json of models/base".

    Raises
    ------
    ConfigError
        A value of the wrong type, or a zero that divides.
    """
    from huggingface_hub.errors import StrictDataclassError  # noqa: PLC0415  (slow to import)

    try:
        yield
    except StrictDataclassError as error:
        last = str(error).rsplit("\n", maxsplit=1)[-1].strip()
        raise ConfigError(f"{config} is malformed: {last}") from None
    except ZeroDivisionError as error:
        raise ConfigError(f"{config} is malformed: a size or count in it is zero ({error})") from None


def load_complete(kind: Any, folder: Path, name: str, *, otherwise: str = "", **options: Any) -> Any:
    """Load a model, and refuse one that its files do not hold in whole.

    Parameters
    ----------
    kind
        transformers' class, such as AutoModelForCausalLM.
    folder
        Of the checkpoint.
    name
        What messages call it.
    otherwise
        What a user may do with a checkpoint that lacks weights of this class.
    options
        For `from_pretrained`.

    Raises
    ------
    ConfigError
        The class has weights that the files lack, or in other shapes: transformers would draw them at random.
    """
    with quiet_libraries():
        model, found = kind.from_pretrained(
            folder, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    if missing := sorted(found["missing_keys"]):
        raise ConfigError(
            f"{name} is no {_CALLED.get(kind.__name__, kind.__name__)}: it holds no `{missing[0]}`, which would be "
            f"random{otherwise}"
        )
    if found["mismatched_keys"]:
        key, stored, expected = min(found["mismatched_keys"])
        raise ConfigError(
            f"{name}: `{key}` is stored as {list(stored)}, and its config.json asks for {list(expected)}; use the "
            "config.json that belongs to the weights"
        )
    return model


_CALLED = {"AutoModelForCausalLM": "causal language model", "AutoModel": "complete model"}
