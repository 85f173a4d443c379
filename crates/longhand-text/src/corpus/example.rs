//! A labelled example.

/// A text with its label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The label without white space around it, or none where labels were not asked for.
    pub label: Option<String>,
    /// The text as it is written.
    pub text: String,
    /// The second text as it is written, or none if no column was named for it.
    pub second: Option<String>,
}
