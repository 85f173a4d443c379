//! The names of a change's tensors, as the PEFT library writes them.

use crate::weights::{LowRank, ParameterId};

/// Ends of the names of A and B.
const PRODUCT: &[&str] = &[".lora_A.weight", ".lora_B.weight"];
/// Ends of the names of A, B and the singular values, which the library keeps as bare parameters.
const SINGULAR: &[&str] = &[".lora_A", ".lora_B", ".lora_E"];

/// The ends of the names of a change's factors behind those of its module: A, B, and e if there are
/// singular values.
pub(super) fn ends(singular: bool) -> &'static [&'static str] {
    if singular { SINGULAR } else { PRODUCT }
}

/// The names of a change's factors.
pub(super) fn factors(module: &str, singular: bool) -> Vec<String> {
    ends(singular).iter().map(|end| format!("{module}{end}")).collect()
}

/// The names of a change's factors, with the parameters that they are.
pub(super) fn parameters(module: &str, change: LowRank) -> Vec<(String, ParameterId)> {
    let e = change.singular.map(|singular| singular.e);
    let ids = [change.a, change.b].into_iter().chain(e);
    factors(module, e.is_some()).into_iter().zip(ids).collect()
}

/// The module that a matrix belongs to.
pub(super) fn module(parameter: &str) -> &str {
    parameter.strip_suffix(".weight").unwrap_or(parameter)
}

/// The module of a parameter that is saved whole.
pub(super) fn owner(parameter: &str) -> &str {
    parameter.rsplit_once('.').map_or(parameter, |(owner, _)| owner)
}

/// The module of whose change a tensor is a factor.
pub(super) fn changed(name: &str) -> Option<&str> {
    [PRODUCT, SINGULAR].into_iter().flatten().find_map(|end| name.strip_suffix(end))
}
