//! Tasks beside language modelling: examples to ids and targets, and the metric.
