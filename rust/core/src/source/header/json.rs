//! The header's JSON, taken in as a stream: no tree of values is built, and nothing is overwritten by a second entry of
//! the same name.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{MAX_METADATA, MAX_RANK, TensorInfo, clipped};
use crate::dtype::Dtype;

const METADATA: &str = "__metadata__";

/// The longest of the messages that quote the file.
const MESSAGE: usize = 600;

pub(super) struct Parsed {
    pub metadata: Option<BTreeMap<String, String>>,
    /// In the order of the JSON, names not yet known to differ.
    pub tensors: Vec<TensorInfo>,
}

pub(super) fn parse(text: &str) -> Result<Parsed, String> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.deserialize_map(TopLevel).and_then(|parsed| deserializer.end().map(|()| parsed)).map_err(|error| {
        // Names are escaped where they are quoted; the deserializer quotes an unknown field as it is.
        let printable = error.to_string().replace(char::is_control, "\u{fffd}");
        format!("bad header: {}", clipped(&printable, MESSAGE))
    })
}

struct TopLevel;

impl<'de> Visitor<'de> for TopLevel {
    type Value = Parsed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with an entry for each tensor")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parsed, A::Error> {
        let mut metadata: Option<Metadata> = None;
        let mut tensors = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            let within =
                |error: A::Error| A::Error::custom(format_args!("{:?}: {error}", clipped(&name, MESSAGE / 4)));
            if name == METADATA {
                if metadata.is_some() {
                    return Err(A::Error::custom("duplicate __metadata__"));
                }
                metadata = Some(map.next_value().map_err(within)?);
            } else {
                let Entry { dtype, shape, begin, end } = map.next_value().map_err(within)?;
                tensors.push(TensorInfo { name, dtype, shape, begin, end });
            }
        }
        Ok(Parsed { metadata: metadata.and_then(|Metadata(entries)| entries), tensors })
    }
}

/// Strings by name; JSON's null stands for none.
struct Metadata(Option<BTreeMap<String, String>>);

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Strings;

        impl<'de> Visitor<'de> for Strings {
            type Value = Metadata;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_unit<E: Error>(self) -> Result<Metadata, E> {
                Ok(Metadata(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, String>()? {
                    if entries.len() == MAX_METADATA {
                        return Err(A::Error::custom(format_args!("more than {MAX_METADATA} entries")));
                    }
                    match entries.entry(key) {
                        Slot::Vacant(slot) => slot.insert(value),
                        Slot::Occupied(slot) => {
                            return Err(A::Error::custom(format_args!(
                                "duplicate key {:?}",
                                clipped(slot.key(), MESSAGE / 4)
                            )));
                        }
                    };
                }
                Ok(Metadata(Some(entries)))
            }
        }

        deserializer.deserialize_any(Strings)
    }
}

/// What the header says of one tensor.
struct Entry {
    dtype: Dtype,
    shape: Vec<u64>,
    begin: u64,
    end: u64,
}

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    Dtype,
    Shape,
    DataOffsets,
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Entry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with dtype, shape and data_offsets")
            }

            // Written by hand because the derived one would take an array, too.
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
                let (mut dtype, mut shape, mut offsets) = (None, None, None);
                while let Some(field) = map.next_key()? {
                    let twice = match field {
                        Field::Dtype => dtype.replace(map.next_value::<Name>()?.0).map(|_| "dtype"),
                        Field::Shape => shape.replace(map.next_value::<Shape>()?.0).map(|_| "shape"),
                        Field::DataOffsets => {
                            offsets.replace(map.next_value::<(u64, u64)>()?).map(|_| "data_offsets")
                        }
                    };
                    if let Some(field) = twice {
                        return Err(A::Error::duplicate_field(field));
                    }
                }
                let (begin, end) = offsets.ok_or_else(|| A::Error::missing_field("data_offsets"))?;
                Ok(Entry {
                    dtype: dtype.ok_or_else(|| A::Error::missing_field("dtype"))?,
                    shape: shape.ok_or_else(|| A::Error::missing_field("shape"))?,
                    begin,
                    end,
                })
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

/// A dtype by its name; the error lists all names.
struct Name(Dtype);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a dtype")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Name, E> {
                dtype_named(name).map(Name).map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Text)
    }
}

fn dtype_named(name: &str) -> Result<Dtype, String> {
    name.parse().map_err(|_| {
        // To strings first: over the names as constants, `join` is unrolled into a function that LLVM 22 does not finish
        // with (constraint elimination at opt-level 3).
        let known: Vec<String> = Dtype::ALL.iter().map(Dtype::to_string).collect();
        format!("unknown dtype {:?}, known are {}", clipped(name, 40), known.join(", "))
    })
}

/// The sizes of at most [`MAX_RANK`] dimensions.
struct Shape(Vec<u64>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sizes;

        impl<'de> Visitor<'de> for Sizes {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of sizes")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Shape, A::Error> {
                let (mut sizes, mut rank) = ([0; MAX_RANK], 0);
                while rank < MAX_RANK {
                    match sequence.next_element()? {
                        Some(size) => sizes[rank] = size,
                        None => return Ok(Shape(sizes[..rank].to_vec())),
                    }
                    rank += 1;
                }
                match sequence.next_element::<IgnoredAny>()? {
                    Some(_) => Err(A::Error::custom(format_args!("shape of more than {MAX_RANK} dimensions"))),
                    None => Ok(Shape(sizes.to_vec())),
                }
            }
        }

        deserializer.deserialize_seq(Sizes)
    }
}
