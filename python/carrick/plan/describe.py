"""What a plan says about itself beside its jobs: models, configuration, element types, notes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrick.plan.config_json import ConfigEdits
from carrick.plan.dtypes import OutputTypes, dtype_bytes, main_float
from carrick.plan.lineup import AppliedAdapter, Model, Models, folder_of
from carrick.plan.slices import layer_map
from carrick.plan.tied import TIED, UNTIED, TieDecision

if TYPE_CHECKING:
    from carrick.config import Document


def edited_config(document: Document, models: Models, ties: TieDecision) -> ConfigEdits:
    """Edit the donor's config.json as this merge requires.

    Raises
    ------
    PlanError
        The number of layers or the vocabulary changes, and config.json names none.
    """
    config = ConfigEdits(models.donor.checkpoint)
    config.set_dtype(document.output_dtype)
    stated = models.donor.checkpoint.tie_word_embeddings
    if ties.untied or (ties.state == UNTIED and stated):
        config.set_tied(False)
    elif ties.state == TIED and (stated is False or (stated is None and document.tie == "keep")):
        config.set_tied(True)
    if models.donor.resized is not None:
        config.set_vocabulary(models.donor.resized)
        if document.tokenizer in {None, "base"}:
            config.notes.append(
                f"the tokenizer stays that of {models.donor.origin.ref}, which may lack the {models.donor.resized.new}"
                " tokens of the output; `tokenizer_source` in a YAML takes it from another folder, as the adapter's."
            )
    if document.stacked:
        config.set_layers(layer_map(document, models))
    return config


def describe(document: Document, models: Models, types: OutputTypes, config: ConfigEdits) -> dict[str, Any]:
    """Gather what does not follow from the jobs: where files come from, decisions, notes about the inputs."""
    written = "out_dtype" if document.out_dtype else "dtype" if document.dtype else None
    template = document.chat_template
    return {
        "method": document.method.name,
        "variant": document.variant,
        "document": document.name,
        "yaml": document.text,
        "donor": folder_of(models.donor),
        "chat_template": None if template is None else {"kind": template.kind, "text": template.text},
        "models": [_model(document, models, model) for model in models.distinct],
        "config_json": config.config,
        "config_edits": config.edits,
        "dtype": types.describe(written),
        "notes": [*document.notes, *_notes(models, types)],
    }


def _model(document: Document, models: Models, model: Model) -> dict[str, Any]:
    checkpoint = model.origin
    ref = next(ref for ref, held in models.by_ref.items() if held is model)
    bases = {part.base.ref for part in document.parts if part.base}
    listed = {source.ref for part in document.parts for source in part.sources}
    described = {
        **folder_of(model),
        "role": "base" if ref in bases else "model" if ref in listed else "donor",
        "kind": checkpoint.kind,
        "is_folder": checkpoint.revision is not None or Path(ref.path).expanduser().is_dir(),
        "dtypes": dtype_bytes(checkpoint),
        "files": list(range(model.first_file, model.first_file + len(model.checkpoint.files))),
    }
    if model.adapters:
        described["adapters"] = [_adapter(applied) for applied in model.adapters]
    return described


def _adapter(applied: AppliedAdapter) -> dict[str, Any]:
    adapter = applied.adapter
    return {
        "ref": adapter.ref,
        "folder": str(adapter.folder),
        "revision": adapter.revision,
        "base": adapter.config.base_model_name_or_path,
        "weight": applied.weight,
        "modules": len(adapter.modules),
        "rank": max((module.rank for module in adapter.modules.values()), default=None),
        "dtypes": dtype_bytes(adapter.checkpoint),
        "files": list(range(applied.first_file, applied.first_file + len(adapter.files))),
    }


def _notes(models: Models, types: OutputTypes) -> list[str]:
    notes = [note for model in models.distinct for note in model.checkpoint.notes]
    floats = {model.ref: main_float(model.origin) for model in models.distinct}
    if len(set(floats.values())) > 1:
        listed = ", ".join(f"{ref} is {dtype}" for ref, dtype in floats.items())
        notes.append(f"element types differ ({listed}): computed in float32 and written as {types.main}.")
    return notes
