//! Model Stock: move from the base towards the mean as far as the angle between task vectors allows.

use super::table::{Base, Family, Method, Parameter, Scope, switch};

const FILTER_WISE: Parameter =
    switch("filter_wise", Scope::Global, false, "Measure the angle row by row instead of once a tensor.");

pub const METHOD: Method = Method {
    name: "model_stock",
    family: Family::Measured,
    title: "Model Stock",
    summary: "Interpolates between the base and the mean of the models by the mean cosine of their task vectors.",
    formula: "θ = t·mean(θᵢ) + (1−t)·θ₀,  t = N·c/(1+(N−1)·c),  c the mean cosine over pairs of δᵢ",
    source: "https://arxiv.org/abs/2403.19522",
    base: Base::Required,
    min_models: 2,
    max_models: None,
    passes: "2",
    parameters: &[FILTER_WISE],
    variants: &[],
    ignored: &["int8_mask", "weight"],
};
