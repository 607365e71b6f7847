"""Tiny models of many architectures, made by transformers itself, and what to feed them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

TEXT = {
    "vocab_size": 99,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@dataclass(frozen=True)
class Kind:
    """A model class of transformers with its configuration; `feed` names the inputs of a forward pass."""

    model: str
    config: str
    options: dict[str, Any] = field(default_factory=dict)
    feed: str = "text"
    tied: bool = False


def text(**extra: Any) -> dict[str, Any]:
    return TEXT | extra


KINDS: dict[str, Kind] = {
    "llama_tied": Kind("LlamaForCausalLM", "LlamaConfig", text(tie_word_embeddings=True), tied=True),
    "llama_untied": Kind("LlamaForCausalLM", "LlamaConfig", text(tie_word_embeddings=False)),
    "llama_bias": Kind("LlamaForCausalLM", "LlamaConfig", text(attention_bias=True, mlp_bias=True)),
    "qwen2": Kind("Qwen2ForCausalLM", "Qwen2Config", text(tie_word_embeddings=True), tied=True),
    "qwen3": Kind("Qwen3ForCausalLM", "Qwen3Config", text(head_dim=8)),
    "mistral": Kind("MistralForCausalLM", "MistralConfig", text()),
    "mixtral": Kind("MixtralForCausalLM", "MixtralConfig", text(num_local_experts=4, num_experts_per_tok=2)),
    "gemma": Kind("GemmaForCausalLM", "GemmaConfig", text(head_dim=8), tied=True),
    "phi": Kind("PhiForCausalLM", "PhiConfig", text()),
    "gpt2": Kind(
        "GPT2LMHeadModel",
        "GPT2Config",
        {"vocab_size": 99, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
        | {"bos_token_id": 1, "eos_token_id": 2},
        tied=True,
    ),
    "bert": Kind("BertForMaskedLM", "BertConfig", text(), tied=True),
    "t5": Kind(
        "T5ForConditionalGeneration",
        "T5Config",
        {"vocab_size": 99, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
        | {"decoder_start_token_id": 0, "pad_token_id": 0},
        "encoder_decoder",
        tied=True,
    ),
    "whisper": Kind(
        "WhisperForConditionalGeneration",
        "WhisperConfig",
        {"vocab_size": 99, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "num_mel_bins": 8}
        | {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 48}
        | {"decoder_ffn_dim": 48, "max_source_positions": 16, "max_target_positions": 16}
        | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
        | {"suppress_tokens": None, "begin_suppress_tokens": None},
        "audio",
        tied=True,
    ),
    "vit": Kind(
        "ViTForImageClassification",
        "ViTConfig",
        {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
        | {"image_size": 16, "patch_size": 4, "num_labels": 5},
        "image",
    ),
}


def feed(kind: Kind, torch: Any) -> dict[str, Any]:
    """Inputs of a forward pass, the same every time."""
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(3, 90, (2, 7), generator=generator)
    if kind.feed == "audio":
        return {
            "input_features": torch.randn(1, 8, 32, generator=generator),
            "decoder_input_ids": tokens[:1],
        }
    if kind.feed == "image":
        return {"pixel_values": torch.randn(2, 3, 16, 16, generator=generator)}
    if kind.feed == "encoder_decoder":
        return {"input_ids": tokens, "decoder_input_ids": tokens[:, :4]}
    return {"input_ids": tokens}
