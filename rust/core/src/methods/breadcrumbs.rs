//! Model breadcrumbs: drop the largest and the smallest entries of each task vector.

use super::table::{
    AGGREGATE, Base, DENSITY, Family, LAMBDA, Method, Parameter, Scope, VOTE, WEIGHT, ZERO_VOTE, normalize, number,
    rescale,
};

const GAMMA: Parameter = number(
    "gamma",
    Scope::Model,
    0.01,
    Some(0.0),
    Some(1.0),
    "Fraction of the largest entries that is dropped as outliers.",
);

pub const LINEAR: Method = Method {
    name: "breadcrumbs",
    family: Family::TaskVector,
    title: "Model Breadcrumbs",
    summary: "Drops the largest int(γ·n) and the smallest entries of each task vector, keeps int(d·n) between them, and sums.",
    formula: "θ = θ₀ + λ·Σ wᵢ·mᵢ⊙δᵢ,  mᵢ keeps the ranks between the two cuts",
    source: "https://arxiv.org/abs/2312.06795",
    base: Base::Required,
    min_models: 1,
    max_models: None,
    passes: "2",
    parameters: &[WEIGHT, DENSITY, GAMMA, normalize(false), LAMBDA, rescale("false")],
    variants: &[],
    ignored: &["int8_mask"],
};

pub const TIES: Method = Method {
    name: "breadcrumbs_ties",
    title: "Model Breadcrumbs with TIES",
    summary: "The two cuts of Breadcrumbs followed by the sign election of TIES.",
    formula: "θ = θ₀ + λ·Σ{ wᵢ·mᵢ⊙δᵢ : sign(δᵢ) elected }",
    parameters: &[WEIGHT, DENSITY, GAMMA, normalize(false), LAMBDA, rescale("false"), VOTE, ZERO_VOTE, AGGREGATE],
    ..LINEAR
};
