//! How fields of `config.json` are written, and what they are where they are left out.

use longhand_kernel::Precision;
use longhand_kernel::weights::Format;

pub(super) fn is_f32(format: &Format) -> bool {
    *format == Format::F32
}

pub(super) fn is_exact(precision: &Precision) -> bool {
    *precision == Precision::F32
}

/// A type of the kernel by its name.
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

pub(super) fn is_zero(share: &f32) -> bool {
    *share == 0.0
}

pub(super) fn yes() -> bool {
    true
}

pub(super) fn one() -> usize {
    1
}
