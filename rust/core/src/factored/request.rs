//! What is asked for, and what comes back.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::linalg::Tolerance;
use crate::plan::{Factor, FileRecord};

/// Sums of low-rank products, each to be written as one product with an orthonormal factor.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    pub files: Vec<FileRecord>,
    pub kind: Kind,
    #[serde(default)]
    pub tolerance: Tolerance,
    /// Directions that are kept at the most.
    #[serde(default)]
    pub rank: Option<u64>,
    /// The share of the sum of squares that is kept at the least.
    #[serde(default)]
    pub energy: Option<f64>,
    #[serde(default)]
    pub precision: Precision,
    pub modules: Vec<Module>,
}

/// What is decomposed, for terms ΔW = scale·B·A.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Their sum.
    Sum,
    /// All of them side by side, \[ΔW₁ | … | ΔWₙ\].
    JointColumns,
    /// All of them one below the other.
    JointRows,
}

/// What the results are exact to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    #[default]
    Float32,
    Float64,
}

/// A weight of out × in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Module {
    pub name: String,
    pub out: u64,
    #[serde(rename = "in")]
    pub in_features: u64,
    pub terms: Vec<Term>,
    /// Goes before the request's.
    #[serde(default)]
    pub rank: Option<u64>,
}

/// scale · B (out × rank) · A (rank × in).
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Term {
    pub a: Factor,
    pub b: Factor,
    pub rank: u64,
    pub scale: f64,
}

/// How a module was decomposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// Eigenvalues of a Gram matrix: fast, and exact to float32.
    Gram,
    /// Reflections and singular values: exact to float64.
    Householder,
}

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub modules: Vec<ModuleReport>,
    pub threads: usize,
    /// Bytes held at the most.
    pub memory: u64,
    pub bytes_read: u64,
    pub seconds: f64,
}

#[derive(Clone, Debug, Serialize)]
pub struct ModuleReport {
    pub name: String,
    /// Directions that are kept.
    pub rank: usize,
    /// All singular values, descending.
    pub sigma: Vec<f64>,
    /// The smallest (σⱼ − σⱼ₊₁)/σⱼ among the kept.
    pub min_gap: f64,
    pub route: Route,
    /// What the cut leaves out, as a share of the norm.
    pub error: f64,
    /// The Frobenius norm of what was decomposed.
    pub norm: f64,
}

impl Request {
    /// Checks everything that can be told without opening a file.
    pub fn check(&self) -> Result<()> {
        self.tolerance.check()?;
        if self.energy.is_some_and(|energy| !(energy > 0.0 && energy <= 1.0)) {
            return Err(Error::plan("the energy to be kept lies above 0 and is 1 at the most"));
        }
        self.modules.iter().try_for_each(|module| module.check(self))
    }

    pub fn rank_of(&self, module: &Module) -> Option<usize> {
        module.rank.or(self.rank).map(|rank| rank as usize)
    }
}

impl Module {
    fn check(&self, request: &Request) -> Result<()> {
        let wrong = |reason: String| Err(Error::tensor(&self.name, reason));
        if request.rank_of(self) == Some(0) {
            return wrong("a rank of 0 is asked for; it is 1 at the least".to_owned());
        }
        if self.out == 0 || self.in_features == 0 {
            return wrong(format!("a weight of {} × {} is empty", self.out, self.in_features));
        }
        for (index, term) in self.terms.iter().enumerate() {
            if !term.scale.is_finite() {
                return wrong(format!("the scale of term {index} is {}", term.scale));
            }
            for (factor, long) in [(term.a, self.in_features), (term.b, self.out)] {
                if !factor.place.dtype.is_float() {
                    return wrong(format!("a factor of dtype {}; factors are floating-point", factor.place.dtype));
                }
                if factor.place.file >= request.files.len() {
                    return wrong(format!("term {index} lies in a file that the request does not list"));
                }
                let bytes = term.rank.checked_mul(long).and_then(|n| factor.place.dtype.nbytes(n));
                if bytes.and_then(|bytes| factor.place.offset.checked_add(bytes)).is_none() {
                    return wrong(format!("a factor of {} × {long} has no size in bytes", term.rank));
                }
            }
        }
        Ok(())
    }

    /// Σ of the ranks.
    pub fn columns(&self) -> usize {
        self.terms.iter().map(|term| term.rank as usize).sum()
    }

    /// Bytes of all factors.
    pub fn stored_bytes(&self) -> u64 {
        let bytes = |factor: &Factor, long: u64| long * factor.place.dtype.size() as u64;
        self.terms.iter().map(|t| t.rank * (bytes(&t.a, self.in_features) + bytes(&t.b, self.out))).sum()
    }
}
