//! A conversation: a session whose text is turns, by a model's chat template.
//!
//! The session reads each turn once, as the template writes it behind the answer before, and then
//! writes the answer. What it has read is never rendered again, so a turn takes the same time however
//! long the conversation is. The session before each of the last turns is kept, so that the
//! conversation can go back; to an earlier turn it goes by reading all turns up to it again, behind
//! what the session had read before the first one.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use longhand_model::Cpu;
use longhand_text::chat::{AnswerEnd, ChatTemplate, Rendered};
use longhand_text::corpus::dialogues::{Message, Role};
use serde::{Deserialize, Serialize};

use crate::continuation::{FinishReason, GenerateOptions};
use crate::engine::{Engine, Reader};
use crate::error::EngineError;
use crate::generate::Generation;
use crate::inspect::{self, MeanContribution};
use crate::rules::Rules;
use crate::sampler::SamplerSettings;
use crate::session::Session;
use crate::snapshot::{Snapshot, SnapshotError};

/// Turns that a conversation can go back to without reading again.
pub const MOST_KEPT: usize = 32;
/// The version of the conversation in a snapshot.
const VERSION: u32 = 2;
/// The version whose snapshots do not say what was read before the first turn.
const WITHOUT_BEGINNING: u32 = 1;

/// A conversation with a model. A clone is a branch: each of the two continues alone.
#[derive(Clone)]
pub struct Chat {
    template: Arc<ChatTemplate>,
    end: AnswerEnd,
    session: Session,
    messages: Vec<Message>,
    /// For each turn of the user, the number of messages before it.
    turns: Vec<usize>,
    /// The session before the first turn, if there is one. None for a conversation of an older file,
    /// which does not hold it.
    beginning: Option<Session>,
    /// The sessions before the last turns, at most [`MOST_KEPT`].
    kept: VecDeque<Kept>,
    /// What the system is to say with the next turn.
    waiting: Option<String>,
    /// What each answer has to match.
    rules: Option<Arc<Rules>>,
}

/// The session before a turn, and what it has read in it.
#[derive(Clone)]
struct Kept {
    /// The turn, counted from 0.
    turn: usize,
    before: Session,
    /// The tokens of the turn up to the answer, then those of the answer.
    read: Vec<u32>,
    /// How many of them are not the answer's.
    prompt: usize,
}

/// Where the session of an earlier turn came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WayBack {
    /// It was kept, or there was nothing to take back.
    Kept,
    /// All turns up to it were read again, behind what was read before the first one.
    ReadAgain,
    /// All turns up to it were read again, behind nothing: the conversation is of an older file,
    /// which does not hold what was read before the first one.
    ReadWithoutBeginning,
}

/// What the model answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The text without white space at its ends.
    pub text: String,
    /// How many tokens it has.
    pub tokens: usize,
    /// Why it ended; none where it was interrupted.
    pub finish: Option<FinishReason>,
    /// Whether it matches the rules; none without rules.
    pub matches: Option<bool>,
}

/// A conversation as a snapshot keeps it beside the session.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    version: u32,
    /// The source of the chat template.
    template: String,
    messages: Vec<Message>,
    turns: Vec<usize>,
    waiting: Option<String>,
}

impl Chat {
    /// A conversation without turns.
    ///
    /// # Errors
    /// [`EngineError::Sampler`] for a setting out of range, [`EngineError::Chat`] for a template that
    /// writes no answers or nothing behind them.
    pub fn new(
        engine: &Arc<Engine>,
        template: Arc<ChatTemplate>,
        settings: SamplerSettings,
    ) -> Result<Self, EngineError> {
        Self::with_session(engine.session(settings)?, template)
    }

    /// A conversation without turns whose session may have read something before.
    ///
    /// # Errors
    /// [`EngineError::Chat`] as for [`Chat::new`].
    pub fn with_session(
        session: Session,
        template: Arc<ChatTemplate>,
    ) -> Result<Self, EngineError> {
        let end = template.answer_end()?;
        Ok(Self {
            template,
            end,
            session,
            messages: Vec::new(),
            turns: Vec::new(),
            beginning: None,
            kept: VecDeque::new(),
            waiting: None,
            rules: None,
        })
    }

    /// The session, which has read all turns but for what ends the last answer.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The session, to change how it samples.
    pub fn session_mut(&mut self) -> &mut Session {
        &mut self.session
    }

    /// The messages of all turns.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The number of turns: what the user said, each time with its answer.
    pub fn turns(&self) -> usize {
        self.turns.len()
    }

    /// Gives the model instructions, which it reads before the next turn of the user.
    pub fn instruct(&mut self, text: impl Into<String>) {
        self.waiting = Some(text.into());
    }

    /// Answers only what matches rules from the next turn on; none for anything. A snapshot
    /// does not hold the rules.
    pub fn follow(&mut self, rules: Option<Arc<Rules>>) {
        self.rules = rules;
    }

    /// The rules that the answers follow.
    pub fn rules(&self) -> Option<&Arc<Rules>> {
        self.rules.as_ref()
    }

    /// Reads what the user says and answers. `each` receives the answer piece by piece and may break
    /// it off. On an error the conversation is as it was.
    ///
    /// # Errors
    /// [`EngineError::Option`] for a text without anything but white space, [`EngineError::Chat`] if
    /// the template refuses the turn, [`EngineError::OtherModel`] for a reader of another model,
    /// [`EngineError::Rules`] for an answer that cannot follow the rules.
    pub fn ask(
        &mut self,
        reader: &mut Reader,
        text: &str,
        max_tokens: usize,
        each: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Answer, EngineError> {
        if text.trim().is_empty() {
            let (value, allowed) = ("empty".into(), "a text with at least one letter or sign");
            return Err(EngineError::Option { name: "the turn", value, allowed });
        }
        let system = self.waiting.iter().map(|text| Message::new(Role::System, text.as_str()));
        let said: Vec<Message> = system.chain([Message::new(Role::User, text)]).collect();
        let rendered = self.rendered(&said)?;
        let prompt = rendered.encode(self.session.engine().tokenizer())?.ids;
        let mut session = self.session.clone();
        session.read(reader, &prompt)?;
        let mut written = Written::default();
        let (count, mut read) = (prompt.len(), prompt);
        let mut generation = Generation::new(session, self.options(max_tokens))?;
        while let Some(next) = generation.next(reader)? {
            if next.is_read() {
                read.push(next.id);
            }
            if let ControlFlow::Break(()) = written.take(&next.text, each) {
                break;
            }
        }
        read.truncate(read.len() - generation.taken_back().min(read.len() - count));
        let (finish, matches) = (generation.finish_reason().cloned(), generation.matches_rules());
        let (text, tokens) = (written.text, read.len() - count);
        let session = generation.into_session();
        let before = std::mem::replace(&mut self.session, session);
        if self.turns.is_empty() {
            self.beginning = Some(before.clone());
        }
        self.keep(Kept { turn: self.turns.len(), before, read, prompt: count });
        self.turns.push(self.messages.len());
        self.messages.extend(said);
        self.messages.push(Message::new(Role::Assistant, text.as_str()));
        self.waiting = None;
        Ok(Answer { text, tokens, finish, matches })
    }

    /// Goes back to where `turns` turns were there. Random numbers go on, so that the same text
    /// may have another answer. Where the session is no longer kept, those turns are read again.
    ///
    /// # Errors
    /// [`EngineError::Option`] for more turns than there are, and the errors of [`Chat::ask`].
    pub fn back(&mut self, reader: &mut Reader, turns: usize) -> Result<WayBack, EngineError> {
        let Some(&messages) = self.turns.get(turns) else {
            if turns == self.turns.len() {
                return Ok(WayBack::Kept);
            }
            let (value, allowed) = (turns.to_string(), "at most the number of turns");
            return Err(EngineError::Option { name: "the turn to go back to", value, allowed });
        };
        let sampler = self.session.sampler();
        let kept = self.kept.iter().find(|kept| kept.turn == turns);
        let (mut session, way) = match kept {
            Some(kept) => (kept.before.clone(), WayBack::Kept),
            None => {
                let (beginning, way) = match &self.beginning {
                    Some(beginning) => (beginning.clone(), WayBack::ReadAgain),
                    None => {
                        let nothing = self.session.engine().session(sampler.settings)?;
                        (nothing, WayBack::ReadWithoutBeginning)
                    }
                };
                let session = self.read_again(reader, beginning.clone(), messages)?;
                // From here on, nothing else was read before the first turn.
                self.beginning = Some(beginning);
                (session, way)
            }
        };
        session.resume_sampler(sampler)?;
        self.session = session;
        self.kept.retain(|kept| kept.turn < turns);
        self.turns.truncate(turns);
        self.messages.truncate(messages);
        self.waiting = None;
        Ok(way)
    }

    /// What each memory gave to the last answer: means over its tokens, each predicted after all
    /// that was read before the turn. None where nothing was answered since the conversation began
    /// or was read from a file, or where the answer has no token.
    ///
    /// # Errors
    /// [`EngineError::NotNetwork`] for an n-gram model, which has no memories.
    pub fn contribution(&self, cpu: &Arc<Cpu>) -> Result<Option<MeanContribution>, EngineError> {
        match self.kept.back() {
            Some(Kept { before, read, prompt, .. }) => {
                inspect::contribution(before, cpu, read, *prompt)
            }
            None => Ok(None),
        }
    }

    /// The conversation in a snapshot: its session, and beside it the turns and the session before the
    /// first of them, if that had read anything.
    pub fn snapshot(&self) -> Snapshot {
        let is_of_older_file = self.beginning.is_none() && !self.turns.is_empty();
        let record = Record {
            version: if is_of_older_file { WITHOUT_BEGINNING } else { VERSION },
            template: self.template.source().to_owned(),
            messages: self.messages.clone(),
            turns: self.turns.clone(),
            waiting: self.waiting.clone(),
        };
        let mut snapshot = Snapshot::of(&self.session);
        // Plain data with string keys: serialising it cannot fail.
        snapshot.conversation = serde_json::to_string(&record).ok();
        // Without turns, the session itself is what they begin with.
        let beginning = self.beginning.as_ref().filter(|_| !self.turns.is_empty());
        let beginning = beginning.filter(|beginning| beginning.position() > 0);
        snapshot.beginning = beginning.map(|beginning| Box::new(Snapshot::of(beginning)));
        snapshot
    }

    /// The conversation of a snapshot. One without turns, such as the memory of a text, begins a
    /// conversation whose model remembers that text.
    ///
    /// # Errors
    /// The errors of [`Snapshot::session`]; [`SnapshotError::Template`] for a conversation by another
    /// template, [`SnapshotError::Form`] for turns that cannot be.
    pub fn of_snapshot(
        snapshot: &Snapshot,
        engine: &Arc<Engine>,
        template: &Arc<ChatTemplate>,
    ) -> Result<Self, EngineError> {
        let mut chat = Self::with_session(snapshot.session(engine)?, template.clone())?;
        let Some(record) = &snapshot.conversation else { return Ok(chat) };
        let form = |what: String| SnapshotError::Form(format!("its conversation: {what}"));
        let record: Record =
            serde_json::from_str(record).map_err(|error| form(error.to_string()))?;
        if ![WITHOUT_BEGINNING, VERSION].contains(&record.version) {
            return Err(form(format!("version {} is unknown", record.version)).into());
        }
        if record.template != template.source() {
            return Err(SnapshotError::Template.into());
        }
        let rising = record.turns.windows(2).all(|pair| pair[0] < pair[1]);
        let ends = record.turns.last().is_none_or(|&last| last < record.messages.len());
        let answered = |&turn: &usize| {
            let turn = record.messages[turn..].iter().map(|message| message.role);
            let mut turn = turn.skip_while(|&role| role == Role::System);
            turn.next() == Some(Role::User) && turn.next() == Some(Role::Assistant)
        };
        if !rising || !ends || !record.turns.iter().all(answered) {
            return Err(form("its turns do not fit its messages".into()).into());
        }
        if record.turns.is_empty() != record.messages.is_empty() {
            return Err(form("it has messages of no turn".into()).into());
        }
        chat.beginning = match &snapshot.beginning {
            Some(beginning) => Some(beginning.session(engine)?),
            None if record.version == WITHOUT_BEGINNING => None,
            None => Some(engine.session(snapshot.header.sampler.settings)?),
        };
        chat.messages = record.messages;
        chat.turns = record.turns;
        chat.waiting = record.waiting;
        Ok(chat)
    }

    /// The text that the session reads next.
    fn rendered(&self, said: &[Message]) -> Result<Rendered, EngineError> {
        if self.messages.is_empty() {
            return Ok(self.template.render(said, true)?);
        }
        // Some templates refuse a conversation that begins with an answer.
        let first = self.messages.iter().take(1).filter(|first| first.role == Role::System);
        let user = self.messages.iter().rev().find(|message| message.role == Role::User);
        let before: Vec<Message> = first.chain(user).cloned().collect();
        Ok(self.template.render_behind_answer(&before, said, true)?)
    }

    /// When an answer ends: any special token ends it, as what is said has none. A schema, an expression
    /// or a grammar ends it by itself, and may have the template's end within it.
    fn options(&self, max_tokens: usize) -> GenerateOptions {
        let special = self.session.engine().tokenizer().special_tokens();
        let ends_itself =
            self.rules.as_deref().is_some_and(|rules| !matches!(rules, Rules::Words(_)));
        let stop = match &self.end {
            AnswerEnd::Text(text) if !ends_itself => vec![text.clone()],
            AnswerEnd::Text(_) | AnswerEnd::SpecialToken => Vec::new(),
        };
        let ends = special.iter().map(|(_, id)| id).collect();
        let rules = self.rules.clone();
        GenerateOptions { max_tokens, stop, ends, rules, ..GenerateOptions::default() }
    }

    fn keep(&mut self, kept: Kept) {
        if self.kept.len() == MOST_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(kept);
    }

    /// The session that has read the first messages behind a beginning, up to the end of the last answer
    /// among them.
    fn read_again(
        &self,
        reader: &mut Reader,
        beginning: Session,
        messages: usize,
    ) -> Result<Session, EngineError> {
        let mut session = beginning;
        if let Some((answer, before)) = self.messages[..messages].split_last() {
            let tokenizer = self.session.engine().tokenizer();
            session.read(reader, &self.template.render(before, true)?.encode(tokenizer)?.ids)?;
            session.read(reader, &tokenizer.encode(&answer.content)?)?;
        }
        Ok(session)
    }
}

/// An answer as it is given out: without white space at its ends.
#[derive(Default)]
struct Written {
    text: String,
    /// White space that is given out if something follows it.
    space: String,
}

impl Written {
    fn take(
        &mut self,
        piece: &str,
        each: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.space.push_str(piece);
        let said = self.space.trim_end().len();
        let space = self.space.split_off(said);
        let mut said = std::mem::replace(&mut self.space, space);
        if self.text.is_empty() {
            said = said.trim_start().to_owned();
        }
        self.text.push_str(&said);
        // Without anything new, it is asked whether to go on.
        each(&said)
    }
}

#[cfg(test)]
mod tests;
