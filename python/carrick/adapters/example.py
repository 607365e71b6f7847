"""A base and an adapter of a few numbers, which the examples in this package begin with."""

from __future__ import annotations

import atexit
import json
import tempfile
from pathlib import Path


def write_example() -> tuple[Path, Path]:
    """Write a base whose only weight is 2 × 3 ones, and an adapter that adds 2 to each.

    They lie in a temporary folder, which is deleted when the interpreter ends.

    Returns
    -------
    The base's file and the adapter's folder.

    Examples
    --------
    >>> base, adapter = write_example()
    >>> base.name, sorted(file.name for file in adapter.iterdir())
    ('base.safetensors', ['adapter_config.json', 'adapter_model.safetensors'])
    """
    import numpy as np  # noqa: PLC0415  (slow to import, and wanted here alone)
    from safetensors.numpy import save_file  # noqa: PLC0415

    held = tempfile.TemporaryDirectory(prefix="carrick-example-")
    atexit.register(held.cleanup)
    folder = Path(held.name)
    base, adapter = folder / "base.safetensors", folder / "adapter"
    save_file({"h.0.q.weight": np.ones((2, 3), np.float32)}, base)
    adapter.mkdir()
    config = {"peft_type": "LORA", "r": 1, "lora_alpha": 2}
    (adapter / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    key = "base_model.model.h.0.q"
    a, b = np.ones((1, 3), np.float32), np.ones((2, 1), np.float32)
    save_file({f"{key}.lora_A.weight": a, f"{key}.lora_B.weight": b}, adapter / "adapter_model.safetensors")
    return base, adapter
