"""Made-up data, tiny random models, and the command line as a function."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from carrick.cli import main
from evaluate import rows

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # matrices this small are no work for threads


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return rows.make(tmp_path_factory.mktemp("data"))


@dataclass
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def command(capfd):
    def run(*words):
        capfd.readouterr()
        code = main(["evaluate", *map(str, words)])
        return Answer(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def llama(tmp_path_factory):
    """A random Llama of two layers whose tokens are bytes."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("models") / "llama"
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(["<s>", "</s>", "<pad>", *alphabet])}
    bytes_ = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bytes_.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_.decoder = decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bytes_, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=512, bos_token_id=0, eos_token_id=1, pad_token_id=2,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    """A random BERT of two layers that knows eight words."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("encoder")
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "bad",
        "so",
        "great",
        "awful",
        "fine",
        "lovely",
        "toll",
        "mies",
    ]
    (folder / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizer(str(folder / "vocab.txt"), model_max_length=16).save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
    )
    torch.manual_seed(0)
    transformers.BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def adapter(folder, modules, rank, seed):
    """Write a PEFT adapter; `modules` maps paths of modules to (out, in)."""
    from safetensors.numpy import save_file  # noqa: PLC0415

    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    targets = sorted({path.rpartition(".")[2] for path in modules})
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": targets}
    (folder / "adapter_config.json").write_text(json.dumps({**config, "task_type": None}))
    tensors = {}
    for path, (outs, ins) in modules.items():
        key = f"base_model.model.{path}"
        tensors[f"{key}.lora_A.weight"] = random.normal(0, 0.3, (rank, ins)).astype("f4")
        tensors[f"{key}.lora_B.weight"] = random.normal(0, 0.3, (outs, rank)).astype("f4")
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture(scope="session")
def adapters(llama):
    """Two adapters of the Llama, of different ranks, and one of another base."""
    modules = {
        f"model.layers.{layer}.{name}": (32, 32)
        for layer in range(2)
        for name in ("self_attn.q_proj", "self_attn.v_proj")
    }
    wrong = dict.fromkeys(modules, (64, 64))
    root = llama.parent
    return (
        adapter(root / "german", modules, 2, 1),
        adapter(root / "mathematics", modules, 4, 2),
        adapter(root / "other", wrong, 2, 3),
    )


def with_nan(folder, name, to):
    """Copy a model, one of its weights no number."""
    weights = pytest.importorskip("safetensors.torch")
    shutil.copytree(folder, to)
    found = weights.load_file(folder / "model.safetensors")
    found[name][1] = float("nan")
    weights.save_file(found, to / "model.safetensors", {"format": "pt"})
    return to
