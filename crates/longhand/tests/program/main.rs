//! The program as a person runs it: each module starts the real binary. They are one test program, which
//! is linked once.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod baseline;
mod chat;
mod classify;
mod classify_forms;
mod continued;
mod data;
mod deploy;
mod doctor;
mod engine;
mod evaluate;
mod faults;
mod index;
mod members;
mod ngram;
#[cfg(unix)]
mod pipes;
mod place;
mod pretraining;
mod quantize;
mod readme;
mod rules;
mod score;
#[cfg(unix)]
mod served_faults;
mod served_load;
mod served_tasks;
mod span;
mod tables;
mod tag;
mod train;
mod tuning;
mod writing;

use assert_cmd::Command;

/// Exit code, stdout and stderr of the program.
fn longhand(arguments: &[&str], input: impl AsRef<[u8]>) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longhand"));
    let output = command.args(arguments).write_stdin(input.as_ref()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}
