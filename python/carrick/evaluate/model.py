"""A model as it is evaluated: a checkpoint, or a base with one adapter or several active at once."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrick.adapters.apply import apply
from carrick.adapters.folder import find_adapter
from carrick.checkpoints.checkpoint import read_checkpoint
from carrick.checkpoints.find import find_path
from carrick.config.location import Location
from carrick.config.model_ref import AdapterRef, read_adapter_ref, read_model_ref
from carrick.config.objects import read_object
from carrick.errors import ConfigError
from carrick.evaluate.device import element_type
from carrick.loading import load_complete, naming_config

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from carrick.config.model_ref import ModelRef


@dataclass(frozen=True)
class Subject:
    """What is evaluated, found on disk and checked, not loaded yet.

    Attributes
    ----------
    name
        As it was asked for: ``base``, or ``base+adapter:0.5+…``.
    folder
        Folder of the checkpoint.
    adapters
        Folder and weight of each adapter, in their order.
    """

    name: str
    folder: Path
    adapters: tuple[tuple[Path, float], ...]


def find_subject(
    model: str | Path, adapters: Sequence[str | Path] = (), *, download: bool = False
) -> Subject:
    """Find a checkpoint and adapters, and check that the adapters fit it.

    Parameters
    ----------
    model
        Folder or Hub id (``@revision`` allowed), itself with adapters or not: ``base+adapter:0.5``.
    adapters
        Folders or Hub ids of adapters, each with ``:weight`` where it is not 1.
    download
        Fetch from the Hub what is not in the local cache.

    Raises
    ------
    FormatError, ConfigError, PlanError
        Nothing there, or an adapter that is not one of this base: its modules or shapes differ.
    """
    ref: ModelRef = read_model_ref(read_object(str(model), Location(key="model")), "the model", [])
    where = Location(key="adapters")
    refs: list[AdapterRef] = [
        *ref.adapters,
        *(
            read_adapter_ref(read_object(str(one), where.item(place)), "an adapter")
            for place, one in enumerate(adapters)
        ),
    ]
    folder, commit = find_path(ref.path, ref.revision, download=download)
    if not folder.is_dir() or not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise ConfigError(f"{ref.path} is an adapter; give its base first, then the adapter")
        raise ConfigError(
            f"{ref.path} holds no config.json, so it is no model that can run; give a model folder"
        )
    read_checkpoint(folder, ref.path, commit)  # names what is cut short, missing or a pickle
    found = tuple(
        (find_adapter(one.path, revision=one.revision, download=download).folder, one.weight) for one in refs
    )
    _check_fit(folder, found)
    return Subject("+".join([str(model), *map(str, refs[len(ref.adapters) :])]), folder, found)


def _check_fit(folder: Path, adapters: Sequence[tuple[Path, float]]) -> None:
    """Plan the merge of the adapters into the base, which names whatever does not fit; PEFT would pass it over."""
    if adapters:
        with tempfile.TemporaryDirectory() as empty:
            mappings = [{"path": str(path), "weight": weight} for path, weight in adapters]
            apply(folder, mappings, Path(empty) / "merged", dry_run=True)


def load_causal(subject: Subject, device: torch.device, precision: str = "auto") -> tuple[Any, Any]:
    """Load a causal language model with its adapters active, and its tokenizer.

    Several adapters add up: W + Σ weight·s·B·A, as a merge by ``cat`` does.

    Parameters
    ----------
    subject
        What `find_subject` found.
    device
        Where it is put.
    precision
        ``float32``, ``bfloat16``, ``float16``, or ``auto``: float32 on a CPU, as stored on a GPU.

    Raises
    ------
    ConfigError
        The checkpoint is no causal language model, its weights are not those of its config.json, or it has no
        tokenizer.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415  (an extra)

    dtype = element_type(precision, device)
    named = f"the config.json of {subject.folder}"
    try:
        with naming_config(named):
            tokenizer = AutoTokenizer.from_pretrained(subject.folder)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"{subject.folder}: no tokenizer beside the model can be loaded ({reason})"
        ) from None
    try:
        with naming_config(named):
            model = load_complete(
                AutoModelForCausalLM,
                subject.folder,
                str(subject.folder),
                otherwise="; an encoder is evaluated with --head",
                dtype=dtype,
            )
    except ValueError as error:  # an architecture that transformers has no causal model for
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{subject.folder} is no causal language model: {reason}") from None
    model.to(device).eval()
    return _with_adapters(model, subject.adapters), tokenizer


def _with_adapters(model: Any, adapters: Sequence[tuple[Path, float]]) -> Any:
    if not adapters:
        return model
    from peft import PeftModel  # noqa: PLC0415
    from peft.tuners.lora import LoraLayer  # noqa: PLC0415

    names = [f"adapter_{number}" for number in range(len(adapters))]
    adapted = PeftModel.from_pretrained(model, str(adapters[0][0]), adapter_name=names[0])
    for name, (path, _) in zip(names[1:], adapters[1:], strict=True):
        adapted.load_adapter(str(path), adapter_name=name)
    adapted.base_model.set_adapter(names)  # the outer model's takes a single name
    for module in adapted.modules():
        if isinstance(module, LoraLayer):
            for name, (_, weight) in zip(names, adapters, strict=True):
                if name in module.scaling:
                    module.set_scale(name, weight)
    return adapted.eval()
