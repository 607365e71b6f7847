//! What a method is to everything outside the engine: a name, its models, its parameters. The command line's help, the
//! JSON schema, the documentation and the tests are all derived from these rows.

use serde::Serialize;

/// Which arithmetic carries a method out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Σ wᵢ·xᵢ of the models themselves.
    Weighted,
    /// base + λ · f(δ₁ … δₙ), element by element.
    TaskVector,
    /// A linear combination whose coefficients are measured on the tensor (angles, norms).
    Measured,
    /// Bytes move; nothing is computed.
    Copy,
    /// Low-rank updates, from their factors: a decomposition of small matrices, then a merge of what it gives.
    Factored,
}

/// What a method does with `base_model`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Base {
    Required,
    Optional,
    /// A base is one more model of the list.
    Unused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// May differ from model to model.
    Model,
    /// One value for all models of a tensor.
    Global,
    /// One value for the whole merge.
    Merge,
}

/// The type, the range and the default of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Kind {
    Float { default: Option<f64>, min: Option<f64>, max: Option<f64> },
    Bool { default: bool },
    Choice { default: &'static str, choices: &'static [&'static str] },
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Parameter {
    pub name: &'static str,
    pub scope: Scope,
    /// No default: the request must give it.
    pub required: bool,
    #[serde(flatten)]
    pub kind: Kind,
    pub doc: &'static str,
}

/// A value that a variant gives a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Setting {
    Choice(&'static str),
    Switch(bool),
}

/// A published reading of a method: values for some of its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Variant {
    pub name: &'static str,
    pub options: &'static [(&'static str, Setting)],
    pub doc: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Method {
    pub name: &'static str,
    pub family: Family,
    pub title: &'static str,
    pub summary: &'static str,
    pub formula: &'static str,
    pub source: &'static str,
    pub base: Base,
    /// Models without the base.
    pub min_models: usize,
    pub max_models: Option<usize>,
    /// How often the inputs are read.
    pub passes: &'static str,
    pub parameters: &'static [Parameter],
    pub variants: &'static [Variant],
    /// mergekit's parameters that change nothing here and are accepted with a note.
    pub ignored: &'static [&'static str],
}

/// A parameter that a request must give.
pub const fn required(name: &'static str, scope: Scope, doc: &'static str) -> Parameter {
    Parameter { name, scope, required: true, kind: Kind::Float { default: None, min: None, max: None }, doc }
}

/// A number with a default and a closed range.
pub const fn number(
    name: &'static str,
    scope: Scope,
    default: f64,
    min: Option<f64>,
    max: Option<f64>,
    doc: &'static str,
) -> Parameter {
    Parameter { name, scope, required: false, kind: Kind::Float { default: Some(default), min, max }, doc }
}

pub const fn switch(name: &'static str, scope: Scope, default: bool, doc: &'static str) -> Parameter {
    Parameter { name, scope, required: false, kind: Kind::Bool { default }, doc }
}

pub const fn choice(
    name: &'static str,
    scope: Scope,
    default: &'static str,
    choices: &'static [&'static str],
    doc: &'static str,
) -> Parameter {
    Parameter { name, scope, required: false, kind: Kind::Choice { default, choices }, doc }
}

/// The same choice with another default.
pub const fn with_default(parameter: Parameter, default: &'static str) -> Parameter {
    match parameter.kind {
        Kind::Choice { choices, .. } => Parameter { kind: Kind::Choice { default, choices }, ..parameter },
        _ => parameter,
    }
}

// ---- parameters that several methods share --------------------------------------------------------------------------

pub const WEIGHT: Parameter = required(
    "weight",
    Scope::Model,
    "Factor of this model's contribution; any sign. A sum unless `normalize` divides.",
);

/// The weight where a sum of adapters is meant unless something else is said.
pub const UNIT_WEIGHT: Parameter =
    Parameter { required: false, kind: Kind::Float { default: Some(1.0), min: None, max: None }, ..WEIGHT };

pub const DENSITY: Parameter = number(
    "density",
    Scope::Model,
    1.0,
    Some(0.0),
    Some(1.0),
    "Fraction of each task vector that is kept; 0 keeps nothing, 1 everything.",
);

pub const LAMBDA: Parameter =
    number("lambda", Scope::Global, 1.0, None, None, "Scale of the merged task vector, applied last.");

pub const fn normalize(default: bool) -> Parameter {
    switch("normalize", Scope::Global, default, "Divide by the sum of the weights that took part.")
}

pub const fn rescale(default: &'static str) -> Parameter {
    choice(
        "rescale",
        Scope::Global,
        default,
        &["false", "true", "density", "l1"],
        "Make up for what was dropped. `true`: each kept entry divided by its own keep probability where the mask is \
         random, the measured ratio of L1 norms where it is not; `density`: divided by the density; `l1`: the ratio.",
    )
}

pub const TRIM_SCOPE: Parameter = choice(
    "trim_scope",
    Scope::Merge,
    "tensor",
    &["tensor", "model"],
    "Whether a trim counts entries tensor by tensor or over the whole model.",
);

pub const KEPT_COUNT: Parameter = choice(
    "kept_count",
    Scope::Global,
    "at_least_one",
    &["at_least_one", "floor", "floor_plus_one"],
    "How many of n entries a density d in (0, 1) keeps: max(1, int(d·n)), int(d·n) or int(d·n)+1.",
);

pub const AT_THRESHOLD: Parameter = choice(
    "at_threshold",
    Scope::Global,
    "lowest_index",
    &["lowest_index", "all"],
    "Among entries as large as the last one kept: the lowest flat indices, so that the count is exact, or all of them.",
);

pub const VOTE: Parameter = choice(
    "vote",
    Scope::Global,
    "weighted",
    &["weighted", "sum", "frequency"],
    "What elects a sign: the sum of weighted deltas, the sum of unweighted deltas, or the sum of their signs.",
);

pub const ZERO_VOTE: Parameter = choice(
    "zero_vote",
    Scope::Merge,
    "plus",
    &["plus", "none", "majority"],
    "The sign where a vote is exactly 0: plus, none (nothing is merged there), or the majority of the whole model.",
);

pub const AGGREGATE: Parameter = choice(
    "aggregate",
    Scope::Global,
    "weighted_mean",
    &["weighted_mean", "mean", "sum", "max"],
    "How agreeing deltas combine: Σw·δ/Σw (plain Σw·δ without `normalize`), Σw·δ over their count, Σw·δ, or the w·δ of the largest magnitude.",
);
