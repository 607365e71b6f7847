//! One model, tensor by tensor, with an optional factor.

use super::table::{Base, Family, Method, Parameter, Scope, number};

const SCALE: Parameter = number("scale", Scope::Model, 1.0, None, None, "Factor; 1 copies the bytes.");

pub const METHOD: Method = Method {
    name: "passthrough",
    family: Family::Weighted,
    title: "Passthrough",
    summary: "Takes each tensor from one model: the way to stack layers of several models.",
    formula: "θ = s·θ₁",
    source: "https://github.com/arcee-ai/mergekit/blob/main/docs/merge_methods.md",
    base: Base::Unused,
    min_models: 1,
    max_models: Some(1),
    passes: "1",
    parameters: &[SCALE],
    variants: &[],
    ignored: &["int8_mask", "weight"],
};
