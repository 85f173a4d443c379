//! Training: optimisers, schedules, the loop, checkpoints and logs.

pub mod log;
