//! KnOTS: updates are merged in the basis that they share, [ΔW₁ | … | ΔWₙ] = U·Σ·[V₁ᵀ | … | Vₙᵀ].
//!
//! A decomposition comes first ([`crate::factored`]); the merge of the Σ·Vᵢᵀ is then a merge of task vectors like any
//! other. The rows below are what a user may ask for.

use super::table::{
    AGGREGATE, AT_THRESHOLD, Base, DENSITY, Family, KEPT_COUNT, LAMBDA, Method, Parameter, Scope, TRIM_SCOPE,
    UNIT_WEIGHT, VOTE, ZERO_VOTE, choice, normalize, number, rescale, with_default,
};
use super::{dare, ties};

const DIRECTION: Parameter = choice(
    "direction",
    Scope::Merge,
    "columns",
    &["columns", "rows"],
    "Updates side by side share their left basis U (columns), or one above the other the right one (rows).",
);

const RANK_TOLERANCE: Parameter = number(
    "rank_tolerance",
    Scope::Merge,
    1e-6,
    Some(0.0),
    None,
    "Singular values up to this are taken as zero: the number of directions is part of the method.",
);

const RANK_CUT: Parameter = choice(
    "rank_cut",
    Scope::Merge,
    "relative",
    &["relative", "absolute"],
    "Whether `rank_tolerance` is a fraction of the largest singular value, or a value (the published code: 1e-5).",
);

const OUTSIDE_LAYERS: Parameter = choice(
    "outside_layers",
    Scope::Merge,
    "plain",
    &["plain", "basis", "base"],
    "Checkpoints: embeddings, head, norms and biases are merged without a basis (plain), matrices among them with one \
     (basis), or stay the base's (base).",
);

pub const LINEAR: Method = Method {
    name: "knots_linear",
    family: Family::Factored,
    title: "KnOTS with task arithmetic",
    summary: "The weighted sum in the shared basis: the same update as `cat`, in at most as many directions.",
    formula: "ΔW = λ·U·Σ wᵢ·(S·Vᵢᵀ),  [ΔW₁ | … | ΔWₙ] = U·S·[V₁ᵀ | … | Vₙᵀ]",
    source: "https://arxiv.org/abs/2410.19735",
    base: Base::Optional,
    min_models: 1,
    max_models: None,
    passes: "1",
    parameters: &[UNIT_WEIGHT, normalize(false), LAMBDA, DIRECTION, RANK_TOLERANCE, RANK_CUT, OUTSIDE_LAYERS],
    variants: &[],
    ignored: &["density"],
};

pub const TIES: Method = Method {
    name: "knots_ties",
    title: "KnOTS with TIES",
    summary: "Trims, elects signs and averages in the basis that the updates share, where they agree more often.",
    formula: "ΔW = λ·U·mean{ wᵢ·trim(S·Vᵢᵀ) : sign elected },  [ΔW₁ | … | ΔWₙ] = U·S·[V₁ᵀ | … | Vₙᵀ]",
    passes: "2",
    parameters: &[
        UNIT_WEIGHT,
        DENSITY,
        normalize(false),
        LAMBDA,
        rescale("false"),
        with_default(TRIM_SCOPE, "model"),
        with_default(KEPT_COUNT, "floor_plus_one"),
        with_default(AT_THRESHOLD, "all"),
        with_default(VOTE, "sum"),
        with_default(ZERO_VOTE, "majority"),
        with_default(AGGREGATE, "mean"),
        DIRECTION,
        RANK_TOLERANCE,
        RANK_CUT,
        OUTSIDE_LAYERS,
    ],
    variants: &[ties::REFERENCE, ties::PAPER, ties::PEFT, ties::MERGEKIT],
    ignored: &[],
    ..LINEAR
};

pub const DARE_LINEAR: Method = Method {
    name: "knots_dare_linear",
    title: "KnOTS with DARE",
    summary: "Drops entries at random and rescales the others in the shared basis, then sums.",
    formula: "ΔW = λ·U·Σ wᵢ·mᵢ⊙(S·Vᵢᵀ)/d,  mᵢ ~ Bernoulli(d)",
    parameters: &[
        UNIT_WEIGHT,
        DENSITY,
        normalize(false),
        LAMBDA,
        rescale("true"),
        DIRECTION,
        RANK_TOLERANCE,
        RANK_CUT,
        OUTSIDE_LAYERS,
    ],
    ignored: &[],
    ..LINEAR
};

pub const DARE_TIES: Method = Method {
    name: "knots_dare_ties",
    title: "KnOTS with DARE-TIES",
    summary: "DARE's random drop in the shared basis, followed by the sign election of TIES.",
    formula: "ΔW = λ·U·mean{ wᵢ·mᵢ⊙(S·Vᵢᵀ)/d : sign elected },  mᵢ ~ Bernoulli(d)",
    parameters: &[
        UNIT_WEIGHT,
        DENSITY,
        normalize(false),
        LAMBDA,
        rescale("true"),
        with_default(VOTE, "sum"),
        with_default(ZERO_VOTE, "majority"),
        with_default(AGGREGATE, "mean"),
        DIRECTION,
        RANK_TOLERANCE,
        RANK_CUT,
        OUTSIDE_LAYERS,
    ],
    variants: &[dare::REFERENCE, dare::PEFT, dare::MERGEKIT],
    ..DARE_LINEAR
};

pub const MAGNITUDE_PRUNE: Method = Method {
    name: "knots_magnitude_prune",
    title: "KnOTS with magnitude pruning",
    summary: "Keeps the largest entries in the shared basis and sums them; no sign election.",
    formula: "ΔW = λ·U·Σ wᵢ·trim(S·Vᵢᵀ)",
    passes: "2",
    parameters: &[
        UNIT_WEIGHT,
        DENSITY,
        normalize(false),
        LAMBDA,
        rescale("false"),
        with_default(TRIM_SCOPE, "model"),
        with_default(KEPT_COUNT, "floor_plus_one"),
        with_default(AT_THRESHOLD, "all"),
        DIRECTION,
        RANK_TOLERANCE,
        RANK_CUT,
        OUTSIDE_LAYERS,
    ],
    ignored: &[],
    ..LINEAR
};
