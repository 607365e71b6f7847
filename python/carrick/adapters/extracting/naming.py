"""Names between a checkpoint and the model that PEFT wraps, and what config.json says about them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from carrick.adapters.keys import find_name

if TYPE_CHECKING:
    from carrick.checkpoints import Checkpoint

# Models whose layers store their weights as (in, out): PEFT calls that `fan_in_fan_out`.
_TURNED = {"gpt2", "openai-gpt", "imagegpt", "decision_transformer"}

# What a model with a head puts in front of the names of one that was saved without.
_PREFIXES = {
    "gpt2": "transformer",
    "openai-gpt": "transformer",
    "bloom": "transformer",
    "falcon": "transformer",
    "gptj": "transformer",
    "bert": "bert",
    "roberta": "roberta",
    "xlm-roberta": "roberta",
    "camembert": "roberta",
    "distilbert": "distilbert",
    "electra": "electra",
    "albert": "albert",
    "gpt_neox": "gpt_neox",
}
_DECODER = "model"
_HEADED = re.compile(r"LMHead|For[A-Z]|DoubleHeads")

_TASKS = (
    (re.compile(r"ForSequenceClassification$"), "SEQ_CLS"),
    (re.compile(r"ForTokenClassification$"), "TOKEN_CLS"),
    (re.compile(r"ForQuestionAnswering$"), "QUESTION_ANS"),
    (re.compile(r"(ForCausalLM|LMHeadModel)$"), "CAUSAL_LM"),
    (
        re.compile(r"^(T5|MT5|Bart|MBart|Pegasus|M2M100|Marian)\w*(ForConditionalGeneration|MTModel)$"),
        "SEQ_2_SEQ_LM",
    ),
)
# Models that end in words, and how those call their heads that do not say `lm_head`.
_WORDS = re.compile(r"LMHead|ForCausalLM|ForMaskedLM|ForPreTraining|ForConditionalGeneration")
_HEADS_OF = {
    "bert": "cls.predictions.decoder.weight",
    "roberta": "lm_head.decoder.weight",
    "xlm-roberta": "lm_head.decoder.weight",
    "whisper": "proj_out.weight",
}
# Modules that PEFT expects in an adapter for these tasks.
HEADS = {"SEQ_CLS": {"classifier", "score"}, "TOKEN_CLS": {"classifier", "score"}}


def is_turned(base: Checkpoint) -> bool:
    """Whether the layers' weights are stored as (in, out)."""
    return base.kind in _TURNED


def architecture(checkpoint: Checkpoint) -> str:
    """Class of the model, empty where config.json does not say."""
    names = (checkpoint.config or {}).get("architectures")
    return str(names[0]) if isinstance(names, list) and names else ""


def task_of(checkpoint: Checkpoint) -> str | None:
    """PEFT's name of the task that a model's class is for.

    Examples
    --------
    >>> from pathlib import Path
    >>> from carrick.checkpoints import Checkpoint
    >>> task_of(Checkpoint("m", Path(), [], {}, {"architectures": ["LlamaForCausalLM"]}))
    'CAUSAL_LM'
    """
    name = architecture(checkpoint)
    return next((task for pattern, task in _TASKS if pattern.search(name)), None)


def named_as(base: Checkpoint, tuned: Checkpoint) -> Checkpoint:
    """Return the base with the tuned model's names: one of the two may lack what a head's class puts before them.

    Examples
    --------
    >>> from pathlib import Path
    >>> from carrick.checkpoints import Checkpoint, StoredTensor
    >>> bare, whole = (
    ...     Checkpoint("m", Path(), [], {name: StoredTensor(0, 0, 8, "F32", (2,))})
    ...     for name in ("h.0.ln_1.weight", "transformer.h.0.ln_1.weight")
    ... )
    >>> list(named_as(bare, whole).tensors), list(named_as(whole, bare).tensors)
    (['transformer.h.0.ln_1.weight'], ['h.0.ln_1.weight'])
    """
    names = {find_name(name, base.tensors): name for name in tuned.tensors if name not in base.tensors}
    # A tensor of the base that has the tuned model's name already keeps it.
    names = {found: name for found, name in names.items() if found not in tuned.tensors}
    return replace(base, tensors={names.get(name, name): tensor for name, tensor in base.tensors.items()})


def missing_prefix(checkpoint: Checkpoint) -> str:
    """Return what the loaded model has in front of the checkpoint's names, with a dot; empty where nothing.

    Checkpoints such as `gpt2` were saved without their head's wrapper: `h.0.attn.c_attn.weight` is
    `transformer.h.0.attn.c_attn.weight` in the model that PEFT sees.

    Examples
    --------
    >>> from pathlib import Path
    >>> from carrick.checkpoints import Checkpoint, StoredTensor
    >>> config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}
    >>> held = {"h.0.ln_1.weight": StoredTensor(0, 0, 8, "F32", (2,))}
    >>> missing_prefix(Checkpoint("gpt2", Path(), [], held, config))
    'transformer.'
    """
    if not _HEADED.search(architecture(checkpoint)):
        return ""
    kind = checkpoint.kind or ""
    bare = any(name.startswith(("layers.", "embed_tokens.")) for name in checkpoint.tensors)
    prefix = _PREFIXES.get(kind, _DECODER if bare else "")
    inside = any(name.startswith(f"{prefix}.") for name in checkpoint.tensors)
    return f"{prefix}." if prefix and not inside else ""


def ends_in_words(checkpoint: Checkpoint) -> bool:
    """Whether a model may have a head over its vocabulary: classifiers have none, whatever is said to be tied.

    Examples
    --------
    >>> from pathlib import Path
    >>> from carrick.checkpoints import Checkpoint
    >>> names = ("BertForSequenceClassification", "LlamaForCausalLM", "BertModel")
    >>> [ends_in_words(Checkpoint("m", Path(), [], {}, {"architectures": [name]})) for name in names]
    [False, True, True]
    """
    name = architecture(checkpoint)
    return not re.search(r"For[A-Z]", name) or bool(_WORDS.search(name))


def tied_head(checkpoint: Checkpoint) -> str | None:
    """Name of the head that a tied model does not store, None for a model without one.

    Examples
    --------
    >>> from pathlib import Path
    >>> from carrick.checkpoints import Checkpoint
    >>> config = {"architectures": ["BertForMaskedLM"], "model_type": "bert", "tie_word_embeddings": True}
    >>> tied_head(Checkpoint("bert", Path(), [], {}, config))
    'cls.predictions.decoder.weight'
    """
    if not checkpoint.tie_word_embeddings or not _WORDS.search(architecture(checkpoint)):
        return None
    return _HEADS_OF.get(checkpoint.kind or "", "lm_head.weight")
