//! DARE: drop at random and rescale, then a sum or a sign election.

use super::table::Setting::{Choice, Switch};
use super::table::{
    AGGREGATE, Base, DENSITY, Family, LAMBDA, Method, VOTE, Variant, WEIGHT, ZERO_VOTE, normalize, rescale,
};

pub const MERGEKIT: Variant = Variant {
    name: "mergekit",
    options: &[
        ("vote", Choice("weighted")),
        ("zero_vote", Choice("plus")),
        ("aggregate", Choice("weighted_mean")),
        ("normalize", Switch(false)),
    ],
    doc: "mergekit's sign election (its rescaling is `rescale: l1`).",
};

pub const PEFT: Variant = Variant {
    name: "peft",
    options: &[("vote", Choice("sum")), ("zero_vote", Choice("plus")), ("aggregate", Choice("mean"))],
    doc: "What PEFT's merge_utils computes.",
};

pub const REFERENCE: Variant = Variant {
    name: "reference",
    options: &[("vote", Choice("sum")), ("zero_vote", Choice("majority")), ("aggregate", Choice("mean"))],
    doc: "The published code of KnOTS, which drops at random in place of a trim.",
};

pub const LINEAR: Method = Method {
    name: "dare_linear",
    family: Family::TaskVector,
    title: "DARE",
    summary: "Keeps each entry of a task vector with probability `density`, divides it by that, and sums.",
    formula: "θ = θ₀ + λ·Σ wᵢ·mᵢ⊙δᵢ/d,  mᵢ ~ Bernoulli(d)",
    source: "https://arxiv.org/abs/2311.03099",
    base: Base::Required,
    min_models: 1,
    max_models: None,
    passes: "1",
    parameters: &[WEIGHT, DENSITY, normalize(false), LAMBDA, rescale("true")],
    variants: &[],
    ignored: &["int8_mask"],
};

pub const TIES: Method = Method {
    name: "dare_ties",
    title: "DARE-TIES",
    summary: "DARE's random drop in place of a trim, followed by the sign election of TIES.",
    formula: "θ = θ₀ + λ·Σ{ wᵢ·mᵢ⊙δᵢ/d : sign(δᵢ) elected },  mᵢ ~ Bernoulli(d)",
    parameters: &[WEIGHT, DENSITY, normalize(false), LAMBDA, rescale("true"), VOTE, ZERO_VOTE, AGGREGATE],
    variants: &[MERGEKIT, PEFT, REFERENCE],
    ..LINEAR
};
