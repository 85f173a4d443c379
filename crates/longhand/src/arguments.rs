//! The arguments of the program, and one sentence for each that is wrong.

use std::any::TypeId;
use std::error::Error;
use std::num::{IntErrorKind, NonZeroUsize, ParseFloatError, ParseIntError};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, CommandFactory, FromArgMatches, Parser};

use crate::talk::say;

/// Trains, runs and examines language models in which every layer fuses two memories.
#[derive(Parser)]
#[command(
    name = "longhand",
    version,
    arg_required_else_help = true,
    after_help = "Example: train a small model on the built-in sample and let it write\n  \
                  longhand train --out model\n  longhand generate model --prompt \"One day\""
)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) command: crate::command::Command,
}

/// The exit code for wrong usage.
const WRONG_USAGE: i32 = 2;

/// Parses the arguments. Ends the process with 2 where they are wrong, with 0 after `--help`.
pub(crate) fn parse() -> CommandLine {
    let words: Vec<_> = std::env::args_os().collect();
    let matches = take_negative_numbers(CommandLine::command()).try_get_matches_from(&words);
    match matches.and_then(|matches| CommandLine::from_arg_matches(&matches)) {
        Ok(line) => line,
        Err(error) => {
            let words: Vec<_> =
                words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
            let Some(sentence) = explain(&error, &words) else { error.exit() };
            say!("error: {sentence}\n\nFor more information, try '--help'.");
            std::process::exit(WRONG_USAGE);
        }
    }
}

/// Lets every option take `-1` as its value, so that a value out of range is told by its range.
fn take_negative_numbers(command: Command) -> Command {
    let take = |arg: Arg| {
        let takes_value = !arg.is_positional() && arg.get_action().takes_values();
        if takes_value { arg.allow_negative_numbers(true) } else { arg }
    };
    command.mut_args(take).mut_subcommands(take_negative_numbers)
}

/// A plainer sentence than the parser's own about the words of a command line, where there is one.
fn explain(error: &clap::Error, words: &[String]) -> Option<String> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::ValueValidation => {
            let flag = text(ContextKind::InvalidArg)?.split(' ').next()?;
            let form = form(error.source()?, begins_at_1(words, flag))?;
            let value = text(ContextKind::InvalidValue)?;
            Some(format!("{flag} is {value:?}, but must be {form}"))
        }
        ErrorKind::InvalidSubcommand => {
            let verb = text(ContextKind::InvalidSubcommand)?;
            Some(format!("there is no verb `{verb}`: {}", verbs()))
        }
        _ => None,
    }
}

/// Whether a flag of the verb in `words` is a whole number that cannot be 0.
fn begins_at_1(words: &[String], flag: &str) -> bool {
    let root = CommandLine::command();
    let within =
        |command, word: &String| Command::find_subcommand(command, word).unwrap_or(command);
    let verb = words.iter().skip(1).fold(&root, within);
    let long = flag.strip_prefix("--");
    let mut arguments = verb.get_arguments();
    let found = arguments.find(|argument| long.is_some() && argument.get_long() == long);
    found.is_some_and(|found| found.get_value_parser().type_id() == TypeId::of::<NonZeroUsize>())
}

/// The form of a number that could not be parsed.
fn form(source: &(dyn Error + 'static), begins_at_1: bool) -> Option<&'static str> {
    if let Some(error) = source.downcast_ref::<ParseIntError>() {
        return Some(match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "a smaller number",
            IntErrorKind::Zero => "a whole number, 1 or more",
            _ if begins_at_1 => "a whole number, 1 or more",
            // Some have a larger least value, which is told where it is checked.
            _ => "a whole number that is not negative",
        });
    }
    source.is::<ParseFloatError>().then_some("a number, such as 0.5")
}

/// The verbs of the program.
fn verbs() -> String {
    let command = CommandLine::command();
    let names: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
    format!("the verbs are {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence(line: &str) -> String {
        let command = take_negative_numbers(CommandLine::command());
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        explain(&command.try_get_matches_from(&words).expect_err(line), &words).expect(line)
    }

    #[test]
    fn a_number_of_another_form_is_told_with_its_flag_and_form() {
        for (line, words) in [
            ("longhand train --steps 1.5", "--steps is \"1.5\", but must be a whole number"),
            (
                "longhand train --steps -1",
                "--steps is \"-1\", but must be a whole number that is not negative",
            ),
            ("longhand generate m --top-k few", "--top-k is \"few\", but must be a whole number"),
            (
                "longhand predict m --beam 0",
                "--beam is \"0\", but must be a whole number, 1 or more",
            ),
            (
                "longhand predict m --beam -1",
                "--beam is \"-1\", but must be a whole number, 1 or more",
            ),
            (
                "longhand generate m --beam -1",
                "--beam is \"-1\", but must be a whole number, 1 or more",
            ),
            ("longhand generate m --seed 99999999999999999999", "--seed is"),
            ("longhand train --minutes soon", "--minutes is \"soon\", but must be a number"),
            ("longhand bench flat m --threads x", "--threads is \"x\""),
        ] {
            assert!(sentence(line).starts_with(words), "{line}: {}", sentence(line));
        }
        assert!(
            sentence("longhand train --seed 99999999999999999999").contains("a smaller number")
        );
    }

    #[test]
    fn an_unknown_verb_is_told_with_the_verbs_there_are() {
        assert!(
            sentence("longhand nope")
                .contains("`nope`: the verbs are adapter, bench, chat, data, doctor, eval")
        );
    }

    #[test]
    fn the_arguments_are_consistent() {
        take_negative_numbers(CommandLine::command()).debug_assert();
    }
}
