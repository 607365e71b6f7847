"""The study's own language model: a byte-level BPE tokenizer and a small Llama, both made here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

END, PAD = "</s>", "<pad>"


def make_tokenizer(texts: Sequence[str], vocabulary: int, out: Path) -> int:
    """Train a byte-level BPE on the texts and save it as a transformers tokenizer; return its size.

    No text can be out of its vocabulary: the 256 bytes are tokens. No token stands at the start; the trainer
    puts the end token after a row.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: PLC0415
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD)
    fast.save_pretrained(str(out))
    return len(fast)


def count_tokens(folder: Path, texts: Sequence[str]) -> list[int]:
    """Return the number of tokens of each text."""
    from tokenizers import Tokenizer  # noqa: PLC0415

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return [len(encoding.ids) for encoding in tokenizer.encode_batch(list(texts))]


def make_model(
    out: Path, *, vocabulary: int, width: int, layers: int, heads: int, length: int, seed: int
) -> int:
    """Save a Llama of this shape with random weights beside its tokenizer; return its parameters.

    The feed-forward width is 8/3 of the width, rounded up to a multiple of 16; the head is tied to the embeddings.
    """
    import torch  # noqa: PLC0415
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=-(-8 * width // 48) * 16,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=length,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=1,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(str(out))
    return sum(parameter.numel() for parameter in model.parameters())
