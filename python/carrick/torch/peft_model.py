"""Merging adapters of a live PeftModel into a new one beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carrick.errors import CarrickError, ConfigError
from carrick.suggestions import nearest
from carrick.torch.live_layers import LiveLayer, find_layers, refuse_config
from carrick.torch.merge import merge_on_device
from carrick.torch.merged_config import merged_config
from carrick.torch.modules import Module
from carrick.torch.options import read_options
from carrick.torch.parameters import with_parameters

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from carrick.torch.results import Diagnostics, Merged


def add_merged_adapter(
    model: Any,
    adapters: Sequence[str],
    name: str = "merged",
    *,
    method: str = "knots_ties",
    weights: float | Sequence[float] | None = None,
    density: float | Sequence[float] | None = None,
    parameters: Mapping[str, Any] | None = None,
    device: str | torch.device | None = None,
    activate: bool = False,
    **options: Any,
) -> dict[str, Diagnostics]:
    """Merge LoRA adapters of a live PeftModel into a new adapter of it.

    What is merged is ΔW = s·B·A of each module, never A and B apart. The new adapter has its own rank in each module
    and α = r; the others, the active ones among them, stay as they are. What :func:`carrick.adapters.merge` has beyond
    this (``layer_swap``, ``space="factors"``, weights by module, a merge of what is saved beside the factors) is had by
    merging saved folders.

    Parameters
    ----------
    model
        A ``peft.PeftModel`` of LoRA adapters.
    adapters
        Names of those to merge.
    name
        Name of the new adapter.
    method
        ``cat`` (or ``linear``, ``task_arithmetic``): the exact weighted sum, of rank Σ rᵢ. ``svd``: its best
        approximation of rank `rank`, or of the rank that holds the share `energy` of Σσ². ``ties``, ``dare_linear``,
        ``dare_ties`` and ``magnitude_prune``: a merge of the entries of ΔW, cut to `rank` or `energy`.
        ``knots_linear``, ``knots_ties``, ``knots_dare_linear``, ``knots_dare_ties`` and ``knots_magnitude_prune``: a
        merge in a shared basis.
    weights, density
        A number for all, or one for each adapter. Weights are 1 where absent; a method that drops entries requires
        a density.
    parameters
        Parameters of the method as for :func:`carrick.adapters.merge` (``{"lambda": 0.6, "aggregate": "sum"}``), in
        place of options or beside them.
    device
        Where the work is done: ``cpu``, ``cuda``, ``cuda:1``; where the adapters are, if absent.
    activate
        Make the new adapter the active one.
    **options
        Such as ``variant="paper"``, ``rank=64``, ``lambda_=0.6`` or ``seed=1``: see `read_options`.

    Returns
    -------
    For each module, the rank, the singular values and how they were found.

    Raises
    ------
    CarrickError
        An adapter that is not there, a name that is taken, or something besides LoRA factors that a merge would
        lose: DoRA, `modules_to_save`, `lora_bias`, trained tokens, convolutions; an initialisation that changed the
        base (PiSSA, OLoRA, CorDA, LoRA-GA, LoftQ). The model is as it was.

    Examples
    --------
    >>> import torch
    >>> from carrick.torch import add_merged_adapter
    >>> import peft
    >>> base = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Linear(4, 3))
    >>> model = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["0", "1"]), "en")
    >>> model.add_adapter("de", peft.LoraConfig(r=1, target_modules=["0"]))
    >>> found = add_merged_adapter(model, ["en", "de"], "both", method="cat", weights=[1.0, 0.5])
    >>> {path: diagnostics.rank for path, diagnostics in found.items()}
    {'0': 3, '1': 2}
    >>> model.set_adapter("both")
    """
    configs = _configs(model)
    _check_names(configs, adapters, name)
    given = with_parameters({"density": density, **options}, parameters)
    settings = read_options(method, len(adapters), weights=weights, **given)
    for adapter in adapters:
        refuse_config(adapter, configs[adapter])
    layers = find_layers(model.base_model.model, adapters)
    modules = [Module.of(layer.path, layer.terms(adapters), a_name=layer.a_name) for layer in layers]
    place = device if device is not None else layers[0].device
    merged = {result.path: result for result in merge_on_device(modules, settings, place)}
    _add(model, name, adapters, layers, merged)
    if activate:
        model.set_adapter(name)
    return {path: result.diagnostics for path, result in merged.items()}


def _configs(model: Any) -> dict[str, Any]:
    """Return the configurations of a LoRA PeftModel."""
    try:
        import peft  # noqa: PLC0415  only those who hold a PeftModel have it
    except ModuleNotFoundError as error:
        raise CarrickError(
            "`add_merged_adapter` needs peft, which is not installed; pip install peft"
        ) from error
    if not isinstance(model, peft.PeftModel) or not isinstance(model.base_model, peft.LoraModel):
        raise ConfigError(
            f"the model is a {type(model).__name__}; give a peft.PeftModel whose adapters are LoRA"
        )
    configs: dict[str, Any] = model.peft_config
    return configs


def _check_names(configs: dict[str, Any], adapters: Sequence[str], name: str) -> None:
    if isinstance(adapters, str) or not adapters:
        raise ConfigError(f"`adapters` is {adapters!r}; it is a list of names, such as {list(configs)}")
    for adapter in adapters:
        if adapter not in configs:
            known = ", ".join(configs)
            raise ConfigError(
                f"adapter `{adapter}` is not in the model{nearest(str(adapter), configs)}; it has {known}"
            )
    if name in configs:
        raise ConfigError(f"adapter `{name}` is there already; choose another `name` or delete it first")
    if not name or "." in name:
        raise ConfigError(f"`name` is {name!r}; it must not be empty and must have no dot")


def _add(
    model: Any, name: str, adapters: Sequence[str], layers: Sequence[LiveLayer], merged: dict[str, Merged]
) -> None:
    """Add the adapter, or leave the model as it was."""
    tuner = model.base_model
    ranks = {path: result.a.shape[0] for path, result in merged.items()}
    names = [path for path, _module in tuner.model.named_modules() if tuner.prefix not in path]
    tuner.peft_config[name] = merged_config(tuner.peft_config[adapters[0]], ranks, names)
    try:
        tuner.inject_adapter(tuner.model, name)
        for layer in layers:
            result = merged[layer.path]
            layer.store(name, (result.a, result.b), layer.dtype(adapters))
        new = [layer.path for layer in find_layers(tuner.model, [name])]
        if sorted(new) != sorted(merged):
            raise CarrickError(
                f"adapter `{name}`: PEFT placed it on {len(new)} modules, not on the {len(merged)} that were merged"
            )
    except BaseException:
        tuner.delete_adapter(name)
        raise
