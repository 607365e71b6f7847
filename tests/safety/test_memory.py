"""A merge whose largest tensor is four times the budget, under a hard limit of the budget."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import carrick
from oracles.files import read_model
from safety.digests import digest
from safety.large import ties_config

if TYPE_CHECKING:
    from pathlib import Path

MIB = 2**20
BUDGET = 64 * MIB

# RLIMIT_DATA counts private writable memory, as VmData does: what is in use after import, plus the budget.
SCRIPT = """
import json, resource, sys, threading, time
import carrick, carrick.merge
config, out, budget, limited = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4] == "1"

def status(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key + ":"))

plan = carrick.plan(config)
peak, done = 0, threading.Event()
def watch():
    global peak
    while not done.is_set():
        peak = max(peak, status("RssAnon"))
        time.sleep(0.0005)
thread = threading.Thread(target=watch, daemon=True)
thread.start()
time.sleep(0.01)
before, before_data = status("RssAnon"), status("VmData")
if limited:
    resource.setrlimit(resource.RLIMIT_DATA, (before_data + budget, resource.RLIM_INFINITY))
carrick.merge(None, out, plan=plan, memory=budget, threads=2)
done.set()
thread.join()
print(json.dumps({"grown": peak - before, "peak": peak}))
"""


def merge_in_a_process(
    config: dict[str, Any], out: Path, budget: int, limited: bool = True, script: str = SCRIPT
) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(config), str(out), str(budget), str(int(limited))],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    measured: dict[str, int] = json.loads(done.stdout)
    return measured


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(resource, "RLIMIT_DATA") or sys.platform != "linux", reason="needs Linux")
def test_a_tensor_of_four_budgets(tmp_path: Path) -> None:
    tensors = {"a.huge.weight": 4 * BUDGET // 2, "b.small.weight": 1 << 20}
    config = ties_config(tmp_path, tensors)
    measured = merge_in_a_process(config, tmp_path / "out", BUDGET)
    assert measured["grown"] < BUDGET, f"{measured['grown'] / MIB:.1f} MiB"
    got = read_model(tmp_path / "out")
    assert got["a.huge.weight"].nbytes == 4 * BUDGET
    carrick.merge(config, tmp_path / "again", memory="1GiB")
    assert digest(tmp_path / "again") == digest(tmp_path / "out")


# Parameters of each model, and of the merge.
METHODS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "dare_ties": ("dare_ties", {"weight": 0.5, "density": 0.4}, {}),
    "breadcrumbs": ("breadcrumbs", {"weight": 0.5, "density": 0.4}, {}),
    "della": ("della", {"weight": 0.5, "density": 0.4}, {}),
    "della_l1": ("della", {"weight": 0.5, "density": 0.4}, {"rescale": "l1"}),
    "nuslerp": ("nuslerp", {"weight": 0.5}, {}),
    "nuslerp_columns": (
        "nuslerp",
        {"weight": 0.5},
        {"nuslerp_flatten": False, "nuslerp_row_wise": True},
    ),
    "model_stock": ("model_stock", {}, {}),
}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
@pytest.mark.parametrize("variant", ["paper", "reference"])
def test_statistics_of_the_whole_model(variant: str, tmp_path: Path) -> None:
    """Tensors of half the budget each; nothing but counts may be kept of them."""
    budget = BUDGET
    config = ties_config(tmp_path, {f"t{i}.weight": budget // 4 for i in range(6)}) | {"variant": variant}
    measured = merge_in_a_process(config, tmp_path / "out", budget)
    assert measured["grown"] < budget, f"{measured['grown'] / MIB:.1f} MiB"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
@pytest.mark.parametrize("case", METHODS)
def test_other_methods(case: str, tmp_path: Path) -> None:
    budget = BUDGET
    config = ties_config(tmp_path, {"huge.weight": 4 * budget // 2})
    config["merge_method"], parameters, config["parameters"] = METHODS[case]
    for model in config["models"]:
        model["parameters"] = parameters
    measured = merge_in_a_process(config, tmp_path / "out", budget)
    assert measured["grown"] < budget, f"{measured['grown'] / MIB:.1f} MiB"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
@pytest.mark.parametrize("method", ["ties", "slerp", "dare_linear"])
def test_mapped_pages_go_behind_each_pass(method: str, tmp_path: Path) -> None:
    tensors = {"huge.weight": 4 * BUDGET // 2}
    config = ties_config(tmp_path, tensors) | {"merge_method": method}
    if method == "slerp":
        config |= {"parameters": {"t": 0.4}, "models": [{"model": m["model"]} for m in config["models"][:2]]}
        del config["base_model"]
    mapped = SCRIPT.replace('status("RssAnon")', '(status("RssFile") + status("RssShmem"))')
    mapped = mapped.replace("threads=2", 'threads=2, read="mmap"')
    assert mapped.count("mmap") == 1
    assert "RssAnon" not in mapped
    measured = merge_in_a_process(config, tmp_path / "out", 1 << 30, limited=False, script=mapped)
    # Half of one of the three files; how much a fault maps is the kernel's affair.
    assert measured["grown"] < 2 * BUDGET, f"{measured['grown'] / MIB:.1f} MiB"
