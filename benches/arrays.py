"""Time `carrick.arrays` beside PEFT's merge_utils and mergekit's merge_tensors, on torch tensors in memory.

Each measured process does one thing at one number of threads; results are compared before a time is printed.

    python benches/arrays.py --entries 67108864 --threads 1 --runs 3      prints JSON
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    Timed = Callable[[], torch.Tensor]

ENTRIES = 64 << 20
ARRAYS = 3
DENSITY = 0.5
# A reference takes seconds to minutes; three repetitions of it are enough.
REFERENCE_RUNS = 3


def timed(function: Timed, runs: int) -> tuple[list[float], torch.Tensor]:
    """Return the seconds of each run and the last result."""
    seconds = []
    result = None
    for _ in range(runs):
        # The previous result is freed first, as it would be in a loop over tensors.
        result = None
        start = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - start)
    assert result is not None
    return seconds, result


def ties(xs: list[torch.Tensor], base: torch.Tensor, threads: int) -> dict[str, tuple[Timed, Timed]]:
    """Return the whole method: Carrick's call and the other's, by the other's name."""
    import torch  # noqa: PLC0415
    from mergekit.merge_methods import merge_tensors  # noqa: PLC0415
    from peft.utils import merge_utils as peft  # noqa: PLC0415

    from carrick import arrays  # noqa: PLC0415

    ones = torch.ones(ARRAYS)
    models = [base + x for x in xs]
    parameters = {"weight": [1.0] * ARRAYS, "density": [DENSITY] * ARRAYS}
    return {
        "ties, PEFT": (
            lambda: arrays.ties(xs, density=DENSITY, variant="peft", threads=threads),
            lambda: peft.ties(xs, ones, DENSITY),
        ),
        "ties, mergekit": (
            lambda: arrays.ties(models, base=base, density=DENSITY, threads=threads),
            lambda: merge_tensors(
                [base, *models],
                "ties",
                base_index=0,
                parameters=parameters,
            ),
        ),
    }


def steps(xs: list[torch.Tensor], threads: int) -> dict[str, tuple[Timed, Timed]]:
    """Return the four steps, each beside the other's function on inputs of the form that it wants."""
    import torch  # noqa: PLC0415
    from mergekit import sparsify  # noqa: PLC0415
    from peft.utils import merge_utils as peft  # noqa: PLC0415

    from carrick import arrays  # noqa: PLC0415

    stacked = torch.stack(xs)
    mask = peft.calculate_majority_sign_mask(stacked)
    signs = arrays.elect_sign(xs)
    return {
        "trim, PEFT": (
            lambda: arrays.trim(xs[0], DENSITY, threads=threads),
            lambda: peft.magnitude_based_pruning(xs[0], DENSITY),
        ),
        "trim, mergekit": (
            lambda: arrays.trim(xs[0], DENSITY, kept_count="at_least_one", threads=threads),
            lambda: sparsify.magnitude(xs[0], DENSITY),
        ),
        "elect_sign, PEFT": (
            lambda: arrays.elect_sign(xs, threads=threads),
            lambda: peft.calculate_majority_sign_mask(stacked),
        ),
        "disjoint_mean, PEFT": (
            lambda: arrays.disjoint_mean(xs, signs, threads=threads),
            lambda: peft.disjoint_merge(stacked, mask),
        ),
        "drop_rescale, PEFT": (
            lambda: arrays.drop_rescale(xs[0], DENSITY, threads=threads),
            lambda: peft.random_pruning(xs[0], DENSITY, rescale=True),
        ),
    }


def agreement(name: str, got: torch.Tensor, want: torch.Tensor, xs: list[torch.Tensor]) -> float:
    """Return the share of entries that agree; random masks are compared by the fraction that they keep."""
    import torch  # noqa: PLC0415

    if name.startswith("drop"):
        return 1 - abs(float((got != 0).float().mean()) - float((want != 0).float().mean()))
    if name.startswith("elect"):
        # PEFT returns which entries agree with the sign, not the sign.
        want = torch.where(want[0], xs[0].sign(), -xs[0].sign())
    return float(torch.isclose(got.float(), want.float(), rtol=1e-5, atol=1e-7).float().mean())


def compare(entries: int, threads: int, runs: int) -> list[dict[str, Any]]:
    """Time every pair at one number of threads."""
    import torch  # noqa: PLC0415

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    xs = [torch.randn(entries) * 0.001 for _ in range(ARRAYS)]
    base = torch.randn(entries) * 0.02
    rows = []
    for pairs in (ties(xs, base, threads), steps(xs, threads)):
        for name, (ours, theirs) in pairs.items():
            ours()
            mine, got = timed(ours, runs)
            other, want = timed(theirs, min(runs, REFERENCE_RUNS))
            agree = agreement(name, got, want, xs)
            assert agree > 0.999, f"{name}: only {agree:.2%} of the entries agree"
            rows.append(
                {"name": name, "threads": threads, "carrick": mine, "reference": other, "agree": agree}
            )
            ratio = statistics.median(other) / statistics.median(mine)
            print(
                f"    {name:20} {threads} threads {statistics.median(mine):8.3f} s {ratio:6.1f}x",
                file=sys.stderr,
            )
    return rows


def arrays(options: argparse.Namespace) -> dict[str, Any]:
    """Run the comparison at one thread and at two, each in a process of its own."""
    entries = max(1 << 20, int(ENTRIES * options.scale))
    rows: list[dict[str, Any]] = []
    for threads in (1, 2):
        command = [sys.executable, __file__, "--entries", str(entries), "--threads", str(threads)]
        finished = subprocess.run(
            [*command, "--runs", str(options.runs)], stdout=subprocess.PIPE, text=True, check=True
        )
        rows += json.loads(finished.stdout)
    title = f"arrays in memory, {ARRAYS} x {entries / 2**20:.0f} Mi float32, density {DENSITY}"
    return {"kind": "arrays", "title": title, "rows": rows}


JOBS = {"arrays": arrays}


def main() -> None:
    """Time at one number of threads and print JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entries", type=int, default=ENTRIES)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=5)
    chosen = parser.parse_args()
    print(json.dumps(compare(chosen.entries, chosen.threads, chosen.runs)))


if __name__ == "__main__":
    main()
