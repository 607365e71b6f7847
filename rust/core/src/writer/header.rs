//! The header of an output shard: known as soon as the plan is.

use std::collections::HashSet;
use std::ops::Range;

use serde_json::json;

use crate::error::{Error, Result};
use crate::plan::{Job, Plan};

/// Where the data section starts is a multiple of this: the format asks for 8, a cache line costs nothing.
const ALIGN: usize = 64;

/// What readers of the format accept at most.
pub(super) const MAX_HEADER: usize = 100_000_000;

/// Bytes of the shard's data section that the job's tensor takes.
pub fn job_bytes(job: &Job) -> Result<Range<u64>> {
    let elements = job.shape.iter().try_fold(1u64, |product, &side| product.checked_mul(side));
    let end = elements.and_then(|n| job.dtype.nbytes(n)).and_then(|bytes| job.offset.checked_add(bytes));
    match end {
        Some(end) => Ok(job.offset..end),
        None => Err(Error::plan(format!(
            "tensor {:?} of shape {:?} and dtype {} at {} has no size in whole bytes",
            job.name, job.shape, job.dtype, job.offset
        ))),
    }
}

/// The bytes in front of the shard's data section: the header's length and the header, padded with spaces.
///
/// Refuses a plan whose tensors do not fill the shard exactly, from its first byte to its last.
pub fn shard_header(plan: &Plan, shard: usize) -> Result<Vec<u8>> {
    let Some(described) = plan.shards.get(shard) else {
        return Err(Error::plan(format!("shard {shard} is not one of {}", plan.shards.len())));
    };
    let mut text = String::from(r#"{"__metadata__":{"format":"pt"}"#);
    let mut names = HashSet::new();
    let mut end = 0;
    for job in plan.jobs.iter().filter(|job| job.shard == shard) {
        let bytes = job_bytes(job)?;
        if bytes.start != end {
            let what = format!("tensor {:?} begins at {} of shard {:?}", job.name, bytes.start, described.name);
            return Err(Error::plan(format!("{what}, the one before it ends at {end}")));
        }
        if job.name == "__metadata__" || !names.insert(job.name.as_str()) {
            return Err(Error::plan(format!("shard {:?} has two entries named {:?}", described.name, job.name)));
        }
        end = bytes.end;
        // Spelled out, not a JSON object: the order of an object's keys depends on how serde_json was built.
        let (name, dtype, shape) = (json!(job.name), job.dtype.name(), json!(job.shape));
        let offsets = json!([bytes.start, bytes.end]);
        text.push_str(&format!(r#",{name}:{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#));
    }
    if end != described.data_bytes {
        let what = format!("shard {:?} has {} bytes of data", described.name, described.data_bytes);
        return Err(Error::plan(format!("{what}, its tensors take {end}")));
    }
    text.push('}');
    let padded = (8 + text.len()).next_multiple_of(ALIGN) - 8;
    if padded > MAX_HEADER {
        let what = format!("the header of shard {:?} would take {padded} bytes", described.name);
        return Err(Error::plan(format!("{what}, readers accept {MAX_HEADER}: choose smaller shards")));
    }
    let mut header = (padded as u64).to_le_bytes().to_vec();
    header.extend_from_slice(text.as_bytes());
    header.resize(8 + padded, b' ');
    Ok(header)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn plan(jobs: &Value, data_bytes: u64) -> Plan {
        let shards = json!([{"name": "model.safetensors", "data_bytes": data_bytes}]);
        serde_json::from_value(json!({
            "format": "carrick-plan", "version": 1, "seed": 0, "files": [], "shards": shards, "jobs": jobs,
        }))
        .unwrap()
    }

    fn job(name: &str, shape: &[u64], dtype: &str, offset: u64) -> Value {
        json!({"name": name, "shape": shape, "dtype": dtype, "shard": 0, "offset": offset,
               "method": {"name": "copy"}, "inputs": []})
    }

    #[test]
    fn bytes_of_a_small_header() {
        let jobs = json!([job("b\"\n", &[2, 3], "F32", 0), job("a", &[], "I64", 24), job("z", &[0], "BF16", 32)]);
        let header = shard_header(&plan(&jobs, 32), 0).unwrap();
        let text = concat!(
            r#"{"__metadata__":{"format":"pt"},"#,
            r#""b\"\n":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"#,
            r#""a":{"dtype":"I64","shape":[],"data_offsets":[24,32]},"#,
            r#""z":{"dtype":"BF16","shape":[0],"data_offsets":[32,32]}}"#,
        );
        assert_eq!(header.len() % 64, 0);
        assert_eq!(header[..8], (header.len() as u64 - 8).to_le_bytes());
        assert_eq!(std::str::from_utf8(&header[8..]).unwrap().trim_end_matches(' '), text);
        assert!(header.len() < 8 + text.len() + 64);
    }

    #[test]
    fn refuses_what_does_not_fill_the_shard() {
        let big = u64::MAX / 2;
        for (what, jobs, data_bytes) in [
            ("hole", json!([job("a", &[2], "F32", 0), job("b", &[2], "F32", 12)]), 20),
            ("overlap", json!([job("a", &[2], "F32", 0), job("b", &[2], "F32", 4)]), 12),
            ("late start", json!([job("a", &[2], "F32", 4)]), 12),
            ("too short", json!([job("a", &[2], "F32", 0)]), 12),
            ("too long", json!([job("a", &[2], "F32", 0)]), 4),
            ("same name", json!([job("a", &[1], "F32", 0), job("a", &[1], "F32", 4)]), 8),
            ("reserved name", json!([job("__metadata__", &[1], "F32", 0)]), 4),
            ("overflow", json!([job("a", &[big, 4], "F32", 0)]), 4),
            ("half a byte", json!([job("a", &[3], "F4", 0)]), 2),
        ] {
            assert!(matches!(shard_header(&plan(&jobs, data_bytes), 0), Err(Error::Plan { .. })), "{what}");
        }
        assert!(matches!(shard_header(&plan(&json!([]), 0), 1), Err(Error::Plan { .. })));
        assert!(shard_header(&plan(&json!([]), 0), 0).is_ok());
    }
}
