//! Interpolation along the arc between two models.

use super::table::{Base, Family, Method, Parameter, Scope, required};

const T: Parameter = required("t", Scope::Global, "Position on the arc: 0 is the base model, 1 the other.");

pub const METHOD: Method = Method {
    name: "slerp",
    family: Family::Measured,
    title: "SLERP",
    summary: "Spherical interpolation of each tensor, taken as one vector; nearly parallel tensors are interpolated linearly.",
    formula: "θ = sin((1−t)φ)/sin φ·θ₀ + sin(tφ)/sin φ·θ₁,  cos φ = ⟨θ₀,θ₁⟩/‖θ₀‖‖θ₁‖",
    source: "https://doi.org/10.1145/325334.325242",
    base: Base::Required,
    min_models: 1,
    max_models: Some(1),
    passes: "2",
    parameters: &[T],
    variants: &[],
    ignored: &["int8_mask"],
};
