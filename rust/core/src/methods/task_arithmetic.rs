//! Sums of task vectors.

use super::table::{Base, Family, LAMBDA, Method, WEIGHT, normalize};

pub const METHOD: Method = Method {
    name: "task_arithmetic",
    family: Family::TaskVector,
    title: "Task Arithmetic",
    summary: "Adds the weighted differences between each model and the base.",
    formula: "θ = θ₀ + λ·Σ wᵢ·δᵢ,  δᵢ = θᵢ − θ₀",
    source: "https://arxiv.org/abs/2212.04089",
    base: Base::Required,
    min_models: 1,
    max_models: None,
    passes: "1",
    parameters: &[WEIGHT, normalize(false), LAMBDA],
    variants: &[],
    ignored: &["int8_mask", "density", "rescale"],
};
