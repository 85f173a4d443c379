//! Formats of weights by their names on the command line.

use std::str::FromStr;

use longhand_model::Format;

/// A format by its name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WeightsName(pub(crate) Format);

impl FromStr for WeightsName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Format::ALL.into_iter().find(|format| format.name() == name);
        let names = Format::ALL.map(Format::name).join(", ");
        found.map(Self).ok_or_else(|| format!("there are no `{name}` weights; there are {names}"))
    }
}
