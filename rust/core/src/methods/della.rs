//! DELLA: a random drop whose probability follows the rank of an entry in its row.

use super::table::{
    AGGREGATE, Base, DENSITY, Family, LAMBDA, Method, Parameter, Scope, VOTE, WEIGHT, ZERO_VOTE, normalize, number,
    rescale,
};

const EPSILON: Parameter = number(
    "epsilon",
    Scope::Model,
    0.15,
    Some(0.0),
    Some(0.5),
    "Half the spread of keep probabilities within a row; 0 < density − ε and density + ε < 1 unless density is 0 or 1.",
);

pub const LINEAR: Method = Method {
    name: "della_linear",
    family: Family::TaskVector,
    title: "DELLA, summed",
    summary: "Keeps large entries of a row more often than small ones, divides each by its own probability, and sums.",
    formula: "p = d − ε + 2ε·(rank − 1)/(cols − 1), rank 1 the smallest of a row;  θ = θ₀ + λ·Σ wᵢ·mᵢ⊙δᵢ/p",
    source: "https://arxiv.org/abs/2406.11617",
    base: Base::Required,
    min_models: 1,
    max_models: None,
    passes: "1",
    parameters: &[WEIGHT, DENSITY, EPSILON, normalize(false), LAMBDA, rescale("true")],
    variants: &[],
    ignored: &["int8_mask"],
};

pub const TIES: Method = Method {
    name: "della",
    title: "DELLA",
    summary: "DELLA's drop followed by the sign election of TIES.",
    formula: "p as in della_linear;  θ = θ₀ + λ·mean{ wᵢ·mᵢ⊙δᵢ/p : sign(δᵢ) elected }",
    parameters: &[WEIGHT, DENSITY, EPSILON, normalize(true), LAMBDA, rescale("true"), VOTE, ZERO_VOTE, AGGREGATE],
    ..LINEAR
};
