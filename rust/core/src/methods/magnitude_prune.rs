//! The trim of TIES followed by a plain sum.

use super::table::{
    AT_THRESHOLD, Base, DENSITY, Family, KEPT_COUNT, LAMBDA, Method, TRIM_SCOPE, WEIGHT, normalize, rescale,
};

pub const METHOD: Method = Method {
    name: "magnitude_prune",
    family: Family::TaskVector,
    title: "Magnitude pruning",
    summary: "Keeps the largest entries of each task vector and sums them; no sign election.",
    formula: "θ = θ₀ + λ·Σ wᵢ·trim(δᵢ)",
    source: "https://github.com/huggingface/peft/blob/main/src/peft/utils/merge_utils.py",
    base: Base::Required,
    min_models: 1,
    max_models: None,
    passes: "2",
    parameters: &[WEIGHT, DENSITY, normalize(false), LAMBDA, rescale("false"), TRIM_SCOPE, KEPT_COUNT, AT_THRESHOLD],
    variants: &[],
    ignored: &["int8_mask"],
};
