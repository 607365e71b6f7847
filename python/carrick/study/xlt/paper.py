"""Accuracies in MGSM that the paper prints, in per cent, means over its four models."""

from __future__ import annotations

# Tables 1, 3 and A.1: by row (kind and family of the study), then by language.
LANGUAGES = ("sw", "bn", "te", "en")
MEANS: dict[str, tuple[float, float, float, float]] = {
    "base": (23.5, 25.6, 7.9, 78.4),
    "full/math": (25.2, 26.1, 7.4, 81.3),
    "lora/math": (24.4, 24.8, 7.4, 81.0),
    "full/math_partial": (25.0, 25.6, 8.0, 80.6),
    "full/language": (24.8, 28.3, 7.9, 79.9),
    "lora/language": (23.8, 26.6, 8.6, 78.8),
    "full/language_partial": (24.3, 26.9, 8.2, 79.0),
    "full/mixing": (25.1, 27.9, 8.2, 80.4),
    "lora/mixing": (24.8, 26.0, 8.4, 80.0),
    "full/simultaneous": (25.9, 27.9, 9.3, 81.8),
    "lora/simultaneous": (25.2, 26.9, 9.0, 80.5),
    "full/swap": (26.7, 28.7, 9.2, 80.9),
    "lora/swap": (25.8, 27.5, 9.2, 80.8),
    "full/swap_partial": (25.1, 27.0, 9.0, 79.9),
    "lora/swap_partial": (24.8, 26.7, 8.6, 80.0),
}
# Table 2: English MGSM of the math expert, (frozen during training, reset after it), in per cent.
FREEZE: dict[str, tuple[float, float]] = {
    "A": (79.4, 79.8),
    "B": (79.8, 79.8),
    "C": (79.7, 80.0),
    "Z": (78.2, 78.9),
}
