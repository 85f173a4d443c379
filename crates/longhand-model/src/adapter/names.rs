//! The names of a change's tensors, as the PEFT library writes them.

use crate::weights::{LowRank, Parameter, ParameterId};

/// The form in which the library writes a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// B·A of a matrix.
    Product,
    /// B·diag(e)·A of a matrix: bare parameters in the library.
    Singular,
    /// (B·A)ᵀ of a table: the library's A is our B transposed, and its B our A.
    Table,
}

impl Form {
    pub(super) const ALL: [Self; 3] = [Self::Product, Self::Singular, Self::Table];

    /// The form of a parameter's change, with singular values or without.
    pub(super) fn of(parameter: &Parameter, singular: bool) -> Self {
        match (parameter.is_table() || parameter.is_tied(), singular) {
            (true, _) => Self::Table,
            (false, true) => Self::Singular,
            (false, false) => Self::Product,
        }
    }

    /// The ends of the names of our A, of our B, and of the singular values.
    pub(super) fn ends(self) -> &'static [&'static str] {
        match self {
            Self::Product => &[".lora_A.weight", ".lora_B.weight"],
            Self::Singular => &[".lora_A", ".lora_B", ".lora_E"],
            Self::Table => &[".lora_embedding_B", ".lora_embedding_A"],
        }
    }

    /// The names of a module's factors, in the order of [`Form::ends`].
    pub(super) fn factors(self, module: &str) -> Vec<String> {
        self.ends().iter().map(|end| format!("{module}{end}")).collect()
    }
}

/// The names of a change's factors, with the parameters that they are.
pub(super) fn parameters(parameter: &Parameter, change: LowRank) -> Vec<(String, ParameterId)> {
    let e = change.singular.map(|singular| singular.e);
    let ids = [change.a, change.b].into_iter().chain(e);
    let form = Form::of(parameter, e.is_some());
    form.factors(module(&parameter.name)).into_iter().zip(ids).collect()
}

/// Whether the library writes a tensor's columns as rows.
pub(super) fn is_transposed(name: &str) -> bool {
    Form::Table.ends().iter().any(|end| name.ends_with(*end))
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
    Form::ALL.into_iter().flat_map(Form::ends).find_map(|end| name.strip_suffix(*end))
}
