//! Weighted sum or mean of the models themselves ("model soup").

use super::table::{Base, Family, Method, WEIGHT, normalize};

pub const METHOD: Method = Method {
    name: "linear",
    family: Family::Weighted,
    title: "Linear (model soup)",
    summary: "The weighted mean of the models' parameters; with `normalize: false`, the weighted sum.",
    formula: "θ = Σ wᵢ·θᵢ / Σ wᵢ",
    source: "https://arxiv.org/abs/2203.05482",
    base: Base::Unused,
    min_models: 1,
    max_models: None,
    passes: "1",
    parameters: &[WEIGHT, normalize(true)],
    variants: &[],
    ignored: &["int8_mask"],
};
