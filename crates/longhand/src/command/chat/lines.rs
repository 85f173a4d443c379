//! Lines as a person types them at a terminal, or from a pipe.

use std::io::{self, BufRead, IsTerminal, StdinLock};

use anyhow::{Context, Result, anyhow};
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{Config, Editor};

use crate::talk::say;

/// What a line that goes on in the next one ends with.
const GOES_ON: char = '\\';

/// Where lines come from.
pub(super) struct Lines {
    source: Source,
    number: usize,
}

enum Source {
    /// With a prompt, editing and the history of the conversation.
    Terminal(Box<Editor<(), MemHistory>>),
    Pipe(StdinLock<'static>),
}

/// A line, without its break.
pub(super) enum Line {
    Text(String),
    End,
}

impl Lines {
    /// A terminal where a person sits at both ends, else a pipe.
    pub(super) fn open() -> Result<Self> {
        let source = match io::stdin().is_terminal() && io::stdout().is_terminal() {
            true => {
                let config = Config::builder().auto_add_history(true).build();
                let history = MemHistory::with_config(&config);
                let editor = Editor::with_history(config, history);
                Source::Terminal(Box::new(editor.context("the terminal cannot be read")?))
            }
            false => Source::Pipe(io::stdin().lock()),
        };
        Ok(Self { source, number: 0 })
    }

    pub(super) fn is_terminal(&self) -> bool {
        matches!(self.source, Source::Terminal(_))
    }

    /// The number of the last line, from 1.
    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// The next line, joined with those that it goes on in. A terminal shows the branch, if
    /// it has a name.
    pub(super) fn next(&mut self, branch: Option<&str>) -> Result<Line> {
        let mut prompt = branch.map_or("> ".into(), |branch| format!("{branch}> "));
        let mut text = String::new();
        loop {
            match self.one(&prompt)? {
                Line::Text(line) => {
                    if let Some(begun) = line.strip_suffix(GOES_ON) {
                        text.push_str(begun);
                        text.push('\n');
                        prompt = ". ".into();
                        continue;
                    }
                    text.push_str(&line);
                    return Ok(Line::Text(text));
                }
                Line::End if text.is_empty() => return Ok(Line::End),
                Line::End => return Ok(Line::Text(text)),
            }
        }
    }

    fn one(&mut self, prompt: &str) -> Result<Line> {
        self.number += 1;
        match &mut self.source {
            Source::Terminal(editor) => loop {
                match editor.readline(prompt) {
                    Ok(line) => return Ok(Line::Text(line)),
                    Err(ReadlineError::Eof) => return Ok(Line::End),
                    Err(ReadlineError::Interrupted) => {
                        say!("Ctrl-D or /quit ends the conversation.")
                    }
                    Err(error) => return Err(error).context("the terminal cannot be read"),
                }
            },
            Source::Pipe(pipe) => {
                let mut bytes = Vec::new();
                let read = pipe.read_until(b'\n', &mut bytes);
                if read.context("the standard input cannot be read")? == 0 {
                    return Ok(Line::End);
                }
                let number = self.number;
                let text = String::from_utf8(bytes).map_err(|error| {
                    let at = error.utf8_error().valid_up_to();
                    anyhow!(
                        "line {number} of the standard input is not valid UTF-8 at its byte {at}: \
                         convert it"
                    )
                })?;
                Ok(Line::Text(text.trim_end_matches(['\n', '\r']).to_owned()))
            }
        }
    }
}
