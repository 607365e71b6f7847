"""The configuration of a merge: YAML or mappings as typed objects, mergekit's files read as they are."""

from carrick.config.document import ChatTemplate, Document, LayerSwap, Slice, Source
from carrick.config.location import Location
from carrick.config.model_ref import ModelRef
from carrick.config.options import Options, Position, TensorOptions, options_for
from carrick.config.reader import load, loads
from carrick.config.settings import Setting, Settings

__all__ = [
    "ChatTemplate",
    "Document",
    "LayerSwap",
    "Location",
    "ModelRef",
    "Options",
    "Position",
    "Setting",
    "Settings",
    "Slice",
    "Source",
    "TensorOptions",
    "load",
    "loads",
    "options_for",
]
