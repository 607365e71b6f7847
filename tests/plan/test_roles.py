"""Roles told by names: the table's rows, and every tensor of real architectures."""

from __future__ import annotations

import re
from typing import Any

import pytest

from carrick.checkpoints.layers import find_stacks, locate
from carrick.errors import PlanError
from carrick.plan.roles import role_in_layer, role_outside

A, M = "attention", "mlp"
LLAMA = [
    "input_layernorm.weight",
    "self_attn.q_proj.weight",
    "post_attention_layernorm.weight",
    "mlp.up_proj.weight",
]
GEMMA = [*LLAMA, "pre_feedforward_layernorm.weight", "post_feedforward_layernorm.weight"]
OLMO2 = ["self_attn.q_norm.weight", "post_attention_layernorm.weight", "post_feedforward_layernorm.weight"]
GLM4 = [*LLAMA, "post_self_attn_layernorm.weight", "post_mlp_layernorm.weight"]
BERT = [
    "attention.self.query.weight",
    "attention.output.LayerNorm.weight",
    "intermediate.dense.weight",
    "output.dense.weight",
    "output.LayerNorm.bias",
]
T5 = [
    "layer.0.SelfAttention.q.weight",
    "layer.0.layer_norm.weight",
    "layer.1.EncDecAttention.q.weight",
    "layer.1.layer_norm.weight",
    "layer.2.DenseReluDense.wi.weight",
    "layer.2.layer_norm.weight",
]
BART = [
    "self_attn.k_proj.weight",
    "self_attn_layer_norm.bias",
    "encoder_attn.k_proj.weight",
    "encoder_attn_layer_norm.weight",
    "fc1.weight",
    "fc2.bias",
    "final_layer_norm.weight",
]
TORCH_DECODER = [
    "self_attn.in_proj_weight",
    "multihead_attn.in_proj_weight",
    "linear1.weight",
    "norm1.weight",
    "norm2.weight",
    "norm3.weight",
]


@pytest.mark.parametrize(
    ("siblings", "wanted"),
    [
        (LLAMA, [A, A, M, M]),
        (GEMMA, [A, A, A, M, M, M]),
        (OLMO2, [A, A, M]),
        (GLM4, [A, A, M, M, A, M]),
        (BERT, [A, A, M, M, M]),
        (T5, [A, A, A, A, M, M]),
        (BART, [A, A, A, A, M, M, M]),
        (TORCH_DECODER, [A, A, M, A, A, M]),
    ],
)
def test_layers(siblings: list[str], wanted: list[str]) -> None:
    assert [role_in_layer(s, siblings) for s in siblings] == wanted


@pytest.mark.parametrize(
    ("suffix", "role"),
    [
        ("self_attn.q_proj.bias", A),
        ("self_attn.k_norm.weight", A),
        ("self_attn.rotary_emb.inv_freq", A),
        ("self_attn.sinks", A),
        ("attn.c_attn.weight", A),
        ("attn.c_proj.weight", A),
        ("ln_1.bias", A),
        ("ln_2.bias", M),
        ("mlp.c_fc.weight", M),
        ("mlp.c_proj.weight", M),
        ("self_attention.query_key_value.weight", A),
        ("attention.query_key_value.weight", A),
        ("mlp.dense_h_to_4h.weight", M),
        ("ln_attn.weight", A),
        ("ln_mlp.weight", M),
        ("self_attn.qkv_proj.weight", A),
        ("mlp.gate_up_proj.weight", M),
        ("block_sparse_moe.gate.weight", M),
        ("block_sparse_moe.experts.3.w2.weight", M),
        ("mlp.gate.weight", M),
        ("mlp.gate.e_score_correction_bias", M),
        ("mlp.experts.7.up_proj.weight", M),
        ("mlp.experts.gate_up_proj", M),
        ("mlp.shared_expert.up_proj.weight", M),
        ("mlp.shared_expert_gate.weight", M),
        ("mlp.shared_experts.down_proj.weight", M),
        ("feed_forward.w1.weight", M),
        ("attention_norm.weight", A),
        ("ffn_norm.weight", M),
        ("layer.0.SelfAttention.relative_attention_bias.weight", A),
        ("attention.attention.query.weight", A),
        ("layernorm_before.weight", A),
        ("layernorm_after.weight", M),
        ("norm_attn_norm.norm_1.weight", A),
        ("norm_attn_norm.attn.Wqkv.weight", A),
        ("norm_attn_norm.norm_2.weight", M),
        ("ffn.router.layer.weight", M),
        ("crossattention.output.dense.weight", A),
        ("layer_scale1.lambda1", A),
        ("layer_scale2.lambda1", M),
        ("linear_attn.in_proj_qkvz.weight", A),
        ("sa_layer_norm.weight", A),
        ("output_layer_norm.weight", M),
        ("ffn.lin1.weight", M),
    ],
)
def test_names(suffix: str, role: str) -> None:
    assert role_in_layer(suffix, [suffix]) == role


@pytest.mark.parametrize("suffix", ["mystery.weight", "some_norm.weight", "layer.0.layer_norm.weight"])
def test_what_fits_none_is_an_error_with_its_name(suffix: str) -> None:
    with pytest.raises(PlanError, match=re.escape(f"'model.layers.3.{suffix}'")):
        role_in_layer(suffix, [suffix], f"model.layers.3.{suffix}")


def test_user_overrides_come_first() -> None:
    overrides = {
        "mlp": (re.compile("q_proj"),),
        "router": (re.compile("switch"),),
        "norm": (re.compile("norm1"),),
    }
    assert role_in_layer("self_attn.q_proj.weight", [], "l.0.self_attn.q_proj.weight", overrides) == M
    assert role_in_layer("switch.weight", [], "l.0.switch.weight", overrides) == M
    assert role_in_layer("norm1.weight", [], "l.0.norm1.weight", overrides) == A
    assert role_outside("q_proj.x", {"head": (re.compile("q_proj"),)}) == "head"


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("model.embed_tokens.weight", "embeddings"),
        ("transformer.wte.weight", "embeddings"),
        ("transformer.wpe.weight", "embeddings"),
        ("shared.weight", "embeddings"),
        ("bert.embeddings.LayerNorm.weight", "embeddings"),
        ("word_embeddings_layernorm.weight", "embeddings"),
        ("vit.embeddings.cls_token", "embeddings"),
        ("vit.embeddings.patch_embeddings.projection.weight", "embeddings"),
        ("model.encoder.conv1.weight", "embeddings"),
        ("multi_modal_projector.linear_1.weight", "embeddings"),
        ("model.norm.weight", "final_norm"),
        ("transformer.ln_f.weight", "final_norm"),
        ("encoder.final_layer_norm.weight", "final_norm"),
        ("vit.layernorm.bias", "final_norm"),
        ("lm_head.weight", "head"),
        ("embed_out.weight", "head"),
        ("proj_out.weight", "head"),
        ("cls.predictions.transform.LayerNorm.weight", "head"),
        ("classifier.bias", "head"),
        ("score.weight", "head"),
        ("bert.pooler.dense.weight", "head"),
        ("mystery.weight", None),
    ],
)
def test_outside_the_layers(name: str, role: str | None) -> None:
    assert role_outside(name) == role


SMALL: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 4,
    "max_position_embeddings": 16,
    "pad_token_id": 0,
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama": ("LlamaForCausalLM", SMALL | {"attention_bias": True, "mlp_bias": True}),
    "Qwen2": ("Qwen2ForCausalLM", SMALL),
    "Qwen3": ("Qwen3ForCausalLM", SMALL),
    "Mistral": ("MistralForCausalLM", SMALL),
    "Mixtral": ("MixtralForCausalLM", SMALL | {"num_local_experts": 2}),
    "Qwen2Moe": (
        "Qwen2MoeForCausalLM",
        SMALL
        | {
            "num_experts": 2,
            "num_experts_per_tok": 1,
            "moe_intermediate_size": 4,
            "shared_expert_intermediate_size": 4,
        },
    ),
    "Gemma2": ("Gemma2ForCausalLM", SMALL),
    "Phi3": ("Phi3ForCausalLM", SMALL),
    "Olmo2": ("Olmo2ForCausalLM", SMALL),
    "GPTNeoX": ("GPTNeoXForCausalLM", SMALL),
    "Falcon": ("FalconForCausalLM", {k: v for k, v in SMALL.items() if k != "head_dim"}),
    "GPT2": (
        "GPT2LMHeadModel",
        {"vocab_size": 32, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 16},
    ),
    "Bert": ("BertForMaskedLM", SMALL),
    "T5": (
        "T5ForConditionalGeneration",
        {
            "vocab_size": 32,
            "d_model": 8,
            "d_kv": 4,
            "d_ff": 16,
            "num_layers": 2,
            "num_decoder_layers": 3,
            "num_heads": 2,
        },
    ),
    "Whisper": (
        "WhisperForConditionalGeneration",
        {
            "vocab_size": 32,
            "d_model": 8,
            "encoder_layers": 2,
            "decoder_layers": 3,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 16,
            "decoder_ffn_dim": 16,
            "num_mel_bins": 4,
            "max_source_positions": 8,
            "max_target_positions": 8,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 1,
        },
    ),
    "ViT": (
        "ViTForImageClassification",
        {
            "hidden_size": 8,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 8,
            "patch_size": 4,
        },
    ),
}
# Written independently of the table: what a reader of each architecture's code would answer.
ATTENTION_BY_CLASS = {
    "Gemma2": r"self_attn|input_layernorm|post_attention_layernorm",
    "Olmo2": r"self_attn|post_attention_layernorm",
    "GPTNeoX": r"attention\.|input_layernorm",
    "Falcon": r"self_attention|input_layernorm|ln_attn",
    "GPT2": r"attn|ln_1",
    "Bert": r"attention",
    "T5": r"SelfAttention|EncDecAttention|layer\.0\.layer_norm|(decoder.*)layer\.1\.layer_norm",
    "Whisper": r"self_attn|encoder_attn",
    "ViT": r"attention|layernorm_before",
}
LLAMA_LIKE = r"self_attn|input_layernorm"


@pytest.mark.parametrize("kind", MODELS)
def test_every_tensor_of_a_real_architecture(kind: str) -> None:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    class_name, small = MODELS[kind]
    model_class = getattr(transformers, class_name)
    with torch.device("meta"):
        model = model_class(model_class.config_class(**small))
    sizes = {name: tensor.numel() for name, tensor in model.state_dict().items()}
    stacks = {stack.prefix: stack.count for stack in find_stacks(sizes)}
    assert sorted(stacks.values()) == ([2, 3] if kind in {"T5", "Whisper"} else [2])
    layers: dict[tuple[str, int], list[str]] = {}
    for name in sizes:
        place = locate(name)
        if place is not None and place.prefix in stacks:
            layers.setdefault((place.prefix, place.number), []).append(place.suffix)
        else:
            assert role_outside(name) is not None, name
    pattern = re.compile(ATTENTION_BY_CLASS.get(kind, LLAMA_LIKE))
    for (prefix, number), suffixes in layers.items():
        roles = {s: role_in_layer(s, suffixes, f"{prefix}.{number}.{s}") for s in suffixes}
        wanted = {s: A if pattern.search(f"{prefix}.{number}.{s}") else M for s in suffixes}
        assert roles == wanted
