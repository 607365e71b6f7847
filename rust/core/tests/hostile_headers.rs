//! Headers that lie: whatever the file holds, the answer is a header that can be relied on, or an error that says why.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::Path;

use carrick_core::error::Error;
use carrick_core::source::{Header, MAX_RANK, TensorInfo, read_header};

#[path = "hostile_headers/generated.rs"]
mod generated;
#[path = "hostile_headers/memory.rs"]
mod memory;

fn prefixed(json: &[u8], data: &[u8]) -> Vec<u8> {
    [&(json.len() as u64).to_le_bytes(), json, data].concat()
}

fn read_bytes(name: &str, bytes: &[u8]) -> Result<Header, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    read_header(&path)
}

fn read(json: &str, data_bytes: usize) -> Result<Header, Error> {
    read_bytes("model.safetensors", &prefixed(json.as_bytes(), &vec![0; data_bytes]))
}

/// The file is refused as malformed, in one short line that has all the words.
#[track_caller]
fn refused(result: Result<Header, Error>, words: &[&str]) {
    let error = result.expect_err("the file was taken");
    assert!(matches!(error, Error::Format { .. }), "not a format error: {error}");
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
    assert!(!text.contains(char::is_control) && text.chars().count() < 1200, "not one short line: {text:?}");
}

/// What each header that was taken must be.
fn assert_consistent(header: &Header) {
    let mut covered = 0;
    let mut names = HashSet::new();
    for TensorInfo { name, dtype, shape, begin, end } in &header.tensors {
        assert!(names.insert(name), "{name:?} twice");
        assert_eq!(*begin, covered, "a hole or an overlap before {name:?}");
        let elements: u128 = shape.iter().map(|&size| u128::from(size)).product();
        assert_eq!(u128::from(end - begin) * 8, elements * u128::from(dtype.bits()), "the size of {name:?}");
        covered = *end;
    }
    assert_eq!(header.data_start + covered, header.size);
}

#[test]
fn lengths_that_cannot_be() {
    let file = |bytes: &[u8]| read_bytes("model.safetensors", bytes);
    refused(file(b""), &["0 bytes", "fewer than the 8", "fetch or save"]);
    refused(file(b"\x10\0\0\0\0\0\0"), &["7 bytes", "fewer than the 8"]);
    refused(file(&[0; 8]), &["not a JSON object"]);
    refused(file(&prefixed(b"", b"{}")), &["not a JSON object"]);
    refused(file(&100_000_001u64.to_le_bytes()), &["100000001", "the format allows 100000000"]);
    refused(file(&u64::MAX.to_le_bytes()), &["the format allows"]);
    refused(file(b"\x40\0\0\0\0\0\0\0{}"), &["64 bytes", "the file, which has 10 bytes", "truncated"]);
    refused(file(b"\x03\0\0\0\0\0\0\0{}"), &["truncated"]);
}

#[test]
fn a_length_just_over_the_limit_in_a_file_that_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sparse.safetensors");
    fs::write(&path, [&100_000_001u64.to_le_bytes()[..], b"{"].concat()).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(200_000_000).unwrap();
    refused(read_header(&path), &["the format allows"]);
}

#[test]
fn json_that_is_no_header() {
    let file = |json: &[u8]| read_bytes("model.safetensors", &prefixed(json, b""));
    refused(file(b"[1, 2]"), &["not a JSON object"]);
    refused(file(b"  {}"), &["not a JSON object"]);
    refused(file(b"{\"a\xff\": 1}"), &["not UTF-8", "byte 11 of the file"]);
    refused(file(b"{"), &["bad header", "EOF"]);
    refused(file(b"{} {}"), &["bad header", "trailing"]);
    refused(file(b"{}\0\0"), &["bad header", "trailing"]);
    refused(file(br#"{"a": 5}"#), &["\"a\"", "expected an object with dtype, shape and data_offsets", "column"]);
    refused(file(br#"{"a": ["U8", [0], [0, 0]]}"#), &["expected an object"]);
    refused(file(br#"{"\ud800": 5}"#), &["bad header"]);
}

#[test]
fn json_bombs() {
    let deep = |open: &str| open.repeat(300_000);
    refused(read(&format!("{{\"a\":{}", deep("[")), 0), &["\"a\"", "expected an object"]);
    refused(read(&deep("{\"a\":"), 0), &["unknown field `a`"]);
    refused(read(&format!("{{\"__metadata__\":{{\"a\":{}", deep("[")), 0), &["__metadata__", "expected a string"]);
    refused(read(&format!(r#"{{"a":{{"dtype":"U8","shape":{}"#, deep("[")), 0), &["invalid type: sequence"]);
    let ones = "1,".repeat(1_000_000);
    let wide = format!(r#"{{"a":{{"dtype":"U8","shape":[{ones}1],"data_offsets":[0,1]}}}}"#);
    refused(read(&wide, 1), &["\"a\"", "more than 64 dimensions"]);
    let nested = format!(r#"{{"a":{{"dtype":"U8","shape":[{}{}"#, "1,".repeat(MAX_RANK), deep("["));
    refused(read(&nested, 1), &["\"a\""]);
    let offsets = format!(r#"{{"a":{{"dtype":"U8","shape":[1],"data_offsets":[0,{ones}1]}}}}"#);
    refused(read(&offsets, 1), &["\"a\""]);
}

#[test]
fn a_shape_of_the_largest_rank_is_read() {
    let ones = ["1"; MAX_RANK].join(",");
    let header = read(&format!(r#"{{"a":{{"dtype":"U8","shape":[{ones}],"data_offsets":[0,1]}}}}"#), 1).unwrap();
    assert_eq!(header.tensors[0].shape, [1; MAX_RANK]);
}

#[test]
fn what_is_there_twice() {
    let entry = |at: u32| format!(r#"{{"dtype":"U8","shape":[1],"data_offsets":[{at},{}]}}"#, at + 1);
    let twice = format!(r#"{{"a":{},"b":{},"a":{}}}"#, entry(0), entry(1), entry(2));
    refused(read(&twice, 3), &["duplicate tensor \"a\""]);
    // The same name in another spelling.
    refused(read(&format!(r#"{{"a":{},"\u0061":{}}}"#, entry(0), entry(1)), 2), &["duplicate tensor \"a\""]);
    refused(read(r#"{"__metadata__":{},"__metadata__":{}}"#, 0), &["duplicate __metadata__"]);
    refused(read(r#"{"__metadata__":null,"__metadata__":{}}"#, 0), &["duplicate __metadata__"]);
    refused(read(r#"{"__metadata__":{"k":"1","k":"2"}}"#, 0), &["__metadata__", "duplicate key \"k\""]);
    for field in [r#""dtype":"U8""#, r#""shape":[1]"#, r#""data_offsets":[0,1]"#] {
        let json = format!(r#"{{"a":{{{field},"dtype":"U8","shape":[1],"data_offsets":[0,1]}}}}"#);
        refused(read(&json, 1), &["\"a\"", "duplicate field"]);
    }
}

#[test]
fn entries_that_cannot_be_understood() {
    let tensor = |fields: &str| read(&format!(r#"{{"w":{{{fields}}}}}"#), 4);
    refused(tensor(r#""dtype":"F7","shape":[4],"data_offsets":[0,4]"#), &["\"w\"", "unknown dtype \"F7\"", "BF16"]);
    refused(tensor(r#""dtype":"f32","shape":[1],"data_offsets":[0,4]"#), &["unknown dtype \"f32\""]);
    refused(tensor(r#""dtype":7,"shape":[1],"data_offsets":[0,4]"#), &["\"w\"", "expected the name of a dtype"]);
    refused(tensor(r#""shape":[1],"data_offsets":[0,4]"#), &["\"w\"", "missing field `dtype`"]);
    refused(tensor(r#""dtype":"U8","data_offsets":[0,4]"#), &["\"w\"", "missing field `shape`"]);
    refused(tensor(r#""dtype":"U8","shape":[4]"#), &["\"w\"", "missing field `data_offsets`"]);
    refused(tensor(r#""dtype":"U8","shape":[4],"data_offsets":[0,4],"strides":[1]"#), &["unknown field `strides`"]);
    for shape in ["[-4]", "[4.0]", "[\"4\"]", "[18446744073709551616]", "4", "null", "[[4]]"] {
        refused(tensor(&format!(r#""dtype":"U8","shape":{shape},"data_offsets":[0,4]"#)), &["\"w\"", "invalid "]);
    }
    for offsets in ["[0]", "[]", "[0,4,8]", "[-1,4]", "[0,1e3]", "{}", "4"] {
        refused(tensor(&format!(r#""dtype":"U8","shape":[4],"data_offsets":{offsets}"#)), &["\"w\""]);
    }
    refused(read(r#"{"__metadata__":{"k":1}}"#, 0), &["__metadata__", "expected a string"]);
    let entries = |count: usize| (0..count).map(|i| format!(r#""{i}":"""#)).collect::<Vec<_>>().join(",");
    assert_consistent(&read(&format!(r#"{{"__metadata__":{{{}}}}}"#, entries(1 << 16)), 0).unwrap());
    let many = format!(r#"{{"__metadata__":{{{}}}}}"#, entries((1 << 16) + 1));
    refused(read(&many, 0), &["__metadata__", "more than 65536 entries"]);
    refused(read(r#"{"__metadata__":[]}"#, 0), &["__metadata__", "expected an object of strings"]);
}

#[test]
fn sizes_that_do_not_fit() {
    let tensor = |dtype: &str, shape: &str, begin: u64, end: u64| {
        let json = format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}}}"#);
        read(&json, 16)
    };
    refused(tensor("F32", "[3]", 0, 16), &["\"w\"", "[3] in F32 takes 12 bytes", "hold 16"]);
    refused(tensor("F32", "[5]", 0, 16), &["\"w\"", "takes 20 bytes"]);
    refused(tensor("F32", "[]", 0, 16), &["takes 4 bytes"]);
    refused(tensor("F32", "[0]", 0, 16), &["takes 0 bytes"]);
    refused(tensor("U8", "[16]", 16, 0), &["\"w\"", "[16, 0] end before they begin"]);
    refused(tensor("U8", "[4294967296, 4294967296]", 0, 16), &["\"w\"", "overflows"]);
    refused(tensor("F64", "[2305843009213693952]", 0, 16), &["\"w\"", "overflows"]);
    // Empty, but whoever multiplies from the right overflows.
    refused(tensor("U8", "[0, 4294967296, 4294967296]", 0, 0), &["overflows"]);
    refused(tensor("F4", "[31]", 0, 16), &["\"w\"", "31 elements of F4 end inside a byte"]);
    refused(tensor("U8", "[17]", 0, 17), &["\"w\"", "out of range", "16 bytes", "truncated"]);
    refused(tensor("U8", "[16]", 1, 17), &["out of range"]);
    refused(tensor("U8", "[16]", u64::MAX - 16, u64::MAX), &["out of range"]);
}

#[test]
fn a_data_section_that_is_not_covered_exactly() {
    let two = |a: [u64; 2], b: [u64; 2], data_bytes| {
        let entry = |[begin, end]: [u64; 2]| {
            format!(r#"{{"dtype":"U8","shape":[{}],"data_offsets":[{begin},{end}]}}"#, end - begin)
        };
        read(&format!(r#"{{"a":{},"b":{}}}"#, entry(a), entry(b)), data_bytes)
    };
    refused(two([0, 4], [3, 8], 8), &["\"a\" and \"b\" overlap", "byte 3", "byte 4"]);
    refused(two([0, 8], [0, 8], 8), &["overlap"]);
    refused(two([0, 8], [2, 4], 8), &["overlap"]);
    refused(two([0, 8], [4, 4], 8), &["overlap"]);
    refused(two([0, 4], [5, 8], 8), &["hole before tensor \"b\"", "bytes 4 to 5"]);
    refused(two([1, 4], [4, 8], 8), &["hole before tensor \"a\"", "bytes 0 to 1"]);
    refused(two([0, 4], [4, 8], 9), &["the last 1 bytes"]);
    refused(two([0, 4], [4, 8], 7), &["\"b\"", "out of range", "truncated"]);
    refused(read("{}", 3), &["the last 3 bytes"]);
    assert_consistent(&read("{}", 0).unwrap());
    // In the order of the bytes, where an empty tensor stands before what begins with it.
    for (a, b, first) in [
        ([0, 4], [4, 8], "a"),
        ([4, 8], [0, 4], "b"),
        ([0, 8], [0, 0], "b"),
        ([0, 0], [0, 8], "a"),
        ([8, 8], [0, 8], "b"),
    ] {
        let header = two(a, b, 8).unwrap();
        assert_consistent(&header);
        assert_eq!(header.tensors[0].name, first, "{a:?} {b:?}");
    }
}

#[test]
fn names_are_harmless_in_messages() {
    let huge = "n".repeat(1_000_000);
    refused(read(&format!(r#"{{"{huge}":{{}}}}"#), 0), &["missing field", "…"]);
    refused(read(&format!(r#"{{"w":{{"{huge}":0}}}}"#), 0), &["unknown field", "…"]);
    refused(read(&format!(r#"{{"w":{{"dtype":"{huge}"}}}}"#), 0), &["unknown dtype", "…"]);
    refused(read(&format!(r#"{{"w":{{"shape":"{huge}"}}}}"#), 0), &["expected a list of sizes"]);
    refused(read(r#"{"w":{"\u001b[2J":0}}"#, 0), &["unknown field"]);
    refused(read(r#"{"\u001b[2J\n":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#, 0), &["out of range"]);
    let metadata = format!(r#"{{"__metadata__":{{"{huge}":"1","{huge}":"2"}}}}"#);
    refused(read(&metadata, 0), &["duplicate key", "…"]);
}

#[test]
fn files_of_other_kinds_are_told_apart() {
    let pickle = ["a pickle", "never loaded", "convert it to safetensors"];
    refused(read_bytes("pytorch_model.bin", b"\x80\x04N."), &pickle);
    refused(read_bytes("model.safetensors", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02"), &pickle);
    refused(read_bytes("model.safetensors", b"PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0\0\0\0\0data.pkl"), &pickle);
    refused(read_bytes("old.pt", b"(dp0\nS'weight'\np1\nI1\ns."), &pickle);
    let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n";
    refused(read_bytes("model.safetensors", lfs), &["Git LFS pointer", "git lfs pull"]);
    refused(read_bytes("model.gguf", b"GGUF\x03\0\0\0\x10\0\0\0\0\0\0\0"), &["GGUF"]);
}

#[test]
fn a_header_whose_length_begins_like_a_pickle_is_read() {
    // 0x80 and, as two bytes, "PK".
    for length in [0x80, 0x0280, 0x4b50] {
        let mut json = b"{}".to_vec();
        json.resize(length, b' ');
        let header = read_bytes("pytorch_model.bin", &prefixed(&json, b"")).unwrap();
        assert_eq!(header.data_start, 8 + length as u64);
    }
}

#[test]
#[cfg(unix)]
fn only_regular_files_are_opened() {
    let folder = tempfile::tempdir().unwrap();
    refused(read_header(folder.path()), &["a directory", ".safetensors"]);
    let pipe = folder.path().join("pipe.safetensors");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    refused(read_header(&pipe), &["not a regular file"]);
    refused(read_header(Path::new("/dev/zero")), &["not a regular file"]);
    let missing = read_header(&folder.path().join("missing.safetensors")).unwrap_err();
    assert!(matches!(missing, Error::Io { .. }), "{missing}");
    let link = folder.path().join("link.safetensors");
    fs::write(folder.path().join("blob"), prefixed(b"{}", b"")).unwrap();
    std::os::unix::fs::symlink("blob", &link).unwrap();
    assert_consistent(&read_header(&link).unwrap());
}

#[test]
fn the_hash_is_that_of_the_json_with_its_padding() {
    // XXH3-128 of the two texts, from xxHash's own implementation.
    let [braces, padded] = ["dc7048f8f8747f561349cde127705c16", "00cc73556586a64b8dcc9d6f39ec344c"];
    let header = read("{}", 0).unwrap();
    assert_eq!(header.record().header_hash, braces);
    assert_eq!(read("{}      ", 0).unwrap().record().header_hash, padded);
    let json: serde_json::Value = serde_json::from_str(&serde_json::to_string(&header).unwrap()).unwrap();
    assert_eq!(json["header_hash"], braces);
    assert_eq!((&json["size"], &json["data_start"]), (&10.into(), &10.into()));
    assert!(json["tensors"].is_array() && json["metadata"].is_null() && json.get("path").is_none());
}
