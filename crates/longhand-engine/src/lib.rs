//! Reading and stepping, sampling, sessions and their snapshots.
