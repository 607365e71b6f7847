//! A job's options as numbers and choices.

use crate::error::{Error, Result};
use crate::methods::options::Options;
use crate::methods::table::Method;
use crate::plan::Job;

/// How entries of a task vector are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drop {
    Never,
    /// All but the largest.
    Trim,
    /// The largest and the smallest.
    Window,
    /// At random, all alike.
    Random,
    /// At random, by rank within the row.
    Ranked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rescale {
    No,
    Density,
    /// Each entry by its own keep probability.
    Probability,
    /// The measured ratio of L1 norms before and after.
    Norm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vote {
    Weighted,
    Sum,
    Frequency,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroVote {
    Plus,
    Nothing,
    Majority,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    WeightedMean,
    Mean,
    Sum,
    Max,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consensus {
    pub vote: Vote,
    pub zero: ZeroVote,
    pub aggregate: Aggregate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptCount {
    AtLeastOne,
    Floor,
    FloorPlusOne,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Model {
    /// Place in the list of models without the base.
    pub index: usize,
    /// The input is a task vector already.
    pub delta: bool,
    pub weight: f64,
    pub density: f64,
    pub gamma: f64,
    pub epsilon: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// The first input is the base; otherwise the inputs are task vectors, and so is the result.
    pub based: bool,
    pub drop: Drop,
    pub rescale: Rescale,
    pub kept_count: KeptCount,
    pub with_equals: bool,
    pub whole_model_trim: bool,
    /// `None`: everything is summed.
    pub consensus: Option<Consensus>,
    pub normalize: bool,
    pub lambda: f64,
    pub models: Vec<Model>,
}

impl Recipe {
    pub fn parse(method: &Method, job: &Job) -> Result<Self> {
        let options = Options::new(method, &job.method.options, false)?;
        let based = job.inputs.first().is_some_and(|input| input.base);
        let models = &job.inputs[usize::from(based)..];
        if models.iter().any(|input| input.base) || models.len() < method.min_models {
            return Err(Error::plan(format!("{}: {} needs a base, first, and models", job.name, method.name)));
        }
        let drop = match method.name {
            "ties" | "magnitude_prune" => Drop::Trim,
            "breadcrumbs" | "breadcrumbs_ties" => Drop::Window,
            "dare_linear" | "dare_ties" => Drop::Random,
            "della" | "della_linear" => Drop::Ranked,
            _ => Drop::Never,
        };
        let rescale = match (options.choice_or("rescale", "false"), drop) {
            ("false", _) => Rescale::No,
            ("density", _) => Rescale::Density,
            ("true", Drop::Random | Drop::Ranked) => Rescale::Probability,
            _ => Rescale::Norm,
        };
        let consensus = options.has("vote").then(|| Consensus {
            vote: match options.choice_or("vote", "") {
                "sum" => Vote::Sum,
                "frequency" => Vote::Frequency,
                _ => Vote::Weighted,
            },
            zero: match options.choice_or("zero_vote", "") {
                "none" => ZeroVote::Nothing,
                "majority" => ZeroVote::Majority,
                _ => ZeroVote::Plus,
            },
            aggregate: match options.choice_or("aggregate", "") {
                "mean" => Aggregate::Mean,
                "sum" => Aggregate::Sum,
                "max" => Aggregate::Max,
                _ => Aggregate::WeightedMean,
            },
        });
        Ok(Self {
            based,
            drop,
            rescale,
            kept_count: match options.choice_or("kept_count", "at_least_one") {
                "floor" => KeptCount::Floor,
                "floor_plus_one" => KeptCount::FloorPlusOne,
                _ => KeptCount::AtLeastOne,
            },
            with_equals: options.choice_or("at_threshold", "lowest_index") == "all",
            whole_model_trim: options.choice_or("trim_scope", "tensor") == "model",
            consensus,
            normalize: options.switch("normalize")?,
            lambda: options.number("lambda")?,
            models: models.iter().map(|input| Model::parse(method, drop, input)).collect::<Result<_>>()?,
        })
    }

    /// The input that holds a model.
    pub fn input(&self, model: usize) -> usize {
        model + usize::from(self.based)
    }

    /// What two tensors that share a trim do not agree in.
    pub fn differs_in(&self, other: &Self) -> Option<&'static str> {
        let mut models = self.models.iter().zip(&other.models);
        let checks = [
            ("trim_scope", self.whole_model_trim == other.whole_model_trim),
            ("number of models", self.models.len() == other.models.len()),
            ("density", models.all(|(a, b)| a.density == b.density)),
            ("kept_count", self.kept_count == other.kept_count),
            ("at_threshold", self.with_equals == other.with_equals),
        ];
        checks.into_iter().find_map(|(what, same)| (!same).then_some(what))
    }

    pub fn needs_majority(&self) -> bool {
        self.consensus.is_some_and(|consensus| consensus.zero == ZeroVote::Majority)
    }

    /// Whether votes have their sign as soon as it is known which entries stay.
    pub fn votes_early(&self) -> bool {
        let by_sum = self.consensus.is_some_and(|consensus| consensus.vote == Vote::Sum);
        let plain = self.drop == Drop::Trim && self.rescale == Rescale::No && self.with_equals;
        by_sum && plain && self.needs_majority()
    }

    /// How many of `n` entries a trim keeps.
    pub fn kept(&self, density: f64, n: u64) -> u64 {
        if density <= 0.0 {
            return 0;
        }
        if density >= 1.0 {
            return n;
        }
        let whole = (density * n as f64) as u64;
        match self.kept_count {
            KeptCount::AtLeastOne => whole.max(1),
            KeptCount::Floor => whole,
            KeptCount::FloorPlusOne => whole + 1,
        }
        .min(n)
    }
}

impl Model {
    fn parse(method: &Method, drop: Drop, input: &crate::plan::Input) -> Result<Self> {
        let options = Options::new(method, &input.parameters, true)?;
        let number = |name, absent| if options.has(name) { options.number(name) } else { Ok(absent) };
        let model = Self {
            index: input.index,
            delta: input.delta,
            weight: options.number("weight")?,
            density: number("density", 1.0)?,
            gamma: number("gamma", 0.0)?,
            epsilon: number("epsilon", 0.0)?,
        };
        let (low, high) = (model.density - model.epsilon, model.density + model.epsilon);
        if drop == Drop::Ranked && model.density > 0.0 && model.density < 1.0 && (low <= 0.0 || high >= 1.0) {
            return Err(Error::plan(format!(
                "{}: density − epsilon = {low:.3} and density + epsilon = {high:.3} must lie between 0 and 1",
                method.name
            )));
        }
        Ok(model)
    }

    /// Of `n` entries in ascending order, breadcrumbs keeps `kept` behind the first `below`.
    pub fn window(&self, n: u64) -> (u64, u64) {
        let kept = ((self.density * n as f64) as u64).min(n);
        let top = (self.gamma * n as f64) as u64;
        (n.saturating_sub(kept + top), kept)
    }
}
