//! Spherical interpolation with weights, of models or of task vectors, whole or row by row.

use super::measured::Dots;
use super::table::{Base, Family, Method, Parameter, Scope, WEIGHT, switch};

const FLATTEN: Parameter = switch(
    "nuslerp_flatten",
    Scope::Global,
    true,
    "Take a tensor as one vector; otherwise each of its rows or columns on its own.",
);

const ROW_WISE: Parameter = switch(
    "nuslerp_row_wise",
    Scope::Global,
    false,
    "Without `nuslerp_flatten`: vectors run along the first dimension (true) or the last one (false).",
);

pub const METHOD: Method = Method {
    name: "nuslerp",
    family: Family::Measured,
    title: "NuSLERP",
    summary: "SLERP at t = w₁/(w₀+w₁) between two models, or between their task vectors when a base is given.",
    formula: "θ = [θ_b +] slerp(v₀, v₁, w₁/(w₀+w₁)),  vᵢ = θᵢ [− θ_b]",
    source: "https://github.com/arcee-ai/mergekit/blob/main/docs/merge_methods.md",
    base: Base::Optional,
    min_models: 2,
    max_models: Some(2),
    passes: "2",
    parameters: &[WEIGHT, FLATTEN, ROW_WISE],
    variants: &[],
    ignored: &["int8_mask"],
};

/// The factors of two vectors with these weights; the straight line where they point the same way or opposite ways.
pub fn coefficients(dots: &Dots, weights: [f64; 2]) -> Vec<f64> {
    let sum = weights[0] + weights[1];
    let t = if sum.abs() < 1e-6 { 0.5 } else { weights[1] / sum };
    let cosine = (dots.of(0, 1) / (dots.norm(0).max(1e-7) * dots.norm(1).max(1e-7))).clamp(-1.0, 1.0);
    if 1.0 - cosine * cosine <= 1e-16 {
        return vec![1.0 - t, t];
    }
    let angle = cosine.acos();
    vec![((1.0 - t) * angle).sin() / angle.sin(), (t * angle).sin() / angle.sin()]
}
