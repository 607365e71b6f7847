//! TIES: trim, elect sign, disjoint merge.

use super::table::Setting::{Choice, Switch};
use super::table::{
    AGGREGATE, AT_THRESHOLD, Base, DENSITY, Family, KEPT_COUNT, LAMBDA, Method, TRIM_SCOPE, VOTE, Variant, WEIGHT,
    ZERO_VOTE, normalize, rescale,
};

pub const MERGEKIT: Variant = Variant {
    name: "mergekit",
    options: &[
        ("trim_scope", Choice("tensor")),
        ("kept_count", Choice("at_least_one")),
        ("at_threshold", Choice("lowest_index")),
        ("vote", Choice("weighted")),
        ("zero_vote", Choice("plus")),
        ("aggregate", Choice("weighted_mean")),
        ("normalize", Switch(true)),
    ],
    doc: "What mergekit computes, with the count of kept entries exact and reproducible.",
};

pub const PEFT: Variant = Variant {
    name: "peft",
    options: &[
        ("trim_scope", Choice("tensor")),
        ("kept_count", Choice("floor")),
        ("at_threshold", Choice("lowest_index")),
        ("vote", Choice("sum")),
        ("zero_vote", Choice("plus")),
        ("aggregate", Choice("mean")),
    ],
    doc: "What PEFT's merge_utils computes.",
};

pub const PAPER: Variant = Variant {
    name: "paper",
    options: &[
        ("trim_scope", Choice("model")),
        ("kept_count", Choice("floor")),
        ("at_threshold", Choice("lowest_index")),
        ("vote", Choice("sum")),
        ("zero_vote", Choice("none")),
        ("aggregate", Choice("mean")),
    ],
    doc: "The text of the paper: the trim ranges over the whole model.",
};

pub const REFERENCE: Variant = Variant {
    name: "reference",
    options: &[
        ("trim_scope", Choice("model")),
        ("kept_count", Choice("floor_plus_one")),
        ("at_threshold", Choice("all")),
        ("vote", Choice("sum")),
        ("zero_vote", Choice("majority")),
        ("aggregate", Choice("mean")),
    ],
    doc: "The authors' published code, one entry more and all its equals included.",
};

pub const METHOD: Method = Method {
    name: "ties",
    family: Family::TaskVector,
    title: "TIES-Merging",
    summary: "Keeps the largest entries of each task vector, elects a sign per parameter, and merges what agrees with it.",
    formula: "θ = θ₀ + λ·mean{ wᵢ·trim(δᵢ) : sign(δᵢ) = sign(Σ wⱼ·trim(δⱼ)) }",
    source: "https://arxiv.org/abs/2306.01708",
    base: Base::Required,
    min_models: 1,
    max_models: None,
    passes: "2",
    parameters: &[
        WEIGHT,
        DENSITY,
        normalize(true),
        LAMBDA,
        rescale("false"),
        TRIM_SCOPE,
        KEPT_COUNT,
        AT_THRESHOLD,
        VOTE,
        ZERO_VOTE,
        AGGREGATE,
    ],
    variants: &[MERGEKIT, PEFT, PAPER, REFERENCE],
    ignored: &["int8_mask"],
};
