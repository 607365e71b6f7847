"""Accuracies that the paper prints (Tables 1 to 3), to stand beside ours."""

from __future__ import annotations

# By model and split, then row: English and Spanish of EN-ES, English and Hindi of EN-HI.
TABLES: dict[str, dict[str, tuple[float, float, float, float]]] = {
    "1b/80-20": {
        "zero_shot/0": (0.11, 0.11, 0.11, 0.11), "zero_shot/3": (0.08, 0.08, 0.08, 0.08),
        "zero_shot/5": (0.07, 0.07, 0.07, 0.07), "mixed": (0.33, 0.27, 0.30, 0.21),
        "sum_average": (0.24, 0.21, 0.23, 0.17), "ties": (0.12, 0.14, 0.10, 0.10), "dare": (0.23, 0.21, 0.23, 0.17),
        "cat": (0.30, 0.26, 0.30, 0.21), "mlm": (0.34, 0.29, 0.33, 0.22),
    },
    "1b/70-30": {
        "zero_shot/0": (0.11, 0.11, 0.11, 0.11), "zero_shot/3": (0.07, 0.07, 0.07, 0.08),
        "zero_shot/5": (0.06, 0.08, 0.06, 0.08), "mixed": (0.28, 0.23, 0.31, 0.20),
        "sum_average": (0.24, 0.21, 0.23, 0.15), "ties": (0.12, 0.13, 0.10, 0.10), "dare": (0.24, 0.21, 0.23, 0.15),
        "cat": (0.31, 0.26, 0.30, 0.21), "mlm": (0.32, 0.32, 0.32, 0.23),
    },
    "3b/80-20": {
        "zero_shot/0": (0.14, 0.14, 0.14, 0.12), "zero_shot/3": (0.08, 0.08, 0.08, 0.08),
        "zero_shot/5": (0.07, 0.07, 0.07, 0.07), "mixed": (0.43, 0.36, 0.43, 0.28),
        "sum_average": (0.39, 0.31, 0.38, 0.22), "ties": (0.30, 0.24, 0.29, 0.18), "dare": (0.38, 0.31, 0.37, 0.22),
        "cat": (0.42, 0.35, 0.42, 0.28), "mlm": (0.43, 0.36, 0.43, 0.29),
    },
}  # fmt: skip


def printed(table: str, family: str, target: int) -> tuple[float, float] | None:
    """Return the paper's accuracies of a row (task language, target), if it has the row.

    Parameters
    ----------
    table
        Model and split.
    family
        Row of the study; every CAT is compared with the paper's one, every aligned merge with its MLM.
    target
        0 for Spanish, 1 for Hindi.

    Examples
    --------
    >>> printed("1b/80-20", "mlm/zero/1", 1), printed("1b/80-20", "single", 0)
    ((0.33, 0.22), None)
    """
    rows = TABLES.get(table, {})
    row = rows.get(family) or rows.get(family.split("/", maxsplit=1)[0])
    return None if row is None else (row[2 * target], row[2 * target + 1])
