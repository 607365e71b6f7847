"""The shared head: a logistic regression on frozen features, kept as a small folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from carrick.classifier.encoder import check_config
from carrick.errors import ConfigError
from carrick.suggestions import nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

WEIGHTS, DESCRIPTION = "head.safetensors", "head.json"
FORMAT, VERSION = "carrick-head", 1


@dataclass(frozen=True)
class Head:
    """A linear head over pooled features.

    Attributes
    ----------
    weight
        float32 [classes, width].
    bias
        float32 [classes].
    labels
        Names of the classes; a label that is a number is a place in this list.
    base
        What the features were taken from, as it was named.
    max_length
        Tokens that were kept of each text it was fitted on; None where that is not known.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    labels: tuple[str, ...]
    base: str
    max_length: int | None = None

    def index(self, label: str | int) -> int:
        """Return the class of a label.

        Raises
        ------
        ConfigError
            A number beyond the classes, or a name that is none of them.

        Examples
        --------
        >>> zero = np.zeros((2, 1), np.float32)
        >>> head = Head(zero, zero[:, 0], ("bad", "good"), "minilm")
        >>> head.index("good"), head.index(0), head.index("1")
        (1, 0, 1)
        """
        if str(label) in self.labels:
            return self.labels.index(str(label))
        try:
            number = int(label)
        except ValueError:
            number = -1
        if not 0 <= number < len(self.labels):
            known = ", ".join(self.labels)
            hint = (
                nearest(str(label), self.labels) or f"; the classes are {known} (0 to {len(self.labels) - 1})"
            )
            raise ConfigError(f"the head has no class `{label}`{hint}")
        return number

    def save(self, out: str | Path) -> Path:
        """Write the head's folder and return it."""
        from safetensors.numpy import save_file  # noqa: PLC0415

        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        # safetensors writes the memory as it lies; scikit-learn's coefficients lie column by column.
        tensors = {"weight": np.ascontiguousarray(self.weight), "bias": np.ascontiguousarray(self.bias)}
        save_file(tensors, folder / WEIGHTS)
        content = {
            "format": FORMAT,
            "version": VERSION,
            "labels": list(self.labels),
            "base": self.base,
            "pooling": "mean",
            **({} if self.max_length is None else {"max_length": self.max_length}),
        }
        (folder / DESCRIPTION).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
        return folder


def load_head(folder: str | Path) -> Head:
    """Read a head that :func:`fit_head` wrote.

    Raises
    ------
    ConfigError
        The folder holds no head.
    """
    from safetensors import SafetensorError  # noqa: PLC0415
    from safetensors.numpy import load_file  # noqa: PLC0415

    place = Path(folder)
    for name in (DESCRIPTION, WEIGHTS):
        if not (place / name).is_file():
            raise ConfigError(
                f"{place} holds no head: there is no {name} (`carrick.classifier.head.fit_head`)"
            )
    try:
        described = json.loads((place / DESCRIPTION).read_text("utf-8"))
        tensors = load_file(place / WEIGHTS)
        weight, bias = tensors["weight"], tensors["bias"]
        labels = tuple(str(label) for label in described["labels"])
        length = described.get("max_length")  # heads of earlier versions have none
        length = None if length is None else int(length)
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ConfigError(f"{place} holds no readable head: {type(error).__name__} {error}") from None
    if weight.shape[:1] != bias.shape or len(labels) != len(bias):
        raise ConfigError(
            f"{place}: weight {weight.shape}, bias {bias.shape} and {len(labels)} labels disagree"
        )
    base = str(described.get("base", ""))
    return Head(weight.astype(np.float32), bias.astype(np.float32), labels, base, length)


def check_width(head: Head, base: Path) -> None:
    """Refuse a head over other features than a base gives.

    Raises
    ------
    ConfigError
        Their widths differ, or the base's config.json is malformed.
    """
    width = check_config(base, f"the config.json of {base}").hidden_size
    features = head.weight.shape[1]
    if width != features:
        raise ConfigError(
            f"head: it is a head over {features} features; the base gives {width}. It was fitted on {head.base}"
        )


def fit_head(
    base: str | Path,
    texts: Sequence[str],
    labels: Sequence[int],
    out: str | Path,
    *,
    names: Sequence[str],
    C: float = 1.0,  # noqa: N803  (scikit-learn's name)
    max_length: int = 64,
    batch_size: int = 64,
    device: str = "cpu",
    seed: int = 0,
) -> Head:
    """Fit the head by logistic regression on frozen, mean-pooled features, and write its folder.

    Parameters
    ----------
    base
        The encoder, a local folder or a Hub id in the cache.
    texts, labels
        Rows to fit on, the labels being places in ``names``.
    out
        Folder to write.
    names
        The classes.
    C
        Inverse strength of the L2 penalty.
    max_length, batch_size, device
        How the features are computed; see :func:`carrick.classifier.predict.features`.
    seed
        Of the solver.

    Raises
    ------
    ConfigError
        No rows, or a class of which there is none.
    CarrickError
        scikit-learn is not installed.
    """
    from carrick.extras import require  # noqa: PLC0415

    require("a classification head", "study", "torch", "transformers", "sklearn")
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    from carrick.classifier.predict import features  # noqa: PLC0415

    if not texts or len(texts) != len(labels):
        raise ConfigError(
            f"{len(texts)} texts and {len(labels)} labels; a head needs some, one label for each"
        )
    for number, name in enumerate(names):
        if number not in labels:
            raise ConfigError(f"no row has the label {number} (`{name}`); a head needs rows of every class")
    pooled = features(base, texts, max_length=max_length, batch_size=batch_size, device=device)
    model = LogisticRegression(C=C, max_iter=2000, random_state=seed).fit(pooled, np.asarray(labels))
    weight, bias = model.coef_.astype(np.float32), model.intercept_.astype(np.float32)
    if len(names) == 2:  # scikit-learn keeps one row of two classes: their difference
        weight, bias = np.stack([-weight[0] / 2, weight[0] / 2]), np.array([-bias[0] / 2, bias[0] / 2])
    head = Head(weight, bias.astype(np.float32), tuple(names), str(base), max_length)
    head.save(out)
    return head
