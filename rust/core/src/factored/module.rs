//! One module: from its stored factors to the small matrices that its new factors are made with.

use super::cut::Cut;
use super::request::{Kind, Module, ModuleReport, Precision, Request};
use super::spectrum::{Problem, Spectrum};
use super::stack::{Part, Scratch, Stack};
use crate::error::{Error, Result};
use crate::kernels::level::Level;
use crate::linalg::Mat;
use crate::source::InputFile;

/// A decomposed module.
pub struct Decomposed {
    pub report: ModuleReport,
    pub pairs: Vec<Pair>,
}

/// What the factors of one term are multiplied by.
pub struct Pair {
    pub p: Mat<f64>,
    pub q: Mat<f64>,
}

pub fn decompose(
    request: &Request,
    module: &Module,
    files: &[InputFile],
    scratch: &mut Scratch,
) -> Result<Decomposed> {
    let problem = problem(request, module, files);
    let quick = match request.precision {
        Precision::Float32 => problem.by_gram(scratch)?,
        Precision::Float64 => None,
    };
    let mut spectrum = match quick {
        Some(spectrum) => spectrum,
        None => problem.by_householder(scratch)?,
    };
    point_up(&mut spectrum, &problem);
    let pairs = pairs(request.kind, module, &spectrum);
    let all_finite = |m: &Mat<f64>| (0..m.ncols()).all(|column| m.col(column).iter().all(|x| x.is_finite()));
    if !pairs.iter().all(|pair| all_finite(&pair.p) && all_finite(&pair.q)) {
        return Err(Error::tensor(&module.name, "its factors are too small or too large for float64"));
    }
    Ok(Decomposed { report: report(module, &spectrum), pairs })
}

/// The module as X·Y.
fn problem<'a>(request: &Request, module: &'a Module, files: &'a [InputFile]) -> Problem<'a> {
    let level = Level::detect();
    let stack =
        |long: u64, parts: Vec<Part>| Stack { level, module: &module.name, files, long: long as usize, parts };
    let b = |index: usize| {
        let term = &module.terms[index];
        Part { factor: term.b, rank: term.rank as usize, by_column: term.b.transposed }
    };
    let a = |index: usize| {
        let term = &module.terms[index];
        Part { factor: term.a, rank: term.rank as usize, by_column: !term.a.transposed }
    };
    let terms = 0..module.terms.len();
    let (out, in_features) = (module.out, module.in_features);
    let (x, y) = match request.kind {
        Kind::Sum => (stack(out, terms.clone().map(b).collect()), vec![stack(in_features, terms.map(a).collect())]),
        Kind::JointColumns => (
            stack(out, terms.clone().map(b).collect()),
            terms.map(|index| stack(in_features, vec![a(index)])).collect(),
        ),
        Kind::JointRows => (
            stack(in_features, terms.clone().map(a).collect()),
            terms.map(|index| stack(out, vec![b(index)])).collect(),
        ),
    };
    let scales = module.terms.iter().flat_map(|term| vec![term.scale; term.rank as usize]).collect();
    let cut = Cut { tolerance: request.tolerance, rank: request.rank_of(module), energy: request.energy };
    Problem { x, y, scales, cut }
}

/// Turns every column of U so that its sum is not negative; a sum that is rounding turns nothing.
fn point_up(spectrum: &mut Spectrum, problem: &Problem<'_>) {
    let rounding = 1e-12 * (problem.x.long as f64).sqrt();
    for direction in 0..spectrum.selection.kept {
        let weights = spectrum.sums.iter().zip(&problem.scales).map(|(sum, scale)| sum * scale);
        let sum: f64 = weights.zip(spectrum.basis.col(direction).iter()).map(|(weight, x)| weight * x).sum();
        if sum < -rounding {
            spectrum.basis.col_mut(direction).iter_mut().for_each(|x| *x = -*x);
            spectrum.coordinates.row_mut(direction).iter_mut().for_each(|x| *x = -*x);
        }
    }
}

fn pairs(kind: Kind, module: &Module, spectrum: &Spectrum) -> Vec<Pair> {
    let Spectrum { basis, coordinates, sigma, .. } = spectrum;
    let kept = spectrum.selection.kept;
    let mut first = 0;
    let mut pair = |rank: usize, scale: f64| {
        let begin = first;
        first += rank;
        let p = |i: usize, k: usize| scale * basis[(begin + i, k)];
        let q = |k: usize, i: usize| coordinates[(k, begin + i)];
        match kind {
            // The singular values go to the left, as is the custom.
            Kind::Sum => Pair {
                p: Mat::from_fn(rank, kept, |i, k| p(i, k) * sigma[k]),
                q: Mat::from_fn(kept, rank, |k, i| q(k, i) / sigma[k]),
            },
            Kind::JointColumns => Pair { p: Mat::from_fn(rank, kept, p), q: Mat::from_fn(kept, rank, q) },
            Kind::JointRows => {
                Pair { p: Mat::from_fn(kept, rank, |k, i| p(i, k)), q: Mat::from_fn(rank, kept, |i, k| q(k, i)) }
            }
        }
    };
    module.terms.iter().map(|term| pair(term.rank as usize, term.scale)).collect()
}

fn report(module: &Module, spectrum: &Spectrum) -> ModuleReport {
    let (sigma, selection) = (&spectrum.sigma, spectrum.selection);
    let squares = |values: &[f64]| values.iter().rev().map(|value| value * value).sum::<f64>();
    let gaps = sigma[..selection.kept].windows(2).map(|pair| (pair[0] - pair[1]) / pair[0]);
    let error = if selection.kept < selection.numerical {
        (squares(&sigma[selection.kept..]) / squares(sigma)).sqrt()
    } else {
        0.0
    };
    ModuleReport {
        name: module.name.clone(),
        rank: selection.kept,
        sigma: sigma.clone(),
        min_gap: gaps.fold(1.0, f64::min),
        route: spectrum.route,
        error,
        norm: squares(sigma).sqrt(),
    }
}
