//! Interpolation along the arc between two models.

use super::measured::Dots;
use super::table::{Base, Family, Method, Parameter, Scope, required};

const T: Parameter = required(
    "t",
    Scope::Global,
    "Position on the arc: 0 is the base (without one, the model listed first), 1 the other.",
);

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

/// Two vectors whose cosine is above this are interpolated on a straight line.
const PARALLEL: f64 = 0.9995;

/// The factors of the two models. Vectors without a length have no direction: they are taken as they are.
pub fn coefficients(dots: &Dots, t: f64) -> Vec<f64> {
    let unit = |norm: f64| if norm > 1e-8 { norm } else { 1.0 };
    let cosine = (dots.of(0, 1) / (unit(dots.norm(0)) * unit(dots.norm(1)))).clamp(-1.0, 1.0);
    if cosine.abs() > PARALLEL {
        return vec![1.0 - t, t];
    }
    let angle = cosine.acos();
    vec![((1.0 - t) * angle).sin() / angle.sin(), (t * angle).sin() / angle.sin()]
}
