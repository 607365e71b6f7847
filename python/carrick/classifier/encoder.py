"""Encoders as they are loaded: without the pooler that no mean uses, and from a config.json that makes one."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from carrick.errors import ConfigError
from carrick.loading import naming_config
from carrick.positions import learnt_positions, most_tokens
from carrick.quiet import quiet_libraries

if TYPE_CHECKING:
    from pathlib import Path


def check_config(folder: Path, named: str) -> Any:
    """Refuse a config.json that no encoder can be built from; no weight is read.

    Parameters
    ----------
    folder
        Of the encoder.
    named
        What messages call its config.json.

    Returns
    -------
    transformers.PreTrainedConfig
        What it says.

    Raises
    ------
    ConfigError
        It is malformed, or of an architecture that transformers does not know.
    """
    import torch  # noqa: PLC0415
    from transformers import AutoConfig, AutoModel  # noqa: PLC0415

    try:
        with quiet_libraries(), naming_config(named), torch.device("meta"):
            config = AutoConfig.from_pretrained(folder)
            AutoModel.from_config(config, **encoder_options(folder))
    except (
        OSError,
        ValueError,
        KeyError,
        RuntimeError,
    ) as error:  # as transformers happens to stumble over it
        first = str(error).split("\n", maxsplit=1)[0]
        raise ConfigError(f"{named} is that of no encoder: {first}") from None
    return config


def tokens_kept(folder: Path, wanted: int | None, tokenizer: Any) -> int:
    """Return how many tokens of a text an encoder is given; no weight is read.

    Parameters
    ----------
    folder
        Of the encoder.
    wanted
        So many, or as many as it has positions for; None for its own maximum.
    tokenizer
        Its tokenizer.
    """
    import torch  # noqa: PLC0415
    from transformers import AutoConfig, AutoModel  # noqa: PLC0415

    with quiet_libraries(), torch.device("meta"):
        model = AutoModel.from_config(AutoConfig.from_pretrained(folder), **encoder_options(folder))
    return most_tokens(model, tokenizer) if wanted is None else min(wanted, learnt_positions(model) or wanted)


def encoder_options(folder: Path) -> dict[str, Any]:
    """Return what `AutoModel.from_pretrained` is told beside the folder.

    BERT and its kin bring a pooler of their own (tanh over the first token): left out, `dense` among the targets
    of an adapter does not hit it.
    """
    from transformers import AutoConfig  # noqa: PLC0415
    from transformers.models.auto.modeling_auto import MODEL_MAPPING  # noqa: PLC0415

    config = AutoConfig.from_pretrained(folder)
    model = MODEL_MAPPING[type(config)]
    takes = "add_pooling_layer" in inspect.signature(model.__init__).parameters
    return {"add_pooling_layer": False} if takes else {}
