"""The model that is trained from: where it lies, what it is, and how it is loaded."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carrick.checkpoints.checkpoint import read_checkpoint
from carrick.checkpoints.find import find_path
from carrick.errors import ConfigError
from carrick.hub_cache import nothing_downloaded
from carrick.loading import load_complete, naming_config
from carrick.suggestions import nearest

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from carrick.train.recipe import Adapter, Task, Training

_SHORT = 256


@dataclass(frozen=True)
class Base:
    """A base model on disk.

    Attributes
    ----------
    name
        As the recipe names it.
    path
        Its folder.
    commit
        Commit of a Hub snapshot.
    config_sha256
        Checksum of its config.json.
    architecture
        `model_type` of its configuration.
    """

    name: str
    path: Path
    commit: str | None
    config_sha256: str
    architecture: str


def find_base(name: str) -> Base:
    """Find the base and read what it is, without loading it.

    Raises
    ------
    FormatError
        Nothing is there, or no readable weights.
    ConfigError
        What is there has no config.json, or one of an architecture that transformers does not know.
    """
    from pathlib import Path as _Path  # noqa: PLC0415

    ref, _, revision = (name, "", "") if _Path(name).exists() else name.partition("@")
    with nothing_downloaded("base", ref, revision or None):
        path, commit = find_path(ref, revision or None)
    config = path / "config.json"
    if not config.is_file():
        is_adapter = (path / "adapter_config.json").is_file()
        kind = "it is an adapter; name the model it belongs to" if is_adapter else "there is no config.json"
        raise ConfigError(f"base: {name} is no model: {kind}")
    found = read_checkpoint(path, name, commit)  # names what is cut short, missing or a pickle
    _check_config(name, path)
    checksum = hashlib.sha256(config.read_bytes()).hexdigest()
    return Base(name, path, commit, checksum, found.kind or "unknown")


def _check_config(name: str, path: Path) -> None:
    from transformers import AutoConfig  # noqa: PLC0415

    try:
        with naming_config(f"base: the config.json of {name}"):
            AutoConfig.from_pretrained(path)
    except ValueError as error:  # an architecture that transformers does not know
        first = str(error).split("\n", maxsplit=1)[0]
        raise ConfigError(f"base: {name} is no model that can be trained: {first}") from None


def load_model(base: Base, task: Task, training: Training, *, trains_all: bool) -> nn.Module:
    """Load the base: a causal language model, or for classification the bare encoder.

    Under ``precision: bfloat16`` weights that stay frozen keep the type they are stored in; weights that train
    are float32, whatever the arithmetic.

    Parameters
    ----------
    base
        The model.
    task
        Decides on the class.
    training
        Its `precision` and `base_dropout` are heeded.
    trains_all
        Whether the model's own weights train, all or some of them.

    Raises
    ------
    ConfigError
        The base's files lack weights of that class, or hold them in other shapes than its config.json says.
    """
    import torch  # noqa: PLC0415
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM  # noqa: PLC0415

    from carrick.classifier.encoder import encoder_options  # noqa: PLC0415

    stored = training.precision == "bfloat16" and not trains_all
    config = AutoConfig.from_pretrained(base.path)
    dropouts = {} if training.base_dropout else _dropouts(config)
    for key in dropouts:
        setattr(config, key, 0.0)
    options: dict[str, Any] = {"config": config, "dtype": "auto" if stored else torch.float32}
    if training.precision == "bfloat16" and training.max_length <= _SHORT and not torch.cuda.is_available():
        # torch's fused attention for CPUs takes 1.6 times as long on short bfloat16 rows as the plain formula.
        options["attn_implementation"] = "eager"
    if task == "classification":
        model = load_complete(AutoModel, base.path, base.name, **options, **encoder_options(base.path))
    else:
        model = load_complete(AutoModelForCausalLM, base.path, base.name, **options)
    for key, value in dropouts.items():
        setattr(model.config, key, value)  # what is saved is the base's configuration
    return model  # type: ignore[no-any-return]


def load_tokenizer(base: Base, task: Task) -> Any:
    """Load the tokenizer.

    Raises
    ------
    ConfigError
        There is none, or one without an end-of-text token for a language model.
    """
    from transformers import AutoTokenizer  # noqa: PLC0415

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(base.path)
    except (OSError, ValueError) as error:
        first = str(error).split("\n", maxsplit=1)[0]
        raise ConfigError(f"base: {base.name} has no tokenizer that can be loaded: {first}") from None
    if task == "causal" and tokenizer.eos_token is None:
        raise ConfigError(
            f"base: the tokenizer of {base.name} has no end-of-text token, which answers end with"
        )
    return tokenizer


def empty_model(base: Base, task: Task) -> nn.Module:
    """Build the model without memory for its weights, to look at its modules before anything is loaded."""
    import torch  # noqa: PLC0415
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM  # noqa: PLC0415

    from carrick.classifier.encoder import encoder_options  # noqa: PLC0415

    config = AutoConfig.from_pretrained(base.path)
    with torch.device("meta"), naming_config(f"base: the config.json of {base.name}"):
        if task == "classification":
            return AutoModel.from_config(config, **encoder_options(base.path))  # type: ignore[no-any-return]
        try:
            return AutoModelForCausalLM.from_config(config)  # type: ignore[no-any-return]
        except ValueError:
            raise ConfigError(
                f"base: {base.name} is a {base.architecture} model, which is no causal language model"
            ) from None


def check_targets(model: nn.Module, adapter: Adapter, base: Base | None = None) -> list[str]:
    """Return the full names of the modules that the adapter targets: linear layers, and embeddings that are named.

    Raises
    ------
    ConfigError
        A target or a layer that the base has not.
    """
    from torch import nn as _nn  # noqa: PLC0415
    from transformers.pytorch_utils import Conv1D  # noqa: PLC0415  (GPT-2's linear layers)

    name_of_base = "the base" if base is None else base.name
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, _nn.Linear | _nn.Embedding | Conv1D)
    ]
    names = sorted({name.rsplit(".", 1)[-1] for name in linear})
    output = _output_layer(model)
    if adapter.targets == "all-linear":
        embeddings = {name for name in linear if isinstance(model.get_submodule(name), _nn.Embedding)}
        found = [name for name in linear if name not in embeddings and name != output]
    elif isinstance(adapter.targets, str):
        try:
            pattern = re.compile(adapter.targets)
        except re.error as error:
            raise ConfigError(
                f"adapter.targets: `{adapter.targets}` is no regular expression: {error}"
            ) from None
        found = [name for name in linear if pattern.fullmatch(name)]
        if not found:
            hint = nearest(adapter.targets, names) or f"; its modules are {', '.join(names)}"
            raise ConfigError(
                f"adapter.targets: `{adapter.targets}` matches no module of {name_of_base}{hint}"
            )
    else:
        for target in adapter.targets:
            if not any(name == target or name.endswith(f".{target}") for name in linear):
                hint = nearest(target, names) or f"; its modules are {', '.join(names)}"
                raise ConfigError(f"adapter.targets: {name_of_base} has no module `{target}`{hint}")
        found = [
            name
            for name in linear
            if any(name == target or name.endswith(f".{target}") for target in adapter.targets)
        ]
    if output is not None and output in found:
        raise ConfigError(
            f"adapter.targets: `{output}` is the output layer, whose weights the loss reads directly, so that an "
            "adapter on it would not train; leave it out"
        )
    if adapter.layers is None:
        return found
    return _of_layers(found, adapter.layers, name_of_base)


def _output_layer(model: nn.Module) -> str | None:
    get: Any = getattr(model, "get_output_embeddings", None)
    layer = None if get is None else get()
    return (
        next((name for name, module in model.named_modules() if module is layer), None)
        if layer is not None
        else None
    )


def _of_layers(names: list[str], layers: list[int], base: str) -> list[str]:
    numbers = {name: int(match[1]) for name in names if (match := re.search(r"\.(\d+)\.", name))}
    count = max(numbers.values(), default=-1) + 1
    for layer in layers:
        if layer not in numbers.values():
            raise ConfigError(f"adapter.layers: {base} has no layer {layer}; it has {count}, from 0")
    return [name for name, number in numbers.items() if number in layers]


def _dropouts(config: Any) -> dict[str, float]:
    return {
        key: value
        for key, value in config.to_dict().items()
        if "drop" in key and isinstance(value, float) and value > 0
    }
