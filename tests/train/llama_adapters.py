"""A tiny Llama with a tokenizer, LoRA adapters of it, and rows to train on: everything made up on the fly."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from carrick.train import train as run

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")
tokenizers = pytest.importorskip("tokenizers")
load_file = pytest.importorskip("safetensors.torch").load_file
save_file = pytest.importorskip("safetensors.torch").save_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# PEFT and trl use names of transformers that will go.
quiet = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* is deprecated:FutureWarning")

TARGETS = ("q_proj", "v_proj", "up_proj", "down_proj")
WORDS = [f"w{number}" for number in range(60)]
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
PROBE = [[1, 5, 30, 12, 9, 41, 7, 2], [1, 60, 33, 4, 4, 22, 18, 2]]


def llama(layers: int = 2, **changes: Any) -> Any:
    """A Llama of width 32, the same at every call."""
    torch.manual_seed(7)
    options = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": layers, "num_attention_heads": 2,
        "num_key_value_heads": 1, "vocab_size": 64, "max_position_embeddings": 64, "initializer_range": 0.2,
        "tie_word_embeddings": False, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**options, **changes})).eval()


def save_base(folder: Path, layers: int = 2, **changes: Any) -> Path:
    """The Llama with a tokenizer of whole words."""
    llama(layers, **changes).save_pretrained(folder)
    words = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    return folder


def save_adapter(
    folder: Path,
    seed: int,
    *,
    layers: int = 2,
    rank: int = 3,
    targets: Sequence[str] = TARGETS,
    **options: Any,
) -> Path:
    """An adapter that PEFT writes, with numbers in both factors."""
    config = peft.LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules=list(targets), task_type="CAUSAL_LM", **options
    )
    model = peft.get_peft_model(llama(layers), config)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.empty(parameter.shape).normal_(0, 0.2, generator=generator)
    model.save_pretrained(folder)
    return folder


def write_rows(path: Path, rows: int, language: str, seed: int) -> Path:
    """Questions and answers in words of which each language has its own half."""
    generator = np.random.default_rng(seed)
    half = WORDS[:30] if language == "en" else WORDS[30:]
    lines = []
    for _ in range(rows):
        words = generator.choice(half, 8)
        row = {"prompt": " ".join(words[:5]) + " ", "completion": " ".join(words[5:]), "language": language}
        lines.append(json.dumps(row))
    path.write_text("\n".join(lines) + "\n")
    return path


class KilledError(Exception):
    """What `StopAt` raises."""


class StopAt(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
    """Breaks a training off at the beginning of a step, counted from 0."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, _args: Any, state: Any, _control: Any, **_kwargs: Any) -> None:
        if state.global_step == self.step:
            raise KilledError


def train(content: dict[str, Any], out: Path, **options: Any) -> Any:
    """Train by a recipe, on the CPU, without a bar."""
    return run(content, out, device="cpu", progress=False, **options)


def logits(model: Any) -> Any:
    """Logits of two fixed sequences."""
    with torch.no_grad():
        return model.eval()(input_ids=torch.tensor(PROBE)).logits


def with_adapter(folder: Path, layers: int = 2) -> Any:
    """The base with one adapter from disk."""
    return peft.PeftModel.from_pretrained(llama(layers), folder).eval()


def factors(folder: Path) -> dict[str, Any]:
    """The tensors of an adapter on disk."""
    found: dict[str, Any] = load_file(folder / "adapter_model.safetensors")
    return found


def updates(folder: Path) -> dict[str, Any]:
    """ΔW = s·B·A of every module of an adapter, in float64 NumPy from the files alone; one α and rank for all."""
    config = json.loads((folder / "adapter_config.json").read_text())
    assert not config.get("alpha_pattern")
    assert not config.get("rank_pattern")
    scale = config["lora_alpha"] / (config["r"] ** 0.5 if config.get("use_rslora") else config["r"])
    tensors = factors(folder)
    return {
        key.removeprefix("base_model.model.").removesuffix(".lora_A.weight"): scale
        * tensors[key.replace(".lora_A.", ".lora_B.")].double().numpy()
        @ a.double().numpy()
        for key, a in tensors.items()
        if ".lora_A." in key
    }
