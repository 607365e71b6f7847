//! Model Stock: move from the base towards the mean as far as the angle between task vectors allows.

use super::measured::Dots;
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

/// The factor of each task vector: t/N, with t from the mean cosine over all pairs.
pub fn coefficients(dots: &Dots) -> Vec<f64> {
    let n = dots.vectors();
    let pairs = (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j)));
    let cosine = |(i, j)| (dots.of(i, j) / (dots.norm(i) * dots.norm(j)).max(1e-6)).clamp(-1.0, 1.0);
    let mean = pairs.map(cosine).sum::<f64>() / (n * (n - 1) / 2) as f64;
    let denominator = 1.0 + (n as f64 - 1.0) * mean;
    let t = if denominator < 1e-6 { 0.0 } else { n as f64 * mean / denominator };
    vec![t / n as f64; n]
}
