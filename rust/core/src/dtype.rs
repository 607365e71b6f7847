//! The element types of safetensors: one table, read by everything that sizes or converts a tensor.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! dtypes {
    ($($variant:ident $name:literal $bits:literal $class:ident;)*) => {
        /// An element type, spelled as in a safetensors header.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Dtype {
            $(#[serde(rename = $name)] $variant,)*
        }

        impl Dtype {
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Bits an element takes; packed types take less than a byte.
            pub const fn bits(self) -> u64 {
                match self { $(Self::$variant => $bits,)* }
            }

            pub const fn class(self) -> Class {
                match self { $(Self::$variant => Class::$class,)* }
            }
        }
    };
}

/// What may be done with the elements of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Computed with, through f32 or f64.
    Float,
    /// Must be equal in all models; copied.
    Integer,
    /// No arithmetic is defined; must be equal in all models; copied.
    Opaque,
}

dtypes! {
    F64 "F64" 64 Float;
    F32 "F32" 32 Float;
    F16 "F16" 16 Float;
    BF16 "BF16" 16 Float;
    F8E4M3 "F8_E4M3" 8 Float;
    F8E5M2 "F8_E5M2" 8 Float;
    I64 "I64" 64 Integer;
    I32 "I32" 32 Integer;
    I16 "I16" 16 Integer;
    I8 "I8" 8 Integer;
    U64 "U64" 64 Integer;
    U32 "U32" 32 Integer;
    U16 "U16" 16 Integer;
    U8 "U8" 8 Integer;
    Bool "BOOL" 8 Integer;
    F8E8M0 "F8_E8M0" 8 Opaque;
    F8E4M3Fnuz "F8_E4M3FNUZ" 8 Opaque;
    F8E5M2Fnuz "F8_E5M2FNUZ" 8 Opaque;
    F6E2M3 "F6_E2M3" 6 Opaque;
    F6E3M2 "F6_E3M2" 6 Opaque;
    F4 "F4" 4 Opaque;
    C64 "C64" 64 Opaque;
}

impl Dtype {
    /// Bytes that `elements` of this type take, `None` where they end inside a byte or overflow.
    pub const fn nbytes(self, elements: u64) -> Option<u64> {
        match elements.checked_mul(self.bits()) {
            Some(bits) if bits % 8 == 0 => Some(bits / 8),
            _ => None,
        }
    }

    /// Bytes of one element; 1 for packed types, whose elements are only ever copied.
    pub const fn size(self) -> usize {
        if self.bits() < 8 { 1 } else { (self.bits() / 8) as usize }
    }

    pub const fn is_float(self) -> bool {
        matches!(self.class(), Class::Float)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Dtype {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|dtype| dtype.name() == name).ok_or_else(|| format!("unknown dtype {name:?}"))
    }
}
