"""What is timed on the same files: Carrick, mergekit, a torch script, and the movement of the bytes alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benches.measure import run

if TYPE_CHECKING:
    from benches.jobs import Job

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = Path(sys.executable).parent
OFFLINE = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


@dataclass(frozen=True)
class Inputs:
    """The files of one job."""

    job: Job
    folder: Path
    base: Path
    models: list[Path]
    config: Path

    @property
    def files(self) -> list[Path]:
        """Return the weights of all inputs."""
        return sorted(path for model in (self.base, *self.models) for path in model.glob("*.safetensors"))


def build_ceiling() -> Path:
    """Build the program that only moves bytes and return its path."""
    command = [
        "cargo",
        "build",
        "--quiet",
        "--release",
        "--locked",
        "-p",
        "carrick-core",
        "--example",
        "ceiling",
    ]
    subprocess.run(command, cwd=ROOT, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return target / "release" / "examples" / "ceiling"


def interpreter_bytes() -> int:
    """Return the anonymous memory of a `carrick` that only prints its version."""
    usage = run([str(PROGRAMS / "carrick"), "--version"])
    return usage.peak_anonymous


def carrick(inputs: Inputs, out: Path, *settings: str) -> dict[str, Any]:
    """Merge with Carrick's command, at its default settings unless others are given."""
    command = [str(PROGRAMS / "carrick"), "merge", str(inputs.config), str(out), "--json", *settings]
    usage = run(command, log=inputs.folder / "carrick.log")
    report = json.loads(usage.output)
    keys = ("seconds", "bytes_read", "bytes_written", "threads", "simd", "read", "write")
    return {**usage.record(), "engine": {key: report[key] for key in keys}, "checksums": report["checksums"]}


def mergekit(inputs: Inputs, out: Path) -> dict[str, Any]:
    """Merge with mergekit's command at its ordinary settings; there is no tokenizer to copy."""
    command = [str(PROGRAMS / "mergekit-yaml"), str(inputs.config), str(out)]
    command += ["--allow-crimes", "--lazy-unpickle", "--no-copy-tokenizer"]
    if "seed" in inputs.job.options:
        command += ["--random-seed", str(inputs.job.options["seed"])]
    return run(command, environment=OFFLINE, log=inputs.folder / "mergekit.log").record()


def torch(inputs: Inputs, out: Path) -> dict[str, Any]:
    """Merge with the torch script."""
    folders = [str(folder) for folder in (inputs.base, *inputs.models)]
    command = [
        sys.executable,
        str(ROOT / "benches" / "torch_merge.py"),
        inputs.job.method,
        *folders,
        str(out),
    ]
    return run(command, log=inputs.folder / "torch.log").record()


def ceiling(inputs: Inputs, out: Path, program: Path) -> dict[str, Any]:
    """Read every input byte and write as many bytes as the merge does, and compute nothing."""
    out.mkdir()
    size = sum(path.stat().st_size for path in inputs.base.glob("*.safetensors"))
    threads = len(os.sched_getaffinity(0))
    command = [str(program), "--threads", str(threads), "--out", str(out / "bytes"), "--out-bytes", str(size)]
    usage = run([*command, *map(str, inputs.files)])
    return {**usage.record(), "seconds": float(usage.output), "process_seconds": usage.seconds}


def read_once(files: list[Path]) -> None:
    """Read files, so that the next tool finds them in the page cache: one that takes much memory drives them out."""
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.read(8 << 20):
                pass


def remove(out: Path) -> None:
    """Delete an output and wait until the disk is idle, so that no run pays for the one before."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(out.with_name(out.name + ".carrick-partial"), ignore_errors=True)
    os.sync()
