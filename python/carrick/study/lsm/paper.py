"""Numbers that the paper prints, to stand beside ours."""

from __future__ import annotations

# Table 4 and, of TIES_All and TIES_Each, Table 3: overall score of each row, by task and metric.
OVERALL: dict[tuple[str, str], dict[str, float]] = {
    ("sentiment", "macro_f1"): {
        "comb": 0.750, "indv": 0.671, "ties-d1": 0.646, "ties-d0.5": 0.724, "dare-ties-d1": 0.646,
        "dare-ties-d0.5": 0.666, "knots-ties-d1": 0.723, "knots-ties-d0.5": 0.711, "knots-dare-ties-d1": 0.723,
        "knots-dare-ties-d0.5": 0.712, "ties-all": 0.600, "ties-each": 0.665,
    },
    ("reasoning", "accuracy"): {
        "comb": 0.795, "indv": 0.793, "ties-d1": 0.786, "ties-d0.5": 0.800, "dare-ties-d1": 0.786,
        "dare-ties-d0.5": 0.768, "knots-ties-d1": 0.794, "knots-ties-d0.5": 0.793, "knots-dare-ties-d1": 0.794,
        "knots-dare-ties-d0.5": 0.800, "ties-all": 0.763, "ties-each": 0.755,
    },
    # ROUGE-L, which the paper's tokenizer makes small: it knows Latin letters alone.
    ("summarisation", "rougeL"): {
        "comb": 0.012, "indv": 0.010, "ties-d1": 0.007, "ties-d0.5": 0.010, "dare-ties-d1": 0.007,
        "dare-ties-d0.5": 0.007, "knots-ties-d1": 0.012, "knots-ties-d0.5": 0.013, "knots-dare-ties-d1": 0.012,
        "knots-dare-ties-d0.5": 0.010,
    },
    ("summarisation", "bertscore"): {
        "comb": 0.835, "indv": 0.828, "ties-d1": 0.805, "ties-d0.5": 0.830, "dare-ties-d1": 0.805,
        "dare-ties-d0.5": 0.798, "knots-ties-d1": 0.836, "knots-ties-d0.5": 0.835, "knots-dare-ties-d1": 0.836,
        "knots-dare-ties-d0.5": 0.830, "ties-all": 0.812, "ties-each": 0.810,
    },
}  # fmt: skip
