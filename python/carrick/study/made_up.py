"""Made-up data in the format of the real sets, and tiny random models: what ``--quick`` and tests run on."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

CLASSES = ("negative", "neutral", "positive")
_SYLLABLES = ("ba", "de", "fi", "go", "ku", "la", "me", "ni", "po", "ru", "sa", "te", "vi", "wo", "zu")
_POSITIONS = 64  # of the made-up encoder
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def words(language: str, count: int = 24) -> list[str]:
    """Return invented words of a language: the same each time, two syllables each.

    Examples
    --------
    >>> words("en", 3) == words("en", 3), len(set(words("de")))
    (True, 24)
    """
    draw = random.Random(f"words of {language}")
    pairs = [first + second for first in _SYLLABLES for second in _SYLLABLES]
    return draw.sample(pairs, count)


def tweets(
    folder: Path, languages: Mapping[str, str], rows: Mapping[str, int], classes: int = len(CLASSES)
) -> None:
    """Write labelled short texts as UMSAB has them: ``<language>/<split>_text.txt`` and ``_labels.txt``.

    Which words of its language a text holds depends on its label, more often than not, so that there is
    something to learn.

    Parameters
    ----------
    folder
        Gets one folder a language.
    languages
        Code and folder name of each: ``{"en": "english"}``.
    rows
        How many rows each split has: ``{"train": 64, "val": 24, "test": 48}``.
    classes
        How many labels there are, all equally frequent.
    """
    for code, name in languages.items():
        known = words(code)
        share = len(known) // classes
        for split, count in rows.items():
            draw = random.Random(f"{split} of {code}")
            labels = [place % classes for place in range(count)]
            draw.shuffle(labels)
            texts = []
            for label in labels:
                own = known[label * share : (label + 1) * share]
                chosen = [
                    draw.choice(own if draw.random() < 0.6 else known) for _ in range(draw.randint(4, 9))
                ]
                texts.append(f"@user {' '.join(chosen)}")
            place = folder / name
            place.mkdir(parents=True, exist_ok=True)
            # As in the real files, the last line has no newline.
            (place / f"{split}_text.txt").write_text("\n".join(texts), encoding="utf-8")
            (place / f"{split}_labels.txt").write_text("\n".join(map(str, labels)), encoding="utf-8")


def encoder(folder: Path, languages: Sequence[str], *, width: int = 32, layers: int = 2) -> None:
    """Write a random BERT of two layers with a word-level tokenizer over the made-up languages.

    Parameters
    ----------
    folder
        Gets config.json, model.safetensors and the tokenizer's files.
    languages
        Their words make up the vocabulary.
    width, layers
        Hidden size and depth.
    """
    import torch  # noqa: PLC0415
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors  # noqa: PLC0415
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast  # noqa: PLC0415

    vocabulary = list(dict.fromkeys([*_SPECIAL, "@user", *(w for code in languages for w in words(code))]))
    ids = {word: place for place, word in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
    )
    special = {f"{name[1:-1].lower()}_token": name for name in _SPECIAL}
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=_POSITIONS, **special
    ).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=2 * width,
        max_position_embeddings=_POSITIONS,
        # Larger than BERT's 0.02: so narrow a model would be the same function of every text.
        initializer_range=0.2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BertModel(config, add_pooling_layer=False)
    model.save_pretrained(folder)


def instructions(folder: Path, languages: Sequence[str], rows: Mapping[str, int]) -> None:
    """Write rows of the tasks of language models: sentiment, mCSQA, WikiLingua, supporting examples.

    Parameters
    ----------
    folder
        Gets a folder for each, with ``<language>_train.jsonl``, ``<language>_validation.jsonl``, ``<language>.jsonl``.
    languages
        Codes.
    rows
        How many rows each split has.
    """
    for code in languages:
        known = words(code)
        for split, count in rows.items():
            draw = random.Random(f"instructions, {split} of {code}")
            name = f"{code}.jsonl" if split == "test" else f"{code}_{split}.jsonl"
            for kind in ("sentiment", "mcsqa", "wikilingua", "supporting_examples"):
                content = [_instruction(kind, known, draw) for _ in range(count)]
                place = folder / kind / name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")


def _instruction(kind: str, known: Sequence[str], draw: random.Random) -> dict[str, object]:
    text = " ".join(draw.sample(known, 6))
    if kind == "sentiment":
        return {"text": text, "label": draw.choice(CLASSES)}
    if kind == "mcsqa":
        choices = {"label": list("ABCDE"), "text": draw.sample(known, 5)}
        return {"question": f"{text}?", "choices": choices, "answerKey": draw.choice("ABCDE")}
    if kind == "wikilingua":
        return {"article": text, "summary": text.split()[0]}
    return {"input": text, "examples": [text.split()[0]]}


def llama(folder: Path, *, width: int = 32, layers: int = 2) -> None:
    """Write a random Llama of two layers whose tokens are bytes.

    Parameters
    ----------
    folder
        Gets config.json, model.safetensors and the tokenizer's files.
    width, layers
        Hidden size and depth.
    """
    import torch  # noqa: PLC0415
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers  # noqa: PLC0415
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast  # noqa: PLC0415

    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    symbols = [*special.values(), *sorted(pre_tokenizers.ByteLevel.alphabet())]
    ids = {symbol: place for place, symbol in enumerate(symbols)}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(ids),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=1024,
        bos_token_id=ids["<s>"],
        eos_token_id=ids["</s>"],
        pad_token_id=ids["<pad>"],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
