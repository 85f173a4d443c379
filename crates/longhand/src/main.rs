//! The `longhand` command line. Data go to stdout, messages to stderr. Exit codes: 0 done, 1
//! failed, 2 wrong usage.
#![deny(clippy::print_stderr)]

mod adapters;
mod arguments;
mod command;
mod error;
mod explained;
mod folds;
mod hint;
mod interrupt;
mod launch;
mod neighbours;
mod progress;
mod reading;
mod report;
mod rounds;
mod rules;
mod screen;
mod talk;
mod task_data;
mod whole_file;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Ends the process with 2 where the arguments are wrong, with 0 after --help.
    let line = arguments::parse();
    let product = line.command.product();
    match line.command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error::report(&error, product),
    }
}
