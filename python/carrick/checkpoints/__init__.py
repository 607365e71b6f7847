"""Finding and indexing checkpoints: folders, single files, and models in the Hugging Face cache."""

from carrick.checkpoints.checkpoint import Checkpoint, read_checkpoint
from carrick.checkpoints.element_types import ELEMENT_TYPES, byte_count, element_size, is_float, numpy_dtype
from carrick.checkpoints.find import find, find_path
from carrick.checkpoints.folder import folder_files, read_json
from carrick.checkpoints.headers import FileRecord, StoredTensor, read_header
from carrick.checkpoints.layers import Place, Stack, find_stacks, locate
from carrick.checkpoints.lazy import LazyTensors, open_checkpoint

__all__ = [
    "ELEMENT_TYPES",
    "Checkpoint",
    "FileRecord",
    "LazyTensors",
    "Place",
    "Stack",
    "StoredTensor",
    "byte_count",
    "element_size",
    "find",
    "find_path",
    "find_stacks",
    "folder_files",
    "is_float",
    "locate",
    "numpy_dtype",
    "open_checkpoint",
    "read_checkpoint",
    "read_header",
    "read_json",
]
