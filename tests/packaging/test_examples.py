"""What docs/adapters.md prints runs: its commands, configurations and Python, in the order of the page."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from safetensors.numpy import save_file

from carrick.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

PAGE = Path(__file__).resolve().parents[2] / "docs" / "adapters.md"
LAYERS, HIDDEN, WIDE, VOCABULARY = 4, 16, 24, 20
PARTS = {
    "self_attn.q_proj": (16, HIDDEN),
    "self_attn.k_proj": (8, HIDDEN),
    "self_attn.v_proj": (8, HIDDEN),
    "self_attn.o_proj": (HIDDEN, 16),
    "mlp.gate_proj": (WIDE, HIDDEN),
    "mlp.up_proj": (WIDE, HIDDEN),
    "mlp.down_proj": (HIDDEN, WIDE),
}
PATHS = {f"model.layers.{layer}.{part}": shape for layer in range(LAYERS) for part, shape in PARTS.items()}
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": LAYERS,
    "hidden_size": HIDDEN,
    "intermediate_size": WIDE,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "tie_word_embeddings": False,
}


class Example(NamedTuple):
    """A piece of the page: a command, a YAML file, or Python."""

    kind: str
    text: str
    line: int


def examples() -> Iterator[Example]:
    found = re.finditer(
        r"^ {4}(?P<command>carrick [^\n]*)$|^```(?P<kind>yaml|python)\n(?P<block>.*?)^```$",
        PAGE.read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    for match in found:
        line = match.string.count("\n", 0, match.start()) + 1
        if match["command"]:
            yield Example("command", match["command"].split("   #")[0], line)
        else:
            yield Example(match["kind"], match["block"], line)


def write_model(folder: Path, tensors: dict[str, NDArray[Any]]) -> None:
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(CONFIG))


def write_adapter(
    folder: Path,
    random: np.random.Generator,
    rank: int = 4,
    *,
    resized: dict[str, NDArray[Any]] | None = None,
) -> None:
    """Write an adapter, as PEFT does: of a base with a resized vocabulary with its embeddings, and trained tokens."""
    folder.mkdir()
    tensors = {}
    for path, (rows, columns) in PATHS.items():
        key = f"base_model.model.{path}"
        tensors[f"{key}.lora_A.weight"] = random.standard_normal((rank, columns), np.float32)
        tensors[f"{key}.lora_B.weight"] = 0.01 * random.standard_normal((rows, rank), np.float32)
    tokens = None if resized is None else [1, VOCABULARY]
    if resized is not None:
        key = "base_model.model.model.embed_tokens.token_adapter"
        tensors[f"{key}.base_layer.weight"] = resized["model.embed_tokens.weight"]
        tensors[f"{key}.trainable_tokens_delta"] = random.standard_normal((2, HIDDEN), np.float32)
        tensors["base_model.model.lm_head.weight"] = resized["lm_head.weight"]
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    targets = [part.rpartition(".")[2] for part in PARTS]
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": 8,
        "target_modules": targets,
        "trainable_token_indices": tokens,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "base"}))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders that the page names."""
    root = tmp_path_factory.mktemp("page")
    random = np.random.default_rng(0)
    shapes = {f"{path}.weight": shape for path, shape in PATHS.items()}
    for layer in range(LAYERS):
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"model.layers.{layer}.{norm}.weight"] = (HIDDEN,)
    shapes |= {"model.embed_tokens.weight": (VOCABULARY, HIDDEN), "lm_head.weight": (VOCABULARY, HIDDEN)}
    shapes["model.norm.weight"] = (HIDDEN,)
    base = {name: random.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    tuned = {name: x + 0.01 * random.standard_normal(x.shape, np.float32) for name, x in base.items()}
    write_model(root / "base", base)
    write_model(root / "tuned", tuned)
    for name in ("en", "de", "fr", "task", "language"):
        write_adapter(root / name, random)
    more = {
        name: random.standard_normal((3, HIDDEN), np.float32) for name in ("model.embed_tokens", "lm_head")
    }
    resized = {
        f"{name}.weight": np.concatenate([base[f"{name}.weight"], rows]) for name, rows in more.items()
    }
    for name in ("added", "more"):
        write_adapter(root / name, random, resized=resized)
    return root


def is_missing(package: str) -> bool:
    return importlib.util.find_spec(package) is None


def has_gpu() -> bool:
    if is_missing("torch"):
        return False
    import torch  # noqa: PLC0415  (seconds, and an extra)

    return torch.cuda.is_available()


def run(example: Example, folder: Path, names: dict[str, Any]) -> None:
    """Run one example, unless it needs what this machine lacks."""
    text = example.text
    if example.kind == "yaml":
        name = re.match(r"# (\S+\.yml)\n", text)
        assert name is not None, "the first line of a YAML file is its name"
        (folder / name[1]).write_text(text)
    elif example.kind == "python":
        if "peft" not in text or not (is_missing("peft") or is_missing("transformers")):
            exec(compile(text, f"{PAGE.name}:{example.line}", "exec"), names)
    elif "--device cuda" not in text or has_gpu():
        words = shlex.split(text)[1:]
        if "-o" in words:
            shutil.rmtree(folder / words[words.index("-o") + 1], ignore_errors=True)
        assert main(words) == 0


@pytest.mark.filterwarnings("ignore")  # what torch, transformers and PEFT warn of is theirs
def test_the_page_runs(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(inputs, tmp_path / "page")
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    ran = Counter(example.kind for example in examples())
    assert min(ran[kind] for kind in ("command", "yaml", "python")) >= 2
    for example in examples():
        try:
            run(example, folder, names)
        except Exception as error:
            said = capsys.readouterr().err
            pytest.fail(f"{PAGE.name}, line {example.line}: {example.text}\n{error}\n{said}")


def test_the_cross_terms_are_as_large_as_the_page_says() -> None:
    """Random adapters of rank 2 on a 32 × 32 weight, merged factor by factor."""
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    said = re.search(r"relative error is (\S+) on average, (\S+) in a good case", text)
    assert said is not None
    errors = []
    for seed in range(200):
        random = np.random.default_rng(seed)
        (a1, a2), (b1, b2) = random.standard_normal((2, 2, 32)), random.standard_normal((2, 32, 2))
        exact = b1 @ a1 + b2 @ a2
        errors.append(np.linalg.norm((b1 + b2) @ (a1 + a2) - exact) / np.linalg.norm(exact))
    assert abs(np.mean(errors) - float(said[1])) < 0.02
    assert min(errors) < float(said[2])
