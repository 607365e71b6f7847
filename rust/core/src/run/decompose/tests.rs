//! Requests on files of the test's own, against plain products.

use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::dtype::Dtype;
use crate::linalg::Mat;
use crate::source::{Bytes, ReadMode, read_header};

/// A term as it is stored: out × rank, rank × in.
struct Stored {
    b: Mat<f32>,
    a: Mat<f32>,
    scale: f64,
}

fn matrix(rows: usize, columns: usize, seed: &mut u32) -> Mat<f32> {
    Mat::from_fn(rows, columns, |_, _| {
        *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (*seed >> 8) as f32 / 8_388_608.0 - 1.0
    })
}

fn wide(m: &Mat<f32>) -> Mat<f64> {
    Mat::from_fn(m.nrows(), m.ncols(), |i, j| f64::from(m[(i, j)]))
}

/// One file with the factors of all terms, and the request for them as one module.
fn request(folder: &Path, terms: &[Stored], options: &Value) -> Request {
    let (mut data, mut header, mut places) = (Vec::new(), serde_json::Map::new(), Vec::new());
    for (index, term) in terms.iter().enumerate() {
        for (name, m) in [("a", &term.a), ("b", &term.b)] {
            let begin = data.len();
            for i in 0..m.nrows() {
                (0..m.ncols()).for_each(|j| data.extend_from_slice(&m[(i, j)].to_le_bytes()));
            }
            let entry = json!({"dtype": "F32", "shape": [m.nrows(), m.ncols()], "data_offsets": [begin, data.len()]});
            header.insert(format!("{index}.{name}"), entry);
            places.push(json!({"file": 0, "offset": begin, "dtype": "F32"}));
        }
    }
    let text = Value::Object(header).to_string();
    let path = folder.join("in.safetensors");
    let parts = [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), &data];
    std::fs::write(&path, parts.concat()).unwrap();
    let terms_json: Vec<Value> = terms
        .iter()
        .zip(places.chunks(2))
        .map(|(t, place)| json!({"a": place[0], "b": place[1], "rank": t.a.nrows(), "scale": t.scale}))
        .collect();
    let module = json!({"name": "w", "out": terms[0].b.nrows(), "in": terms[0].a.ncols(), "terms": terms_json});
    let mut all = json!({"files": [read_header(&path).unwrap().record()], "modules": [module]});
    all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    serde_json::from_value(all).unwrap()
}

fn options(threads: usize, memory: u64) -> Options {
    Options { threads: Some(threads), memory: Some(memory), ..Options::default() }
}

/// P and Q of each term.
type Pairs = Vec<(Mat<f64>, Mat<f64>)>;

/// The report, and what was written.
fn run(folder: &Path, request: &Request) -> Result<(Report, Pairs)> {
    let out = folder.join("out.safetensors");
    let report = decompose(request, &out, &options(2, 1 << 30), &Hooks::default())?;
    let header = read_header(&out)?;
    let files = open_all(&[header.record()], ReadMode::Pread)?;
    let find = |name: String| {
        let tensor = header.tensors.iter().find(|tensor| tensor.name == name).unwrap();
        let mut buffer = Vec::new();
        let bytes = files[0].read(tensor.begin, (tensor.end - tensor.begin) as usize, &mut buffer).unwrap();
        let (rows, columns) = (tensor.shape[0] as usize, tensor.shape[1] as usize);
        let number = |index: usize| match tensor.dtype {
            Dtype::F32 => f64::from(f32::from_le_bytes(bytes[index * 4..][..4].try_into().unwrap())),
            _ => f64::from_le_bytes(bytes[index * 8..][..8].try_into().unwrap()),
        };
        Mat::from_fn(rows, columns, |i, j| number(i * columns + j))
    };
    let pairs = (0..request.modules[0].terms.len()).map(|i| (find(format!("0.{i}.p")), find(format!("0.{i}.q"))));
    Ok((report, pairs.collect()))
}

fn terms(out: usize, columns: usize, ranks: &[usize], mut seed: u32) -> Vec<Stored> {
    let one = |&rank: &usize| Stored {
        b: matrix(out, rank, &mut seed),
        a: matrix(rank, columns, &mut seed),
        scale: f64::from(rank as u32) - 1.5,
    };
    ranks.iter().map(one).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn the_two_sides_multiply_to_what_was_decomposed(
        out in 1usize..20, columns in 1usize..20, ranks in prop::collection::vec(1usize..6, 1..4), which in 0usize..3,
        exact in any::<bool>(), seed in any::<u32>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let terms = terms(out, columns, &ranks, seed);
        let precision = if exact { "float64" } else { "float32" };
        let kind = ["sum", "joint_columns", "joint_rows"][which];
        let request = request(folder.path(), &terms, &json!({"kind": kind, "precision": precision}));
        let (_, pairs) = run(folder.path(), &request).unwrap();
        let dense: Vec<Mat<f64>> =
            terms.iter().map(|t| faer::Scale(t.scale) * (wide(&t.b) * wide(&t.a))).collect();
        let sides = || pairs.iter().zip(&terms);
        let total = |parts: Vec<Mat<f64>>| parts.into_iter().reduce(|x, y| x + y).unwrap();
        let bound = if exact { 1e-9 } else { 1e-4 };
        let size = total(dense.iter().map(|d| Mat::from_fn(1, 1, |_, _| d.norm_l2())).collect())[(0, 0)];
        if which == 2 {
            let shared = total(sides().map(|((p, _), t)| p * wide(&t.a)).collect());
            for (((_, q), t), dense) in sides().zip(&dense) {
                prop_assert!((wide(&t.b) * q * &shared - dense).norm_l2() <= bound * size);
            }
            return Ok(());
        }
        let shared = total(sides().map(|((p, _), t)| wide(&t.b) * p).collect());
        let own = sides().map(|((_, q), t)| q * wide(&t.a));
        if which == 0 {
            prop_assert!((&shared * total(own.collect()) - total(dense)).norm_l2() <= bound * size);
        } else {
            for (own, dense) in own.zip(&dense) {
                prop_assert!((&shared * own - dense).norm_l2() <= bound * size);
            }
        }
    }
}

#[test]
fn a_cancelled_request_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let request = request(folder.path(), &terms(5, 4, &[2, 3], 1), &json!({"kind": "sum"}));
    let (hooks, out) = (Hooks::default(), folder.path().join("out.safetensors"));
    hooks.cancel();
    assert!(matches!(decompose(&request, &out, &options(1, 1 << 30), &hooks), Err(Error::Interrupted)));
    assert!(!out.exists());
    assert!(matches!(decompose(&request, &out, &options(1, 1 << 20), &hooks), Err(Error::Memory { .. })));
}

#[test]
fn progress_adds_up() {
    let folder = tempfile::tempdir().unwrap();
    let request = request(folder.path(), &terms(5, 4, &[2, 3], 1), &json!({"kind": "joint_rows"}));
    let hooks = Hooks::default();
    let report = decompose(&request, &folder.path().join("out.safetensors"), &options(3, 1 << 30), &hooks).unwrap();
    let now = hooks.progress();
    assert_eq!((now.tensors_done, now.tensors_total), (1, 1));
    assert_eq!((now.bytes_done, now.bytes_total), (5 * 9 * 4, 5 * 9 * 4));
    assert_eq!((report.threads, report.modules[0].rank), (1, 4));
}

#[test]
fn no_modules_make_an_empty_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut request = request(folder.path(), &terms(5, 4, &[2], 1), &json!({"kind": "sum"}));
    request.modules.clear();
    let out = folder.path().join("out.safetensors");
    assert!(decompose(&request, &out, &options(3, 1 << 30), &Hooks::default()).unwrap().modules.is_empty());
    assert!(read_header(&out).unwrap().tensors.is_empty());
}
