//! Decompositions of modules that are given by the factors of adapters, ΔW = scale·B·A.
//!
//! A sum of such terms, or all of them side by side, has a singular value decomposition whose vectors are combinations
//! of the factors' columns. What is computed here are those combinations, small matrices P and Q; the new factors,
//! Σ B·P and Σ Q·A, are products that the run makes while it writes them. See [`spectrum`] for the arithmetic.
//!
//! | kind | left factor | right factor of term i |
//! |---|---|---|
//! | sum | Σ Bᵢ·Pᵢ = U·Σ | Qᵢ·Aᵢ, which add up to Vᵀ |
//! | joint columns | Σ Bᵢ·Pᵢ = U | Qᵢ·Aᵢ = Σ·Vᵢᵀ |
//! | joint rows | Bᵢ·Qᵢ = Uᵢ·Σ of term i | Σ Pᵢ·Aᵢ = Vᵀ |

mod cut;
pub(crate) mod memory;
pub(crate) mod module;
mod request;
mod spectrum;
mod stack;

pub use request::{Kind, Module, ModuleReport, Precision, Report, Request, Route, Term};
pub(crate) use stack::Scratch;
