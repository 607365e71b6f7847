//! From the jobs of a plan to operations that can run.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::described::{Described, Factors};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::kernels::convert::Element;
use crate::kernels::level::Level;
use crate::kernels::select::Scan;
use crate::methods::columns::Columns;
use crate::methods::copy::Copy;
use crate::methods::measured::{Coefficients, Measured, Span};
use crate::methods::operation::{Operation, Origin, Stored, Tensor, Tiling};
use crate::methods::options::Options;
use crate::methods::steps::{Step, StepOperation};
use crate::methods::table::{Family, Method};
use crate::methods::task_vector::{Domain, Majority, Member, Recipe, TaskVector};
use crate::methods::weighted::Weighted;
use crate::methods::{self, model_stock, nuslerp, slerp};
use crate::plan::{Data, Description, Input, Job};
use crate::source::Bytes;

/// How the engine cuts and computes.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub level: Level,
    pub seed: u64,
    /// Elements of a tile, a multiple of [`crate::kernels::reduce::LEAF`].
    pub tile: u64,
    /// Keys that one search for a threshold may list.
    pub max_listed: usize,
    /// Bytes that may be held of votes that are counted early.
    pub max_held: usize,
}

/// An operation and what is needed to schedule it.
pub struct Work<'a> {
    pub operation: Box<dyn Operation + 'a>,
    pub elements: u64,
    pub row: u64,
    /// Bytes of an element of the output.
    pub size: usize,
    /// Bytes that an element of all inputs together takes in their files.
    pub bytes_in: u64,
    /// Bytes of the factors that inputs are computed from: a pass reads them once.
    pub factor_bytes: u64,
    /// Bytes of an element of all inputs, what is computed counted as if it were read: how far a run is.
    pub effort: u64,
}

impl Work<'_> {
    /// Elements of one tile of a pass; zero-element tensors have one empty tile.
    pub fn tile(&self, tiling: Tiling, tile: u64) -> u64 {
        match tiling {
            Tiling::Flat => tile,
            Tiling::Rows => {
                let leaf = tiling.leaf(self.row);
                (tile / leaf).max(1) * leaf
            }
            Tiling::Runs(elements) => elements.max(1),
            Tiling::Whole => self.elements.max(1),
        }
    }

    /// Measuring passes that read all inputs.
    pub fn measures(&self) -> u64 {
        (0..self.operation.measures().len()).filter(|&pass| self.operation.reads_all(pass)).count() as u64
    }
}

/// What jobs read: the data sections of the plan's files, and the factors of what is computed from them.
pub struct Sources<'a> {
    pub files: Arc<[&'a dyn Bytes]>,
    pub factors: &'a RunFactors,
}

/// The unpacked factors of a run, in the two types of the arithmetic.
pub struct RunFactors {
    singles: Factors<f32>,
    doubles: Factors<f64>,
}

impl RunFactors {
    /// `capacity` in bytes.
    pub fn new(capacity: u64) -> Self {
        Self { singles: Factors::new(capacity), doubles: Factors::new(capacity) }
    }
}

/// Makes the operations of all jobs.
pub fn compile<'a>(jobs: &'a [Job], sources: &Sources<'a>, settings: Settings) -> Result<Vec<Work<'a>>> {
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut compiled: Vec<Option<Box<dyn Operation + 'a>>> = Vec::with_capacity(jobs.len());
    for (index, job) in jobs.iter().enumerate() {
        let method = methods::find(&job.method.name);
        if method.is_some_and(|method| method.family == Family::TaskVector) {
            groups.entry(&job.method.name).or_default().push(index);
            compiled.push(None);
        } else {
            compiled.push(Some(single(job, method, sources, settings)?));
        }
    }
    for (name, members) in groups {
        let method = methods::find(name).ok_or_else(|| Error::plan(format!("unknown method {name:?}")))?;
        let wide = members.iter().any(|&job| has_doubles(&jobs[job]));
        let model_wide = Recipe::parse(method, &jobs[members[0]])?.whole_model_trim;
        // Tensors that share a trim share a precision; otherwise each has its own.
        let majority = Arc::new(Majority::new(members.len()));
        let (doubles, singles): (Vec<_>, Vec<_>) =
            members.into_iter().partition(|&job| if model_wide { wide } else { has_doubles(&jobs[job]) });
        task_vectors::<f32>(method, jobs, &singles, sources, settings, &majority, &mut compiled)?;
        task_vectors::<f64>(method, jobs, &doubles, sources, settings, &majority, &mut compiled)?;
    }
    let works = jobs.iter().zip(compiled).map(|(job, operation)| {
        let operation = operation.ok_or_else(|| Error::plan(format!("{}: no operation", job.name)))?;
        let bytes_in = job.inputs.iter().map(Input::stored_size).sum();
        let factor_bytes =
            job.inputs.iter().filter_map(Input::description).map(Description::stored_factor_bytes).sum();
        let effort = job.inputs.iter().map(|input| input.dtype().size() as u64).sum();
        Ok(Work {
            operation,
            elements: units(job),
            row: row(job),
            size: job.dtype.size(),
            bytes_in,
            factor_bytes,
            effort,
        })
    });
    works.collect()
}

/// Elements, or bytes where elements are smaller than a byte: such tensors are only ever copied.
fn units(job: &Job) -> u64 {
    if job.dtype.bits() < 8 { job.elements() * job.dtype.bits() / 8 } else { job.elements() }
}

/// Elements of a row; a tensor without elements has no rows, however long its header says they are.
fn row(job: &Job) -> u64 {
    if job.elements() == 0 { 1 } else { job.shape.last().copied().unwrap_or(1) }
}

fn has_doubles(job: &Job) -> bool {
    job.inputs.iter().any(|input| input.dtype() == Dtype::F64)
}

fn tensor<'a>(job: &'a Job, sources: &Sources<'a>, level: Level) -> Result<Tensor<'a>> {
    let (name, files, factors) = (&job.name, &sources.files, sources.factors);
    let stored = |input: &'a Input| match &input.data {
        Data::Stored(place) => {
            let bytes = *files
                .get(place.file)
                .ok_or_else(|| Error::plan(format!("{name}: there is no file {}", place.file)))?;
            Ok(Stored { bytes: Origin::File(bytes), begin: place.offset, dtype: place.dtype })
        }
        Data::Described { described } => {
            let bytes: Arc<dyn Bytes + Send> = if described.dtype == Dtype::F64 {
                Arc::new(Described::new(name, described, level, Arc::clone(files), &factors.doubles))
            } else {
                Arc::new(Described::new(name, described, level, Arc::clone(files), &factors.singles))
            };
            Ok(Stored { bytes: Origin::Computed(bytes), begin: 0, dtype: described.dtype })
        }
    };
    Ok(Tensor {
        name: &job.name,
        elements: units(job),
        row: row(job),
        dtype: job.dtype,
        inputs: job.inputs.iter().map(stored).collect::<Result<_>>()?,
    })
}

fn single<'a>(
    job: &'a Job,
    method: Option<&'static Method>,
    sources: &Sources<'a>,
    settings: Settings,
) -> Result<Box<dyn Operation + 'a>> {
    let tensor = tensor(job, sources, settings.level)?;
    let copies = matches!(job.method.name.as_str(), "copy" | "copy_equal");
    let same = tensor.inputs.iter().all(|input| input.dtype == job.dtype);
    let floats = job.dtype.is_float() && tensor.inputs.iter().all(|input| input.dtype.is_float());
    if tensor.inputs.is_empty() || !(if copies { same } else { floats }) {
        let types = job.inputs.iter().map(|input| input.dtype().name()).collect::<Vec<_>>().join(", ");
        return Err(Error::plan(format!("{}: cannot {} {types} to {}", job.name, job.method.name, job.dtype)));
    }
    match (job.method.name.as_str(), method) {
        ("copy" | "copy_equal", _) => Ok(Box::new(Copy { tensor })),
        ("cast", _) => float(job, tensor, None, settings),
        ("elect_sign" | "disjoint_mean", _) => float(job, tensor, None, settings),
        (name, Some(method)) if method.family == Family::Factored => Err(Error::plan(format!(
            "{}: {name} merges decompositions; a plan names the merge of what they give",
            job.name
        ))),
        (_, Some(method)) => float(job, tensor, Some(method), settings),
        (name, None) => Err(Error::plan(format!("{}: unknown method {name:?}", job.name))),
    }
}

fn float<'a>(
    job: &'a Job,
    tensor: Tensor<'a>,
    method: Option<&'static Method>,
    settings: Settings,
) -> Result<Box<dyn Operation + 'a>> {
    if has_doubles(job) {
        element::<f64>(job, tensor, method, settings)
    } else {
        element::<f32>(job, tensor, method, settings)
    }
}

fn element<'a, R: Element>(
    job: &'a Job,
    tensor: Tensor<'a>,
    method: Option<&'static Method>,
    settings: Settings,
) -> Result<Box<dyn Operation + 'a>> {
    if let Some(step) = step::<R>(job)? {
        return Ok(Box::new(StepOperation { level: settings.level, tensor, step }));
    }
    match method {
        Some(method) if method.family == Family::Measured => {
            let (has_base, span, coefficients) = measured(job, method)?;
            Ok(Box::new(Measured::<R>::new(settings.level, tensor, has_base, span, coefficients)))
        }
        _ => Ok(Box::new(Weighted::<R>::new(settings.level, tensor, method, job)?)),
    }
}

/// The single steps that only arrays have.
fn step<R: Element>(job: &Job) -> Result<Option<Step<R>>> {
    let (options, vectors) =
        (&job.method.options, job.inputs.len() - usize::from(job.method.name == "disjoint_mean"));
    let numbers = |name: &str| -> Result<Vec<R>> {
        let list = options.get(name).and_then(serde_json::Value::as_array).filter(|list| list.len() == vectors);
        let list = list.ok_or_else(|| Error::plan(format!("{} needs {vectors} {name}", job.method.name)))?;
        Ok(list.iter().map(|number| R::of(number.as_f64().unwrap_or(f64::NAN))).collect())
    };
    Ok(match job.method.name.as_str() {
        "elect_sign" => Some(Step::ElectSign {
            weights: numbers("weights")?,
            by_count: options.get("vote").and_then(serde_json::Value::as_str) == Some("frequency"),
            zero: if options.get("zero_vote").and_then(serde_json::Value::as_str) == Some("none") {
                R::ZERO
            } else {
                R::ONE
            },
        }),
        "disjoint_mean" => Some(Step::DisjointMean { weights: numbers("weights")?, shares: numbers("shares")? }),
        _ => None,
    })
}

/// Which vectors a measured method takes, and what it makes of their dot products.
fn measured(job: &Job, method: &'static Method) -> Result<(bool, Span, Coefficients)> {
    let options = Options::new(method, &job.method.options, false)?;
    let based = job.inputs.first().is_some_and(|input| input.base);
    let vectors = job.inputs.len() - usize::from(based);
    let wrong = || Error::plan(format!("{}: {} inputs do not fit {}", job.name, job.inputs.len(), method.name));
    let flat = job.shape.len() < 2;
    match method.name {
        "slerp" if job.inputs.len() == 2 => {
            let t = options.number("t")?;
            Ok((false, Span::Tensor, Box::new(move |dots| slerp::coefficients(dots, t))))
        }
        "nuslerp" if vectors == 2 => {
            let weight = |input: &Input| Options::new(method, &input.parameters, true)?.number("weight");
            let mut weights = [0.0; 2];
            for (weight_of, input) in weights.iter_mut().zip(job.inputs.iter().filter(|input| !input.base)) {
                *weight_of = weight(input)?;
            }
            let span = match (options.switch("nuslerp_flatten")?, options.switch("nuslerp_row_wise")?) {
                (true, _) => Span::Tensor,
                _ if flat => Span::Tensor,
                (false, false) => Span::Row,
                (false, true) => Columns::of(&job.shape).map_or(Span::Tensor, Span::Columns),
            };
            Ok((based, span, Box::new(move |dots| nuslerp::coefficients(dots, weights))))
        }
        "model_stock" if based && vectors >= 2 => {
            let span = if options.switch("filter_wise")? && !flat { Span::Row } else { Span::Tensor };
            Ok((true, span, Box::new(model_stock::coefficients)))
        }
        _ => Err(wrong()),
    }
}

/// Task-vector operations of one method and precision. Those whose trim or majority ranges over the model share it.
fn task_vectors<'a, R: Scan + Element>(
    method: &'static Method,
    jobs: &'a [Job],
    members: &[usize],
    sources: &Sources<'a>,
    settings: Settings,
    majority: &Arc<Majority>,
    compiled: &mut [Option<Box<dyn Operation + 'a>>],
) -> Result<()> {
    let mut by_name = members.to_vec();
    by_name.sort_by(|&a, &b| jobs[a].name.as_bytes().cmp(jobs[b].name.as_bytes()));
    let mut tensors: Vec<Arc<Tensor<'a>>> = Vec::new();
    let mut recipes: Vec<Arc<Recipe>> = Vec::new();
    for &index in &by_name {
        let job = &jobs[index];
        let made = tensor(job, sources, settings.level)?;
        if !job.dtype.is_float() || made.inputs.iter().any(|input| !input.dtype.is_float()) {
            return Err(Error::plan(format!("{}: {} needs floating-point tensors", job.name, method.name)));
        }
        tensors.push(Arc::new(made));
        recipes.push(Arc::new(Recipe::parse(method, job)?));
    }
    let Some(first) = recipes.first() else { return Ok(()) };
    let domain = |places: Range<usize>| {
        let recipe = &recipes[places.start];
        let member =
            |place: usize| Member { tensor: Arc::clone(&tensors[place]), recipe: Arc::clone(&recipes[place]) };
        let members = places.map(member).collect();
        let Settings { level, tile, max_listed, max_held, .. } = settings;
        Domain::<R>::new(level, tile, max_listed, max_held, recipe, members).map(Arc::new)
    };
    let shared = if first.whole_model_trim {
        let odd = |recipe: &Arc<Recipe>| first.differs_in(recipe);
        if let Some((tensor, what)) = tensors.iter().zip(&recipes).find_map(|(t, recipe)| Some((t, odd(recipe)?))) {
            let reason = format!("its {what} differs: a trim over the whole model has one for each model");
            return Err(Error::tensor(tensor.name, reason));
        }
        Some(domain(0..tensors.len())?)
    } else {
        None
    };
    for (place, &index) in by_name.iter().enumerate() {
        let (tensor, recipe) = (Arc::clone(&tensors[place]), Arc::clone(&recipes[place]));
        let (domain, member) = match &shared {
            Some(domain) => (Arc::clone(domain), place),
            None => (domain(place..place + 1)?, 0),
        };
        let operation =
            TaskVector::new(settings.level, settings.seed, tensor, recipe, domain, member, Arc::clone(majority));
        compiled[index] = Some(Box::new(operation));
    }
    Ok(())
}
