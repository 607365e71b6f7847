//! The checksum of a tensor: defined over fixed pieces, so that it does not depend on how the tensor was cut in tiles.
//!
//! A tensor's bytes are cut every [`PIECE`] bytes from its first one, the last piece is what is left. Each piece has its
//! XXH3-128; the tensor's checksum is the XXH3-128 of those digests, 16 bytes each, little-endian, in order. A tensor of
//! no bytes has no pieces: its checksum is that of the empty string. Written as 32 hex digits, the highest first.

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// Bytes of a piece.
pub const PIECE: usize = 65536;

/// The digest of one piece.
pub fn piece(bytes: &[u8]) -> u128 {
    xxh3_128(bytes)
}

/// The checksum of the tensor whose pieces have these digests.
pub fn combine(pieces: &[u128]) -> u128 {
    let mut hash = Xxh3::new();
    for digest in pieces {
        hash.update(&digest.to_le_bytes());
    }
    hash.digest128()
}

pub fn to_hex(checksum: u128) -> String {
    format!("{checksum:032x}")
}

/// Reads what [`to_hex`] wrote, and nothing else.
pub fn from_hex(text: &str) -> Option<u128> {
    let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if digits { u128::from_str_radix(text, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_slice(bytes: &[u8]) -> u128 {
        combine(&bytes.chunks(PIECE).map(piece).collect::<Vec<_>>())
    }

    /// Computed from the definition above with Python's `xxhash`, a binding of the reference implementation.
    #[test]
    fn known_answers() {
        let counting: Vec<u8> = (0..200_000u32).map(|i| (i % 251) as u8).collect();
        for (len, expected) in VECTORS {
            assert_eq!(to_hex(of_slice(&counting[..len])), expected, "{len} bytes");
        }
    }

    const VECTORS: [(usize, &str); 5] = [
        (0, "99aa06d3014798d86001c324468d497f"),
        (1, "c3cf130a1c253e75c7604079487fe5ef"),
        (65536, "3edb678923b6cf100745f2265647f864"),
        (65537, "8de418b0d7663ec04239510f9130a9f4"),
        (200_000, "cf62788a41bcbb0b8bc51dca36693d2e"),
    ];

    #[test]
    fn hex_is_strict() {
        assert_eq!(from_hex(&to_hex(u128::MAX - 5)), Some(u128::MAX - 5));
        for wrong in ["", "12", "+0000000000000000000000000000001", &"g".repeat(32), &"0".repeat(33)] {
            assert_eq!(from_hex(wrong), None, "{wrong}");
        }
    }
}
