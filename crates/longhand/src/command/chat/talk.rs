//! The branches of a conversation, and what each line does to them.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, bail};
use longhand_engine::inspect::MeanContribution;
use longhand_engine::{Chat, Cpu, Engine, FinishReason, Reader, Rules, Snapshot, WayBack};
use longhand_text::chat::ChatTemplate;
use serde_json::{Value, json};

use super::order::{COMMANDS, Order};
use crate::interrupt::{self, STOP};
use crate::reading::writable;
use crate::rules::tell_unfinished;
use crate::screen::Screen;
use crate::talk::say;

/// The branch that a conversation begins in.
const FIRST: &str = "main";

/// A conversation with its branches.
pub(super) struct Talk {
    branches: BTreeMap<String, Branch>,
    current: String,
    engine: Arc<Engine>,
    template: Arc<ChatTemplate>,
    cpu: Arc<Cpu>,
    reader: Reader,
    max_tokens: usize,
    json: bool,
    /// Whether files that exist are overwritten.
    pub(super) force: bool,
}

/// One line of turns.
#[derive(Clone)]
struct Branch {
    chat: Chat,
    /// The file that it is kept in.
    file: Option<PathBuf>,
}

/// Reads a conversation, or the memory of a text, from its file.
pub(super) fn load(
    path: &Path,
    engine: &Arc<Engine>,
    template: &Arc<ChatTemplate>,
) -> Result<Chat> {
    if !path.exists() {
        bail!("there is no file {}: /save or --save writes one", path.display());
    }
    let named = || path.display().to_string();
    let snapshot = Snapshot::load(path).with_context(named)?;
    Chat::of_snapshot(&snapshot, engine, template).with_context(named)
}

impl Talk {
    pub(super) fn new(
        chat: Chat,
        file: Option<PathBuf>,
        (cpu, template): (&Arc<Cpu>, Arc<ChatTemplate>),
        max_tokens: usize,
        json: bool,
    ) -> Self {
        let engine = chat.session().engine().clone();
        Self {
            branches: BTreeMap::from([(FIRST.into(), Branch { chat, file })]),
            current: FIRST.into(),
            reader: engine.reader(cpu),
            engine,
            template,
            cpu: cpu.clone(),
            max_tokens,
            json,
            force: false,
        }
    }

    /// The name of the branch, where there are several.
    pub(super) fn branch(&self) -> Option<&str> {
        (self.branches.len() > 1).then_some(self.current.as_str())
    }

    /// Does what a line asks for.
    pub(super) fn follow(&mut self, order: Order) -> Result<()> {
        match order {
            Order::Say(text) => self.say(&text),
            Order::Save(path) => self.save(path),
            Order::Load(path) => self.load(path),
            Order::Fork(Some(name)) => self.fork(name),
            Order::Fork(None) => self.list(),
            Order::Switch(name) => self.switch(name),
            Order::Back(turns) => self.back(turns),
            Order::Show => self.show(),
            Order::System(text) => {
                self.current()?.chat.instruct(text);
                self.tell(json!({ "command": "system" }), "The next turn begins with it.")
            }
            Order::Rules(path) => self.rules(path),
            Order::Help => {
                let lines = COMMANDS.map(|(form, about)| format!("{form:<14} {about}\n"));
                self.print(json!({ "command": "help", "text": lines.concat() }), &lines.concat())
            }
            Order::Quit => Ok(()),
        }
    }

    /// Keeps the conversation in a file, as `--save` asks.
    pub(super) fn save_at_end(&mut self, path: &Path, force: bool) -> Result<()> {
        // It may have been written by /save in another branch than the one that the end is in.
        let own = self.branches.values().any(|branch| branch.file.as_deref() == Some(path));
        let path = writable(path, force || own)?.to_owned();
        self.current()?.chat.snapshot().save(&path).context("the conversation is not saved")
    }

    fn current(&mut self) -> Result<&mut Branch> {
        self.branches.get_mut(&self.current).context("there is no branch")
    }

    /// Answers a turn, piece by piece.
    fn say(&mut self, text: &str) -> Result<()> {
        let (json, max_tokens) = (self.json, self.max_tokens);
        let branch = self.branches.get_mut(&self.current).context("there is no branch")?;
        let (chat, reader) = (&mut branch.chat, &mut self.reader);
        let mut out = Screen::stdout();
        let mut written = Ok(());
        let mut each = |piece: &str| {
            if !json && !piece.is_empty() && written.is_ok() {
                written = out.write_all(piece.as_bytes()).and_then(|()| out.flush());
            }
            match written.is_err() || STOP.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let answer = interrupt::during_turn(|| chat.ask(reader, text, max_tokens, &mut each))?;
        written?;
        let finish = match &answer.finish {
            None => "interrupted",
            Some(FinishReason::Length) => "length",
            Some(FinishReason::Stop(_) | FinishReason::End | FinishReason::Complete) => "end",
        };
        if json {
            let (turn, position) = (chat.turns(), chat.session().position());
            let mut all = json!({
                "role": "assistant", "content": answer.text, "finish": finish,
                "tokens": answer.tokens, "turn": turn, "position": position,
            });
            if let Some(matches) = answer.matches {
                all["matches"] = matches.into();
            }
            writeln!(out, "{all}")?;
        } else {
            writeln!(out)?;
            if finish == "length" && out.is_terminal() {
                say!("(the answer has {max_tokens} tokens, the most that --max-tokens lets it)");
            }
        }
        if answer.matches == Some(false) {
            tell_unfinished(max_tokens);
        }
        Ok(out.flush()?)
    }

    /// Follows the rules of a file, or none.
    fn rules(&mut self, path: Option<PathBuf>) -> Result<()> {
        let rules = path.as_deref().map(Rules::load).transpose()?.map(Arc::new);
        self.current()?.chat.follow(rules);
        let name = path.map(|path| path.display().to_string());
        let words = match &name {
            Some(name) => format!("The next answers match {name}."),
            None => "The next answers follow no rules.".into(),
        };
        self.tell(json!({ "command": "rules", "file": name }), &words)
    }

    fn save(&mut self, path: Option<PathBuf>) -> Result<()> {
        let force = self.force;
        let branch = self.current()?;
        let Some(path) = path.or_else(|| branch.file.clone()) else {
            bail!("the conversation has no file yet: name one behind /save");
        };
        let own = branch.file.as_ref() == Some(&path);
        branch
            .chat
            .snapshot()
            .save(writable(&path, force || own)?)
            .context("the conversation is not saved")?;
        let (turns, name) = (branch.chat.turns(), path.display().to_string());
        branch.file = Some(path);
        let words = format!("{name} holds {turns} turn(s).");
        self.tell(json!({ "command": "save", "file": name, "turns": turns }), &words)
    }

    fn load(&mut self, path: PathBuf) -> Result<()> {
        let mut chat = load(&path, &self.engine, &self.template)?;
        chat.follow(self.current()?.chat.rules().cloned());
        let (turns, name) = (chat.turns(), path.display().to_string());
        *self.current()? = Branch { chat, file: Some(path) };
        let words = format!("Going on with {name} after {turns} turn(s).");
        self.tell(json!({ "command": "load", "file": name, "turns": turns }), &words)
    }

    fn fork(&mut self, name: String) -> Result<()> {
        if self.branches.contains_key(&name) {
            bail!("there is a branch {name} already: /switch {name} goes on in it");
        }
        // The copy has no file, so that /save cannot overwrite that of the branch it comes from.
        let chat = self.current()?.chat.clone();
        self.branches.insert(name.clone(), Branch { chat, file: None });
        self.go_to("fork", name)
    }

    fn switch(&mut self, name: String) -> Result<()> {
        if !self.branches.contains_key(&name) {
            let known: Vec<&str> = self.branches.keys().map(String::as_str).collect();
            bail!("there is no branch {name}: the branches are {}", known.join(", "));
        }
        self.go_to("switch", name)
    }

    fn go_to(&mut self, command: &str, name: String) -> Result<()> {
        self.current = name;
        let (name, turns) = (self.current.clone(), self.current()?.chat.turns());
        let words = format!("In branch {name} after {turns} turn(s).");
        self.tell(json!({ "command": command, "branch": name, "turns": turns }), &words)
    }

    fn list(&mut self) -> Result<()> {
        let turns = self.branches.iter().map(|(name, branch)| (name, branch.chat.turns()));
        let line = |(name, turns): (&String, usize)| {
            let here = if *name == self.current { " (here)" } else { "" };
            format!("{name}{here}: {turns} turn(s)\n")
        };
        let text: String = turns.clone().map(line).collect();
        let turns: BTreeMap<&String, usize> = turns.collect();
        let all = json!({ "command": "fork", "branch": self.current, "branches": turns });
        self.print(all, &text)
    }

    fn back(&mut self, turns: Option<usize>) -> Result<()> {
        let branch = self.branches.get_mut(&self.current).context("there is no branch")?;
        let there = branch.chat.turns();
        let turns = match turns {
            Some(turns) if turns > there => {
                bail!("the conversation has {there} turn(s): /back goes to one of them, or to 0");
            }
            Some(turns) => turns,
            None if there == 0 => bail!("the conversation has no turn to take back"),
            None => there - 1,
        };
        let way = branch.chat.back(&mut self.reader, turns)?;
        let read = match way {
            WayBack::Kept => "",
            WayBack::ReadAgain => " The turns up to it were read again.",
            WayBack::ReadWithoutBeginning => {
                " The turns up to it were read again, without what the model may have read before \
                 the first turn: the conversation is of an older file, which does not hold it."
            }
        };
        let words = format!("Back at the end of turn {turns}.{read}");
        let all = json!({
            "command": "back", "turns": turns, "read_again": way != WayBack::Kept,
            "without_beginning": way == WayBack::ReadWithoutBeginning,
        });
        self.tell(all, &words)
    }

    fn show(&mut self) -> Result<()> {
        let cpu = self.cpu.clone();
        let is_network = self.engine.model().network().is_ok();
        let several = self.branches.len();
        let branch = self.current()?;
        let (chat, file) = (&branch.chat, branch.file.as_ref());
        let given = if is_network { chat.contribution(&cpu)? } else { None };
        let (session, turns) = (chat.session(), chat.turns());
        let (position, bytes) = (session.position(), session.state().bytes());
        let file = file.map(|file| file.display().to_string());
        let sampler = session.sampler();
        let mut text = format!(
            "turns        {turns}\nposition     {position} tokens\nstate        {bytes} bytes, however \
             long the conversation is\n"
        );
        if let Some(file) = &file {
            text += &format!("file         {file}\n");
        }
        if several > 1 {
            text += &format!("branches     {several}, /fork lists them\n");
        }
        text += &match (&given, is_network) {
            (Some(given), _) => told(given),
            (None, true) => "last answer  none since the conversation began or was loaded\n".into(),
            (None, false) => "last answer  an n-gram model has no memories to tell apart\n".into(),
        };
        let name = self.current.clone();
        let all = json!({
            "command": "show", "branch": name, "file": file, "turns": turns, "position": position,
            "memory_bytes": bytes, "sampler": sampler, "last_answer": given,
        });
        self.print(all, &text)
    }

    /// What a command has done: on stderr, or as JSON.
    fn tell(&self, all: Value, words: &str) -> Result<()> {
        match self.json {
            true => self.print(all, words),
            false => {
                say!("{words}");
                Ok(())
            }
        }
    }

    /// What a command asks for, on stdout.
    fn print(&self, all: Value, text: &str) -> Result<()> {
        let mut out = io::stdout().lock();
        match self.json {
            true => writeln!(out, "{all}")?,
            false => write!(out, "{text}")?,
        }
        Ok(out.flush()?)
    }
}

/// What each memory gave to an answer, in words.
fn told(given: &MeanContribution) -> String {
    let losses = &given.losses;
    let share = |share: Option<f32>| match share {
        Some(share) => format!("gave {:.0} %", 100.0 * share),
        None => "gave nothing".into(),
    };
    format!(
        "last answer  {} tokens, {:.3} nats each\n  working    {} (without it {:.3} nats)\n  long       \
         {} (without it {:.3} nats)\n",
        given.tokens,
        losses.loss,
        share(losses.working_share),
        losses.without_working,
        share(losses.long_share),
        losses.without_long
    )
}
