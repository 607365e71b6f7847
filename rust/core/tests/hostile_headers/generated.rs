//! Headers made by hand from random tensors, whole and damaged.

use std::collections::BTreeMap;

use carrick_core::dtype::Dtype;
use carrick_core::error::Error;
use carrick_core::source::TensorInfo;
use proptest::prelude::*;

use crate::{assert_consistent, prefixed, read_bytes};

/// A file and what its header must come out as.
#[derive(Clone, Debug)]
struct Case {
    bytes: Vec<u8>,
    tensors: Vec<TensorInfo>,
    metadata: Option<BTreeMap<String, String>>,
}

/// The texture of the JSON: what must not matter.
#[derive(Clone, Debug)]
struct Spelling {
    /// Which characters are escaped although they need not be.
    escapes: u32,
    rotation: usize,
    padding: usize,
}

fn spelling() -> impl Strategy<Value = Spelling> {
    (any::<u32>(), 0..13usize, 0..20usize).prop_map(|(escapes, rotation, padding)| Spelling {
        escapes,
        rotation,
        padding,
    })
}

fn dtype_and_shape() -> impl Strategy<Value = (Dtype, Vec<u64>)> {
    (proptest::sample::select(Dtype::ALL), prop::collection::vec(0u64..5, 0..4)).prop_map(|(dtype, mut shape)| {
        if dtype.bits() < 8 {
            shape.push(8);
        }
        (dtype, shape)
    })
}

fn case() -> impl Strategy<Value = Case> {
    let name = prop_oneof!["[a-z.]{0,20}", any::<String>()].prop_filter("reserved", |name| name != "__metadata__");
    let tensors = prop::collection::btree_map(name, dtype_and_shape(), 0..12)
        .prop_map(|tensors| tensors.into_iter().collect::<Vec<_>>())
        .prop_shuffle();
    let metadata = prop::option::of(prop::collection::btree_map(any::<String>(), any::<String>(), 0..4));
    (tensors, metadata, spelling()).prop_map(|(tensors, metadata, spelling)| {
        let mut end = 0;
        let mut tensors: Vec<_> = tensors
            .into_iter()
            .map(|(name, (dtype, shape))| {
                let begin = end;
                end += shape.iter().product::<u64>() * dtype.bits() / 8;
                TensorInfo { name, dtype, shape, begin, end }
            })
            .collect();
        let bytes = prefixed(json(&tensors, metadata.as_ref(), &spelling).as_bytes(), &vec![7; end as usize]);
        tensors.sort_by(|a, b| (a.begin, a.end, &a.name).cmp(&(b.begin, b.end, &b.name)));
        Case { bytes, tensors, metadata }
    })
}

fn json(tensors: &[TensorInfo], metadata: Option<&BTreeMap<String, String>>, spelling: &Spelling) -> String {
    let quoted = |text: &str| quoted(text, spelling.escapes);
    let mut entries: Vec<_> = tensors
        .iter()
        .map(|TensorInfo { name, dtype, shape, begin, end }| {
            let name = quoted(name);
            format!(r#"{name}: {{"data_offsets":[{begin}, {end}],"dtype":"{dtype}","shape":{shape:?}}}"#)
        })
        .collect();
    if let Some(metadata) = metadata {
        let pairs: Vec<_> = metadata.iter().map(|(key, value)| quoted(key) + ":" + &quoted(value)).collect();
        entries.push(format!("\"__metadata__\":{{{}}}", pairs.join(",")));
    }
    let by = spelling.rotation % entries.len().max(1);
    entries.rotate_left(by);
    format!("{{{}}}{}", entries.join(","), " ".repeat(spelling.padding))
}

fn quoted(text: &str, escapes: u32) -> String {
    let mut json = String::from("\"");
    for c in text.chars() {
        if c < ' ' || c == '"' || c == '\\' || escapes >> (c as u32 % 32) & 1 == 1 {
            json.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            json.push(c);
        }
    }
    json + "\""
}

proptest! {
    // The seeds of failures are printed; a file of them beside an integration test is not found again.
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_good_file_is_read_as_it_was_meant(case in case()) {
        let header = read_bytes("model.safetensors", &case.bytes).unwrap();
        assert_consistent(&header);
        prop_assert_eq!(header.size, case.bytes.len() as u64);
        prop_assert_eq!(header.tensors, case.tensors);
        prop_assert_eq!(header.metadata, case.metadata);
    }

    #[test]
    fn a_damaged_file_is_refused_or_still_consistent(
        case in case(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
        keep_json in any::<bool>(),
    ) {
        let mut bytes = case.bytes;
        let header_end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        for (at, value) in changes {
            // A digit for a digit keeps the JSON whole and makes the numbers wrong.
            let digits: Vec<usize> = (8..header_end).filter(|&at| bytes[at].is_ascii_digit()).collect();
            if keep_json && !digits.is_empty() {
                bytes[digits[at.index(digits.len())]] = b'0' + value % 10;
            } else {
                bytes[at.index(header_end)] = value;
            }
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        match read_bytes("model.safetensors", &bytes) {
            Ok(header) => assert_consistent(&header),
            Err(Error::Format { reason, .. }) => {
                prop_assert!(!reason.contains(char::is_control) && reason.len() < 5000, "{:?}", reason);
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}
