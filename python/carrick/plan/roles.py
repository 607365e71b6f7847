"""What a tensor is for, told by its name and its siblings: attention, MLP, norm, router, embeddings, head.

The table, in the order it is consulted; a user's `roles` come before all of it.

norm
    A part of the name with `norm` or `ln`; its name tells its side. With attention: `input_layernorm`,
    `ln_1`, `norm1`, `layer_norm1`, `layernorm_before`, `attention_norm`, `self_attn_layer_norm`,
    `sa_layer_norm`. With the MLP: `ln_2`, `norm2`, `layer_norm2`, `layernorm_after`, `ffn_norm`,
    `pre_feedforward_layernorm`, `final_layer_norm`. `post_attention_layernorm` stands in front of the MLP
    (Llama), unless a sibling is called `pre_feedforward_layernorm` or `post_feedforward_layernorm` (Gemma-2,
    OLMo-2): then it is attention's own post-norm. `norm2` beside a `norm3` belongs to cross-attention. A
    plain `layer_norm` in a numbered sublayer (T5) goes with what else is in that sublayer.
attention
    A part with `attn` or `attention` (`self_attn`, `c_attn`, `SelfAttention`, `EncDecAttention`,
    `crossattention`, `linear_attn`), or a projection of its own (`q_proj`, `qkv_proj`, `query_key_value`,
    `Wqkv`, `sinks`); and all that lies within it (`q_norm`, `relative_attention_bias`, BERT's
    `attention.output.LayerNorm`).
mlp
    `mlp`, `ffn`, `feed_forward`, `DenseReluDense`, `intermediate`, `fc1`, `lin1`, `linear1`, `experts`,
    `shared_expert`, `block_sparse_moe`; BERT's `output` beside `intermediate`.
router
    `gate` or `router` of a mixture of experts, `shared_expert_gate`. It goes with the MLP.

Outside the layers: `head` (`lm_head`, `embed_out`, `proj_out`, `output`, `score`, `classifier`, `cls`,
`pooler`), `embeddings` with their own norms (`embed`, `wte`, `wpe`, `shared`, `patch`, `cls_token`, a speech
model's `conv1` and `conv2`, projectors), and `final_norm` (any other norm).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from carrick.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

ATTENTION, MLP, ROUTER, NORM = "attention", "mlp", "router", "norm"
EMBEDDINGS, HEAD, FINAL_NORM = "embeddings", "head", "final_norm"

_I = re.IGNORECASE
_CONTAINER = re.compile(r"norm_attn_norm", _I)  # DBRX: a block of norm, attention and norm
_NORM = re.compile(r".*norm.*|ln_?(\d|f|attn|mlp|cross_attn|post|pre)|layer_?scale_?\d?|ls\d?", _I)
_ATTENTION = re.compile(
    r".*(attn|attention).*|[qkvo]_proj|out_proj|(w?qkv)(_proj)?|query_key_value|sinks", _I
)
_ROUTER = re.compile(r"gate|router|shared_expert_gate", _I)
_MLP = re.compile(
    r"mlp\w*|ffn\w*|feed_?forward\w*|ff|densereludense|densegatedgelu\w*|intermediate|fc_?(\d|in|out)|lin(ear)?\d"
    r"|\w*moe|experts?|shared_experts?|(gate|up|down|gate_up)_proj|dense_h_to_4h|dense_4h_to_h|w[123]",
    _I,
)
_NORM_OF_ATTENTION = re.compile(
    r"(input|pre)_?(layer_?)?norm|(layer_?)?norm_?1|ln_?1|layer_?norm_before|sa_layer_norm|(layer_?scale|ls)_?1"
    r"|ln_attn|ln_cross_attn|.*(attn|attention).*",
    _I,
)
_NORM_OF_MLP = re.compile(
    r"(layer_?)?norm_?[23]|ln_?2|layer_?norm_after|(layer_?scale|ls)_?2|ln_mlp|final_layer_?norm|output_layer_norm"
    r"|.*(mlp|ffn|_ff_|feed_?forward|moe).*",
    _I,
)
_POST_ATTENTION = re.compile(r"post_att(n|ention)_(layer_?)?norm", _I)
_FEED_FORWARD_NORM = re.compile(r"(^|\.)(pre|post)_(feedforward|ffn|mlp)_(layer_?)?norm(\.|$)", _I)
_GLM_POST_NORM = re.compile(r"(^|\.)post_self_attn_(layer_?)?norm(\.|$)", _I)
_THIRD_NORM = re.compile(r"(^|\.)norm_?3(\.|$)", _I)

_HEAD = re.compile(
    r"(^|\.)(\w*lm_head|embed_out|proj_out|output|score|\w*classifier|cls|pooler|qa_outputs|final_logits_bias"
    r"|\w*_head|head|vocab_\w+|logits?|logit_scale|logit_bias|text_projection|visual_projection)(\.|$)",
    _I,
)
_EMBEDDINGS = re.compile(
    r"embed|(^|\.)(wte|wpe|shared|\w*_token|\w*position\w*|\w*patch\w*|conv[12]|rotary_emb|projector|\w*_projector"
    r"|connector|merger|aligner)(\.|$)",
    _I,
)
_ANY_NORM = re.compile(r"(^|\.)(\w*norm\w*|ln_?(f|post|pre|final)|final_ln)(\.|$)", _I)


def role_in_layer(
    suffix: str,
    siblings: Collection[str],
    name: str | None = None,
    overrides: Mapping[str, tuple[re.Pattern[str], ...]] | None = None,
) -> str:
    """Tell whether a tensor of a layer goes with `attention` or with `mlp`.

    Parameters
    ----------
    suffix
        Name within the layer: `post_attention_layernorm.weight`.
    siblings
        Such names of all tensors of the layer.
    name
        Full name, for the message and for `overrides`.
    overrides
        Role to patterns, searched in the full name.

    Raises
    ------
    PlanError
        The name fits no row of the table.

    Examples
    --------
    >>> llama = ["input_layernorm.weight", "self_attn.q_proj.weight", "post_attention_layernorm.weight"]
    >>> role_in_layer("post_attention_layernorm.weight", llama)
    'mlp'
    >>> role_in_layer("post_attention_layernorm.weight", [*llama, "pre_feedforward_layernorm.weight"])
    'attention'
    """
    full = name or suffix
    for role in (ATTENTION, MLP, ROUTER, NORM):
        if any(pattern.search(full) for pattern in (overrides or {}).get(role, ())):
            if role != NORM:
                return ATTENTION if role == ATTENTION else MLP
            side = _norm_side(suffix.split("."), len(suffix.split(".")) - 2, siblings)
            return side or _fits_none(full, "a norm whose side its name does not tell")
    return _by_table(suffix, siblings) or _fits_none(full, "neither attention, MLP, norm nor router")


def role_outside(name: str, overrides: Mapping[str, tuple[re.Pattern[str], ...]] | None = None) -> str | None:
    """Tell what a tensor outside the layers is: `embeddings`, `head`, `final_norm`, or None.

    >>> role_outside("model.embed_tokens.weight"), role_outside("lm_head.weight")
    ('embeddings', 'head')
    """
    for role in (EMBEDDINGS, HEAD, FINAL_NORM):
        if any(pattern.search(name) for pattern in (overrides or {}).get(role, ())):
            return role
    if _HEAD.search(name):
        return HEAD
    if _EMBEDDINGS.search(name):
        return EMBEDDINGS
    return FINAL_NORM if _ANY_NORM.search(name) else None


def _fits_none(name: str, reason: str) -> str:
    raise PlanError(
        f"tensor {name!r} is {reason}; say which with `roles:`, as in roles: {{mlp: ['part of its name']}}"
    )


def _by_table(suffix: str, siblings: Collection[str]) -> str | None:
    parts = suffix.split(".")
    # The parameter's own name (weight, bias) tells nothing, unless it stands alone (`sinks`).
    for depth, part in enumerate(parts[:-1] or parts):
        if _CONTAINER.fullmatch(part):
            continue
        if _NORM.fullmatch(part):
            return _norm_side(parts, depth, siblings)
        if _ATTENTION.fullmatch(part):
            return ATTENTION
        if _MLP.fullmatch(part) or _ROUTER.fullmatch(part):
            return MLP
        if part == "output" and any(s.startswith("intermediate.") for s in siblings):
            return MLP
    return ATTENTION if _ATTENTION.fullmatch(parts[-1]) else None


def _norm_side(parts: list[str], depth: int, siblings: Collection[str]) -> str | None:
    part = parts[max(depth, 0)]
    if _POST_ATTENTION.fullmatch(part):
        own = any(_FEED_FORWARD_NORM.search(s) for s in siblings)
        glm = any(_GLM_POST_NORM.search(s) for s in siblings)
        return ATTENTION if own and not glm else MLP
    if re.fullmatch(r"norm_?2", part, _I) and any(_THIRD_NORM.search(s) for s in siblings):
        return ATTENTION  # a decoder's norms: self-attention, cross-attention, MLP
    if _NORM_OF_MLP.fullmatch(part):
        return MLP
    if _NORM_OF_ATTENTION.fullmatch(part):
        return ATTENTION
    return _side_of_sublayer(".".join(parts[:depth]), siblings)


def _side_of_sublayer(container: str, siblings: Collection[str]) -> str | None:
    if not container:
        return None
    within = (s.removeprefix(container + ".") for s in siblings if s.startswith(container + "."))
    sides = {_by_table(s, ()) for s in within if not _NORM.fullmatch(s.split(".")[0])}
    return sides.pop() if len(sides) == 1 else None
