"""Merges in processes of their own, which tests stop at any moment; and what they may leave."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safety.digests import digest
from safety.large import ties_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SCRIPT = """
import json, sys
import carrick.cli
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever started the tests may ignore it
print("ready", flush=True)
code = carrick.cli.main(json.loads(sys.argv[1]))
signal.signal(signal.SIGINT, signal.SIG_IGN)  # what comes during the interpreter's end is not ours
sys.exit(code)
"""


@dataclass(frozen=True)
class Stopped:
    """A merge that takes long enough to be stopped, and the bytes that it ends in."""

    config: Path
    options: tuple[str, ...]
    whole: str
    seconds: float

    @classmethod
    def of(cls, folder: Path, config: Any, *options: str) -> Stopped:
        """Write the configuration, run it to its end, and once more to see how long that takes."""
        path = folder / "config.yml"
        documents = config if isinstance(config, list) else [config]
        path.write_text("\n---\n".join(json.dumps(document) for document in documents))
        merge = cls(path, options, "", 0.0)
        begun = 0.0
        for name in ("whole", "timed"):
            with merge.running(folder / name) as process:
                begun = time.perf_counter()
                assert process.wait() == 0
        span = time.perf_counter() - begun
        assert digest(folder / "whole") == digest(folder / "timed")
        return cls(path, options, digest(folder / "whole"), span)

    @contextmanager
    def running(self, out: Path) -> Iterator[subprocess.Popen[str]]:
        """The merge in a process that has just begun."""
        words = ["merge", str(self.config), str(out), "--threads", "2", *self.options]
        command = [sys.executable, "-c", SCRIPT, json.dumps(words)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process

    def stop(
        self, folder: Path, times: int, how: Callable[[subprocess.Popen[str]], None], *, killed: bool = False
    ) -> Iterator[tuple[int, str]]:
        """Stop so many runs at random moments, and finish each; what a run that was caught said, and its exit code."""
        rng = random.Random(1)
        caught = attempts = 0
        while caught < times:
            attempts += 1
            assert attempts < 4 * times, f"only {caught} of {attempts} runs were caught alive"
            out = folder / f"out-{attempts}"
            with self.running(out) as process:
                time.sleep(rng.uniform(0, self.seconds))
                how(process)
                _, err = process.communicate(timeout=30)
            if not out.exists():
                caught += 1
                yield process.returncode, err
            self.finish(out, killed=killed)

    def finish(self, out: Path, *, killed: bool = False) -> None:
        """Nothing that was left loads as a model; the same merge again ends in the same bytes, and leaves no trace.

        Everything is deleted after it.
        """
        finished = out.exists()
        if not finished:
            partial = out.with_name(out.name + ".carrick-partial")
            # Only the instant between the naming of the shards and the folder's rename may show them: all done.
            assert not loads(partial) or digest(partial) == self.whole
            with self.running(out) as process:
                _, err = process.communicate()
                assert process.returncode == 0, err
        assert digest(out) == self.whole
        assert (out / "carrick.json").exists()
        left = [path for path in out.parent.iterdir() if path.name.startswith(f"{out.name}.")]
        if killed and finished:
            # Only the instant between the output's rename and the deletion of its intermediates may leave them.
            assert [path.suffix for path in left] in ([], [".carrick-intermediates"]), left
        else:
            assert left == []
        for path in (out, *left):
            shutil.rmtree(path)


def one_model(folder: Path) -> dict[str, Any]:
    """A merge of sixteen tensors."""
    return ties_config(folder, {f"model.layers.{i}.mlp.up_proj.weight": 1 << 20 for i in range(16)})


def two_documents(folder: Path) -> list[dict[str, Any]]:
    """The same over an intermediate."""
    ties = one_model(folder)
    models = ties["models"]
    inner = {"name": "inner", "merge_method": "linear", "models": models, "dtype": "float32"}
    return [inner, ties | {"models": [models[0], {**models[1], "model": "inner"}]}]


def loads(folder: Path) -> bool:
    """Whether a loader of models would find all its weights here."""
    index = folder / "model.safetensors.index.json"
    single = {"weight_map": {"": "model.safetensors"}}
    try:
        named = json.loads(index.read_text()) if index.is_file() else single
    except json.JSONDecodeError:  # killed while it was written
        return False
    return all((folder / name).is_file() for name in named["weight_map"].values())
