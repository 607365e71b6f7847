//! Layer swapping: each tensor from a task expert or from a language expert, byte for byte.

use super::table::{Base, Family, Method, Parameter, Scope, choice};

const PLACES: &[&str] = &["task", "language", "average", "base"];

const PARTITION: Parameter = choice(
    "partition",
    Scope::Merge,
    "B",
    &["A", "B", "C", "Z"],
    "Which tensors the language expert gives: [A] attention and the MLPs of the first 6 and last 2 layers, [B] the first 8 \
     and last 4 layers, [C] the first 6 and last 2, [Z] the complement of B; scaled for other depths than 28 to 48.",
);

const EMBEDDINGS: Parameter = choice("embeddings", Scope::Merge, "task", PLACES, "Where the embeddings come from.");
const HEAD: Parameter = choice("head", Scope::Merge, "task", PLACES, "Where the output head comes from.");
const FINAL_NORM: Parameter = choice("final_norm", Scope::Merge, "task", PLACES, "Where the final norm comes from.");

pub const METHOD: Method = Method {
    name: "layer_swap",
    family: Family::Copy,
    title: "Layer swapping",
    summary: "Layers near the input and the output from a language expert, those between from a task expert; copied, or averaged where asked.",
    formula: "θ[l] = θ_language[l] for l < b or l ≥ L − u, else θ_task[l]",
    source: "https://arxiv.org/abs/2410.01335",
    base: Base::Optional,
    min_models: 2,
    max_models: Some(2),
    passes: "1",
    parameters: &[PARTITION, EMBEDDINGS, HEAD, FINAL_NORM],
    variants: &[],
    ignored: &["int8_mask"],
};
