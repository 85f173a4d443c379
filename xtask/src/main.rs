//! Development tasks of the workspace: `cargo xtask check`, `cargo xtask tidy` and `cargo xtask soak`.
#![allow(clippy::print_stdout, reason = "this program talks to a developer at a terminal")]
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

mod check;
mod soak;
mod tidy;

const USAGE: &str = "\
Usage: cargo xtask COMMAND

  check   everything CI runs, cheapest first; stops at the first failure
  tidy    the house rules that no other tool knows: crate edges, the code map,
          file lengths, where raw memory may be touched, names of machines
  soak    conversations with servers that are killed meanwhile; --help lists its flags";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["check"] => check::check(&root()),
        ["tidy"] => tidy::tidy(&root()),
        ["soak", "--help"] => {
            println!("{}", soak::USAGE);
            return ExitCode::SUCCESS;
        }
        ["soak", ..] => {
            soak::Settings::parse(&arguments[1..]).and_then(|it| soak::soak(&root(), &it))
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's root: the folder above this crate.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}
