"""Features and logits of many texts, in batches of like length, in the order of the input."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from carrick.checkpoints.find import find_path
from carrick.classifier.encoder import check_config, encoder_options
from carrick.classifier.head import Head, check_width, load_head
from carrick.hub_cache import nothing_downloaded
from carrick.loading import load_complete
from carrick.positions import learnt_positions
from carrick.quiet import quiet_libraries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import torch
    from numpy.typing import NDArray
    from torch import nn

    Adapters = str | Path | Sequence[tuple[str | Path, float]] | None


def features(
    base: str | Path,
    texts: Sequence[str],
    *,
    max_length: int = 64,
    batch_size: int = 64,
    device: str = "cpu",
) -> NDArray[np.float32]:
    """Mean-pooled last hidden states of the base alone.

    Parameters
    ----------
    base
        A local folder or a Hub id in the cache.
    texts
        What is encoded.
    max_length
        Tokens that are kept of each text; at most those that the encoder has positions for.
    batch_size
        Texts at a time.
    device
        Where it runs.

    Returns
    -------
    numpy.ndarray
        float32 [texts, width].
    """
    from carrick.classifier.pooling import mean_pool  # noqa: PLC0415

    folder = _found(base)
    check_config(folder, f"the config.json of {folder}")
    with quiet_libraries():
        encoder = _load(folder, device)

    def pooled(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return mean_pool(encoder(input_ids=ids, attention_mask=mask).last_hidden_state, mask)

    longest = min(max_length, learnt_positions(encoder) or max_length)
    return _in_batches(folder, texts, pooled, max_length=longest, batch_size=batch_size, device=device)


def predict(
    base: str | Path,
    head: str | Path | Head,
    texts: Sequence[str],
    *,
    adapter: Adapters = None,
    max_length: int = 64,
    batch_size: int = 64,
    device: str = "cpu",
    precision: Literal["float32", "bfloat16"] = "float32",
) -> NDArray[np.float32]:
    """Logits of a classifier: the base, adapters on it, the frozen head.

    Parameters
    ----------
    base
        A local folder or a Hub id in the cache.
    head
        The head or its folder.
    texts
        What is classified.
    adapter
        A PEFT folder, or several with their weights: the update is then Σ wᵢ·ΔWᵢ.
    max_length
        Tokens that are kept of each text; at most those that the encoder has positions for.
    batch_size
        Texts at a time.
    device
        Where it runs.
    precision
        Type of the encoder's arithmetic; the head is float32 always.

    Returns
    -------
    numpy.ndarray
        float32 [texts, classes], in the order of the texts.

    Raises
    ------
    ConfigError
        No head in its folder, or one of another width than the base.
    """
    from carrick.classifier.pooling import PooledClassifier  # noqa: PLC0415

    found = head if isinstance(head, Head) else load_head(head)
    folder = _found(base)
    check_width(found, folder)
    with quiet_libraries():
        encoder = _adapted(_load(folder, device), adapter)
    model = PooledClassifier(encoder, found).to(device).eval()

    def logits(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        import torch  # noqa: PLC0415

        with torch.autocast(ids.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            scores: torch.Tensor = model(ids, mask).logits
        return scores

    longest = min(max_length, learnt_positions(model) or max_length)
    return _in_batches(folder, texts, logits, max_length=longest, batch_size=batch_size, device=device)


def _found(base: str | Path) -> Path:
    with nothing_downloaded("base", str(base)):
        return find_path(str(base))[0]


def _load(folder: Path, device: str) -> nn.Module:
    import torch  # noqa: PLC0415
    from transformers import AutoModel  # noqa: PLC0415

    model = load_complete(AutoModel, folder, str(folder), dtype=torch.float32, **encoder_options(folder))
    return model.to(device).eval()  # type: ignore[no-any-return]


def _adapted(encoder: nn.Module, adapter: Adapters) -> nn.Module:
    """Put adapters on the encoder, all active, each with its weight."""
    if adapter is None:
        return encoder
    from peft import PeftModel  # noqa: PLC0415
    from peft.tuners.lora import LoraLayer  # noqa: PLC0415

    weighted = [(adapter, 1.0)] if isinstance(adapter, str | Path) else list(adapter)
    if not weighted:
        return encoder
    names = [f"adapter_{number}" for number in range(len(weighted))]
    model: Any = PeftModel.from_pretrained(encoder, weighted[0][0], adapter_name=names[0])
    for name, (path, _) in zip(names[1:], weighted[1:], strict=True):
        model.load_adapter(path, adapter_name=name)
    model.base_model.set_adapter(names)
    for module in model.modules():
        if isinstance(module, LoraLayer):
            for name, (_, weight) in zip(names, weighted, strict=True):
                if name in module.scaling:
                    module.set_scale(name, weight)
    return model.eval()  # type: ignore[no-any-return]


def _in_batches(
    folder: Path,
    texts: Sequence[str],
    compute: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    *,
    max_length: int,
    batch_size: int,
    device: str,
) -> NDArray[np.float32]:
    """Run texts of like length together, which saves padding, and put the results back in order."""
    import torch  # noqa: PLC0415
    from transformers import AutoTokenizer  # noqa: PLC0415

    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids: list[list[int]] = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
    padding = tokenizer.pad_token_id or 0
    parts: list[NDArray[np.float32]] = []
    order: list[int] = []
    with torch.inference_mode():
        for batch in _batches([len(each) for each in ids], batch_size):
            tokens, mask = pad([ids[index] for index in batch], padding)
            parts.append(compute(tokens.to(device), mask.to(device)).float().cpu().numpy())
            order += batch
    result = np.empty_like(values := np.concatenate(parts))
    result[order] = values
    return result


def _batches(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    for start in range(0, len(order), size):
        yield order[start : start + size]


def pad(rows: Sequence[Sequence[int]], padding: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and attention mask, both int64 [rows, longest], padded on the right."""
    import torch  # noqa: PLC0415

    longest = max(len(row) for row in rows)
    tokens = torch.full((len(rows), longest), padding, dtype=torch.int64)
    mask = torch.zeros((len(rows), longest), dtype=torch.int64)
    for place, row in enumerate(rows):
        tokens[place, : len(row)] = torch.tensor(row, dtype=torch.int64)
        mask[place, : len(row)] = 1
    return tokens, mask
