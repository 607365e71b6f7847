"""The keys of a configuration, each with one sentence: what the reader accepts and the schema describes."""

from __future__ import annotations

from carrick.chat_templates import TEMPLATES

ADAPTER_KEYS = {
    "rank": "Adapters: rank of the result, its best approximation; KnOTS of checkpoints: of the basis.",
    "energy": "Adapters: share of the squared singular values that the result keeps, in place of a rank.",
    "space": "Adapters: `delta` merges ΔW = s·B·A, `factors` merges A and B apart, as PEFT does.",
    "precision": "Adapters: `float32` or `float64`, the type of the products of a decomposition.",
    "modules_to_save": "Adapters: `refuse`, `merge` (with `base_model`), or the adapter to keep them from.",
}
TOP_KEYS = {
    "merge_method": "How the models are merged; `carrick methods` lists the names.",
    "base_model": "The model that task vectors start from; it gives configuration and tokenizer, too.",
    "models": "The models to merge, whole.",
    "slices": "Ranges of layers to merge and stack; each slice lists its sources.",
    "modules": "mergekit's merges by module (not yet; `models` covers all modules).",
    "parameters": "Values of the method's parameters for all models.",
    "dtype": "Element type of the output. Arithmetic is always in float32, in float64 for F64 inputs.",
    "out_dtype": "Element type of the output, where it differs from `dtype`.",
    "tokenizer_source": "`base` or a model: where the tokenizer is copied from.",
    "tokenizer": "The same as a mapping with `source`.",
    "chat_template": "`auto` (the one that most models have), the name of a template, or a Jinja text.",
    "name": "In a file of several documents: the name by which others refer to this one's result.",
    "seed": "Key of the random masks.",
    "variant": "A published reading of the method, such as `paper` for TIES.",
    "tie": "Tied embeddings in some of the models only: keep them tied, or write the head of its own.",
    "extra_tensors": "What happens to tensors that only some models have.",
    "layers": "layer_swap: which layers or tensors the language expert gives.",
    "roles": "Patterns of tensor names for a role, in place of the built-in ones.",
    **ADAPTER_KEYS,
}
MODEL_KEYS = {
    "model": "A path or a Hub id, with `@revision` where needed.",
    "parameters": "Values for this model.",
}
SLICE_KEYS = {
    "sources": "The models whose layers make up this slice.",
    "base_model": "The base of this slice, where it differs.",
    "parameters": "Values for this slice.",
    "residual_weight": "Read and ignored, as in mergekit.",
}
SOURCE_KEYS = {
    "model": "A path or a Hub id, with `@revision` where needed.",
    "layer_range": "First layer and the one after the last.",
    "parameters": "Values for this model in this slice.",
}
TOKENIZER_KEYS = {
    "source": "`base` or a model: where the tokenizer is copied from.",
    "tokens": "mergekit's rules for single tokens (not yet).",
    "pad_to_multiple_of": "mergekit's padding of the vocabulary (not yet).",
}
LAYER_KEYS = {
    "first": "How many layers from the start: a count, or a fraction of all.",
    "last": "How many layers at the end: a count, or a fraction of all.",
    "match": "A regular expression, searched in each tensor's name.",
}
ROLE_NAMES = ("attention", "mlp", "norm", "router", "embeddings", "head", "final_norm")

MERGEKIT_PARAMETERS = frozenset(
    {
        "density", "epsilon", "filter_wise", "gamma", "int8_mask", "lambda", "normalize", "nuslerp_flatten",
        "nuslerp_row_wise", "rescale", "t", "weight",
    }
)  # fmt: skip
"""Parameters of the methods that mergekit and Carrick share: where a method does not have one, its files may carry
it along. Those of mergekit's other methods (`eps`, `scale`) are sooner slips for one of these."""

MERGEKIT_ONLY = ("multislerp", "karcher", "sce", "ram", "ramplus_tl", "nearswap", "arcee_fusion")
"""Methods that mergekit has and Carrick does not."""

CHAT_TEMPLATES = ("auto", *TEMPLATES)
