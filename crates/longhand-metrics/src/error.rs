use thiserror::Error;

/// Why texts cannot be measured.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum MetricsError {
    /// There is nothing to measure.
    #[error("there are no outputs to measure; give at least one output with its references")]
    NoOutputs,
    /// Outputs and references belong together by their position.
    #[error(
        "there are {outputs} outputs but references for {references}; give references for each \
         output, in the same order"
    )]
    UnequalCounts {
        /// The number of outputs.
        outputs: usize,
        /// The number of lists of references.
        references: usize,
    },
    /// An output without a reference has no score.
    #[error("output {output} has no reference; give each output at least one, even if it is empty")]
    NoReferences {
        /// The output's number, counted from 1.
        output: usize,
    },
}
