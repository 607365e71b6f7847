"""Adapters that PEFT saved over a base whose vocabulary was resized in memory, and what PEFT makes of them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adapters.zoo import SMALL as TINY
from adapters.zoo import TOKENS as ENDS
from adapters.zoo import case, gpt2, llama, llama_tied, peft, randomise, tensors, torch, transformers

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from adapters.zoo import Case

    Array = NDArray[np.float64]

SMALL, LARGE = 32, 37  # the base's tokens, and those of the training
TOKENS = [1, 33, 36]  # of which some are new, and not all that are


def gpt2_tied() -> Any:
    model = gpt2()
    config = model.config
    config.tie_word_embeddings = True
    return type(model)(config)


def phi() -> Any:
    """A head with a bias, which is resized too."""
    config = transformers.PhiConfig(**TINY, vocab_size=SMALL, tie_word_embeddings=False, **ENDS)
    return transformers.PhiForCausalLM(config)


@dataclass
class Resized:
    """An adapter, the base on disk, the resized base's tensors, and those that PEFT merges."""

    adapter: Path
    base: Path
    start: dict[str, Array]
    merged: dict[str, Array]
    logits: Array


def base_of(chosen: Case, folder: Path) -> Path:
    """Save the base with its own vocabulary, and a tokenizer of a sort."""
    torch.manual_seed(7)
    chosen.model().double().save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{}")
    return folder


def resized_model(base: Path, *, seed: int = 0, rows: int = LARGE) -> Any:
    """Load the base, and resize it as a user does; the new rows hang on the seed."""
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float64)
    torch.manual_seed(100 + seed)
    model.resize_token_embeddings(rows)
    return model.eval()


def make_resized(
    chosen: Case, base: Path, folder: Path, seed: int = 0, *, resized: int = 0, rows: int = LARGE
) -> Resized:
    """Train (at random) and save an adapter on the resized base, and merge it with PEFT."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = resized_model(base, seed=resized, rows=rows)
        start = {name: tensor.detach().numpy().copy() for name, tensor in model.state_dict().items()}
        torch.manual_seed(seed)
        wrapped = peft.get_peft_model(model, peft.LoraConfig(**{"r": 2, **chosen.options}))
        randomise(wrapped)
        wrapped.save_pretrained(folder)
        merged = wrapped.eval().merge_and_unload()
        return Resized(folder, base, start, tensors(merged), logits_of(merged))


def logits_of(model: Any) -> Array:
    """Logits of tokens of which two are new, where tokens were added."""
    last = model.config.vocab_size - 1
    with torch.no_grad():
        found: Array = model(torch.tensor([[1, 5, last, 29, 2, last - 3]])).logits.numpy()
    return found


def with_tokens_of(model: Any, tokens: Any = TOKENS, *more: str, **options: Any) -> Case:
    return case(model, "q_proj", *more, trainable_token_indices=tokens, **options)


APPLIED: dict[str, Case] = {
    "tokens": with_tokens_of(llama),
    "tokens alone of their sort": with_tokens_of(llama, TOKENS, "k_proj", "down_proj", use_rslora=True),
    "tokens of both": with_tokens_of(llama, {"embed_tokens": TOKENS, "lm_head": [34, 2]}),
    "tokens beside a head saved whole": with_tokens_of(llama, modules_to_save=["lm_head"]),
    "tokens, tied": with_tokens_of(llama_tied),
    "tokens by name, tied": with_tokens_of(llama_tied, {"embed_tokens": TOKENS}),
    "tokens, GPT-2, tied": case(gpt2_tied, "c_attn", trainable_token_indices=TOKENS, fan_in_fan_out=True),
    "nothing of it trained": case(llama, "q_proj"),
    "nothing of it trained, tied": case(llama_tied, "q_proj"),
    "a head with a bias": with_tokens_of(phi),
    "factors": case(llama, "q_proj", "embed_tokens", "lm_head"),
    "factors, tied": case(llama_tied, "q_proj", "embed_tokens"),
    "saved whole": case(llama, "q_proj", modules_to_save=["embed_tokens", "lm_head"]),
    "embeddings saved whole": case(llama, "q_proj", modules_to_save=["embed_tokens"]),
    "saved whole, tied": case(
        llama_tied, "q_proj", modules_to_save=["embed_tokens"], ensure_weight_tying=True
    ),
}
