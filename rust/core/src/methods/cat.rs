//! The exact weighted sum of adapters: their factors side by side.

use super::table::{Base, Family, LAMBDA, Method, UNIT_WEIGHT, normalize};

pub const METHOD: Method = Method {
    name: "cat",
    family: Family::Factored,
    title: "Concatenation",
    summary: "The exact weighted sum of LoRA adapters: their factors side by side, or the best truncation of that.",
    formula: "ΔW = λ·Σ wᵢ·sᵢ·Bᵢ·Aᵢ = [B₁ … Bₙ]·[λw₁s₁A₁; …; λwₙsₙAₙ]",
    source: "https://github.com/huggingface/peft/blob/main/src/peft/tuners/lora/model.py",
    base: Base::Optional,
    min_models: 1,
    max_models: None,
    passes: "1",
    parameters: &[UNIT_WEIGHT, normalize(false), LAMBDA],
    variants: &[],
    ignored: &["density"],
};
