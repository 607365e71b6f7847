"""How the reports call the rows of the study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

LABELS = {
    "base": "base",
    "math": "math expert",
    "language": "German expert",
    "language_cpt": "German expert (CPT)",
    "mixing": "data mixing",
    "average": "average",
    "ties": "TIES",
    "swap": "layer swap",
    "swap_partial": "layer swap, partial SFT",
    "swap_embeddings": "layer swap, German embeddings",
    "swap_cpt": "layer swap, CPT",
    "simultaneous": "simultaneous",
    "simultaneous_rate": "simultaneous",
    "math_partial": "math expert, frozen",
    "language_partial": "German expert, frozen",
    "reset": "math expert, reset",
}


def label(row: Mapping[str, Any]) -> str:
    """Return what a row is called in tables and plots.

    >>> label({"family": "simultaneous", "partition": "C", "steps_per_switch": 10})
    'simultaneous C, k = 10'
    """
    text = LABELS[row["family"]]
    if row["partition"]:
        text += f" {row['partition']}"
    if row["steps_per_switch"]:
        text += f", k = {row['steps_per_switch']}"
    return f"{text}, rate × {row['rate_factor']:g}" if row["family"] == "simultaneous_rate" else text
