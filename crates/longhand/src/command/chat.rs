//! `longhand chat`: a conversation with a model, at a terminal or through pipes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use longhand_engine::threads::faster_to_decode;
use longhand_engine::{Chat, Engine};
use longhand_text::chat::{ChatFault, ChatTemplate, TOKENIZER_CONFIG_FILE, TokenizerConfig};

use crate::interrupt;
use crate::reading::{ModelArguments, SamplerArguments, writable};
use crate::rules::RulesArguments;
use crate::talk::say;

mod lines;
mod order;
mod talk;

use lines::{Line, Lines};
use order::Order;
use talk::Talk;

/// Holds a conversation; each line is a turn, or a command such as /help.
#[derive(Args)]
#[command(
    after_help = "Example:\n  longhand chat model\n  longhand chat model --load talk.safetensors \
                  --save talk.safetensors --force\n  printf 'Hi\\nAnd you?\\n' | longhand chat model \
                  --json\n\n\
                  Commands: /save [FILE], /load FILE, /fork [NAME], /switch NAME, /back [TURN], /show, \
                  /system TEXT, /rules FILE, /help, /quit. A line that ends with \\ goes on in the next one; // \
                  begins a turn with a /. Ctrl-C ends an answer, Ctrl-D the conversation. A \
                  conversation goes on from its file bit for bit, and the file is a memory that \
                  `generate` and `memory` read too.\n\n\
                  In a pipe there is no prompt, and the answers alone are printed, each with a line \
                  break at its end; the first line that is refused ends the program."
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Instructions that the model reads before the next turn
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    system: Option<String>,
    /// A conversation to go on with, or a memory of a text to talk about
    #[arg(long, value_name = "FILE")]
    load: Option<PathBuf>,
    /// A file to keep the conversation in at its end
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Overwrite files that exist
    #[arg(long)]
    force: bool,
    /// A file with the chat template, in Jinja [default: the model's own]
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
    /// The most tokens of an answer [default: the model's generation_config.json, or 256]
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// Print one JSON object for each answer and each command
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    rules: RulesArguments,
    #[command(flatten)]
    sampler: SamplerArguments,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        // A conversation may go on in its own file.
        let force = self.force || self.save == self.load;
        if let Some(path) = &self.save {
            writable(path, force)?;
        }
        let rules = self.rules.load()?;
        let (engine, cpu) = self.model.open()?;
        let template = Arc::new(self.template(&engine)?);
        let cpu = match self.model.threads.given() {
            Some(_) => cpu,
            None => faster_to_decode(&engine, &cpu)?,
        };
        let mut chat = match &self.load {
            None => Chat::new(&engine, template.clone(), engine.generation().sampler)?,
            Some(path) => talk::load(path, &engine, &template)?,
        };
        self.sampler.apply(chat.session_mut())?;
        chat.follow(rules);
        if let Some(text) = &self.system {
            chat.instruct(text.as_str());
        }
        let max_tokens = self.max_tokens.unwrap_or(engine.generation().max_tokens);
        let mut lines = Lines::open()?;
        interrupt::listen_in_turns()?;
        if lines.is_terminal() {
            say!("/help lists the commands; Ctrl-C ends an answer, Ctrl-D the conversation.");
        }
        // The file of --save is the one that /save writes when it names none.
        let file = self.save.clone().or(self.load);
        let mut talk = Talk::new(chat, file, (&cpu, template), max_tokens, self.json);
        talk.force = self.force;
        let talked = converse(&mut talk, &mut lines);
        // Whoever has heard enough may still want the conversation.
        let saved = match self.save {
            Some(path) => talk.save_at_end(&path, force),
            None => Ok(()),
        };
        saved.and(talked)
    }

    /// The template: the one given, or that of the model or of its adapters, or our own, or plain lines.
    fn template(&self, engine: &Engine) -> Result<ChatTemplate> {
        let tokenizer = engine.tokenizer();
        let model = self.model.model.as_path();
        if let Some(path) = &self.template {
            if !path.is_file() {
                bail!("there is no file {}: give a chat template in Jinja", path.display());
            }
            let config = config(model)?;
            let source = fs_err::read_to_string(path)?;
            let named = || path.display().to_string();
            return ChatTemplate::new(&source, &config, tokenizer).with_context(named);
        }
        let adapters = self.model.adapters.chosen.iter().map(|choice| choice.folder.as_path());
        for folder in adapters.chain([model]) {
            if let Some(template) = ChatTemplate::of_folder(folder, tokenizer)? {
                return Ok(template);
            }
        }
        match ChatTemplate::own(tokenizer) {
            Err(ChatFault::NoToken(_)) => {}
            own => return Ok(own?),
        }
        say!(
            "{} has no chat template, so the turns are lines that begin with `User: ` and \
             `Assistant: `; --template FILE names another form",
            model.display()
        );
        Ok(ChatTemplate::plain(tokenizer)?)
    }
}

/// The names of a model's special tokens.
fn config(model: &Path) -> Result<TokenizerConfig> {
    let path = model.join(TOKENIZER_CONFIG_FILE);
    match path.is_file() {
        true => Ok(TokenizerConfig::load(&path)?),
        false => Ok(TokenizerConfig::default()),
    }
}

/// Reads lines until they end. At a terminal a line that is refused is told, and the next one read.
fn converse(talk: &mut Talk, lines: &mut Lines) -> Result<()> {
    loop {
        let text = match lines.next(talk.branch())? {
            Line::Text(text) if text.trim().is_empty() => continue,
            Line::Text(text) => text,
            Line::End => return Ok(()),
        };
        let done = match Order::parse(&text) {
            Ok(Order::Quit) => return Ok(()),
            Ok(order) => talk.follow(order),
            Err(what) => Err(anyhow::anyhow!(what)),
        };
        match done {
            Err(error) if lines.is_terminal() => say!("{}", crate::error::sentence(&error)),
            Err(error) => return Err(error.context(format!("line {}", lines.number()))),
            Ok(()) => {}
        }
    }
}
