"""The same work by PEFT: adapters merged in memory, and an adapter folded into its base.

    python benches/adapters_peft.py merge --type ties_svd --rank 64 --layers 1 --out FILE ADAPTER…
    python benches/adapters_peft.py apply BASE ADAPTER OUT

`merge` prints the seconds of `add_weighted_adapter` alone as JSON: the model and all adapters are in memory before it.
"""

from __future__ import annotations

import argparse
import json
import re
import time
import warnings
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, inject_adapter_in_model
from peft.tuners.lora import LoraModel
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

DENSITY = 0.5
PREFIX = "base_model.model."
LAYER = re.compile(r"\.layers\.(\d+)\.")
Factors = dict[str, tuple[torch.Tensor, torch.Tensor]]


def first_layers(folder: Path, layers: int) -> Factors:
    """Read A and B of the modules in an adapter's first layers, by path."""
    found: Factors = {}
    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        for name in file.keys():  # noqa: SIM118 (not a dict)
            layer = LAYER.search(name)
            if layer is None or int(layer[1]) >= layers or ".lora_A." not in name:
                continue
            path = name.removeprefix(PREFIX).removesuffix(".lora_A.weight")
            found[path] = file.get_tensor(name), file.get_tensor(name.replace(".lora_A.", ".lora_B."))
    return found


def empty_model(shapes: Factors) -> nn.Module:
    """Return a tree of linear modules whose weights are never written, and so take no memory."""
    root = nn.Module()
    for path, (a, b) in shapes.items():
        parent = root
        *parents, name = path.split(".")
        for word in parents:
            if not hasattr(parent, word):
                parent.add_module(word, nn.Module())
            parent = getattr(parent, word)
        linear = nn.Linear(a.shape[1], b.shape[0], bias=False, device="meta", dtype=a.dtype)
        parent.add_module(name, linear.to_empty(device="cpu"))
    return root


def with_adapters(adapters: list[Factors], dtype_kept: bool) -> LoraModel:
    """Return a model that holds the adapters under the names 0, 1, ….

    Parameters
    ----------
    dtype_kept
        Leave bf16 factors as they are, where PEFT would make them float32.
    """
    first = adapters[0]
    rank = next(iter(first.values()))[0].shape[0]
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(first))
    model = LoraModel(empty_model(first), config, "0")
    for number in range(1, len(adapters)):
        inject_adapter_in_model(config, model.model, str(number))
        model.peft_config[str(number)] = config
    modules = dict(model.model.named_modules())
    for number, factors in enumerate(adapters):
        for path, (a, b) in factors.items():
            for which, tensor in ((modules[path].lora_A, a), (modules[path].lora_B, b)):
                which[str(number)].weight.data = tensor if dtype_kept else tensor.float()
    return model


def merge(options: argparse.Namespace) -> dict[str, float]:
    """Time `add_weighted_adapter` on the first layers."""
    adapters = [first_layers(folder, options.layers) for folder in options.paths]
    model = with_adapters(adapters, dtype_kept=options.type == "cat")
    names = [str(number) for number in range(len(adapters))]
    kind = {"svd_rank": options.rank, "density": DENSITY} if options.type.endswith("svd") else {}
    start = time.perf_counter()
    model.add_weighted_adapter(names, [1.0] * len(names), "merged", combination_type=options.type, **kind)
    seconds = time.perf_counter() - start
    modules = dict(model.model.named_modules())
    written = {}
    for path in adapters[0]:
        written[f"{PREFIX}{path}.lora_A.weight"] = modules[path].lora_A["merged"].weight.data.contiguous()
        written[f"{PREFIX}{path}.lora_B.weight"] = modules[path].lora_B["merged"].weight.data.contiguous()
        assert modules[path].scaling["merged"] == 1
    if options.out:
        save_file(written, options.out)
    return {"seconds": seconds, "modules": len(adapters[0])}


def apply(options: argparse.Namespace) -> dict[str, float]:
    """Load a base and its adapter, merge, unload and save."""
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    base, adapter, out = options.paths
    start = time.perf_counter()
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    merged = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    merged.save_pretrained(out)
    return {"seconds": time.perf_counter() - start}


def main() -> None:
    """Do what was asked for and print JSON."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    for name, function in (("merge", merge), ("apply", apply)):
        command = commands.add_parser(name)
        command.set_defaults(function=function)
        command.add_argument("--type", default="cat")
        command.add_argument("--rank", type=int, default=64)
        command.add_argument("--layers", type=int, default=1)
        command.add_argument("--out", type=Path)
        command.add_argument("paths", nargs="+", type=Path)
    options = parser.parse_args()
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        print(json.dumps(options.function(options)))


if __name__ == "__main__":
    main()
