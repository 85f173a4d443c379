//! How fields of `config.json` are written, and their values where they are left out.

use longhand_kernel::Precision;
use longhand_kernel::weights::Format;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

pub(super) fn is_f32(format: &Format) -> bool {
    *format == Format::F32
}

pub(super) fn is_exact(precision: &Precision) -> bool {
    *precision == Precision::F32
}

/// Reads and writes a type of the kernel by its name.
macro_rules! by_name {
    ($module:ident, $type:ty) => {
        pub(super) mod $module {
            use serde::{Deserialize, Deserializer, Serializer};

            pub(crate) fn serialize<S: Serializer>(x: &$type, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(x.name())
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
                from: D,
            ) -> Result<$type, D::Error> {
                String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

by_name!(format_name, longhand_kernel::weights::Format);
by_name!(precision_name, longhand_kernel::Precision);

/// Reads an object that has a `name` beside the fields of a `T`, whose unknown keys are refused.
pub(super) fn named<'de, T, D>(from: D, default: &str) -> Result<(String, T), D::Error>
where
    T: serde::de::DeserializeOwned,
    D: Deserializer<'de>,
{
    let (name, rest) = apart(from, "name", default)?;
    Ok((name, T::deserialize(rest).map_err(Error::custom)?))
}

/// Reads an object; the text of one of its keys, and the others.
pub(super) fn apart<'de, D>(from: D, key: &str, default: &str) -> Result<(String, Value), D::Error>
where
    D: Deserializer<'de>,
{
    let mut fields = Map::deserialize(from)?;
    let text = match fields.remove(key) {
        Some(text) => String::deserialize(text).map_err(Error::custom)?,
        None => default.into(),
    };
    Ok((text, Value::Object(fields)))
}

pub(super) fn is_zero(share: &f32) -> bool {
    *share == 0.0
}

pub(super) fn yes() -> bool {
    true
}

pub(super) fn one() -> usize {
    1
}

pub(super) fn two() -> usize {
    2
}
