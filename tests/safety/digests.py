"""Runs saved plans and prints a digest of each output: `digests.py FOLDER OPTIONS`, a process of its own.

The instruction set is chosen once in a process, by the environment variable CARRICK_SIMD.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from carrick import _core


def digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        total.update(path.name.encode())
        total.update(path.read_bytes())
    return total.hexdigest()


def digests(folder: Path, options: dict[str, Any]) -> dict[str, str]:
    """Of every plan `FOLDER/NAME/plan.json`."""
    found = {}
    for path in sorted(folder.glob("*/plan.json")):
        plan = path.read_text()
        out = path.parent / f"out-{os.getpid()}"
        partial = out.with_name(out.name + ".carrick-partial")
        _core.execute(plan, str(partial), json.dumps(options), None)
        _core.commit(str(partial), str(out), [shard["name"] for shard in json.loads(plan)["shards"]], False)
        found[path.parent.name] = digest(out)
        shutil.rmtree(out)
    return found


if __name__ == "__main__":
    print(json.dumps(digests(Path(sys.argv[1]), json.loads(sys.argv[2])) | {"simd": _core.simd_level()}))
