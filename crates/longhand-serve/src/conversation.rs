//! From messages to the tokens that a model has to read, and to what is noted beside a session.
//!
//! A session has read the last answer up to its last token. A further turn is what the template writes
//! behind an answer; nothing that was read is rendered again. So a turn costs its own tokens, however
//! long the conversation is. The messages are noted beside the session for people and for its
//! checkpoints, not for the model.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use longhand_sessions::{
    Job, Keep, Name, Noting, Owner, SessionError, Sessions, Start, Whole, Work, Write,
};
use longhand_text::chat::AnswerEnd;
use longhand_text::corpus::dialogues::{Message, Role};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::generation::{Said, blocking};
use crate::memory::{Hold, Memory};
use crate::models::Language;

/// The most bytes of messages that are noted beside a session; of more, the first ones are dropped.
const MOST_NOTED: usize = 256 << 10;

/// A message of a request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MessageField {
    /// Who speaks in this message.
    pub(crate) role: RoleField,
    /// What is said in it, as text.
    pub(crate) content: Content,
    /// Null, as an answer has it that is sent back.
    refusal: Option<()>,
    /// Null, as a client of OpenAI has it in an answer that is sent back.
    annotations: Option<()>,
    /// Null, as a client of OpenAI has it in an answer that is sent back.
    audio: Option<()>,
    /// Null, as a client of OpenAI has it in an answer that is sent back.
    function_call: Option<()>,
    /// Null, as a client of OpenAI has it in an answer that is sent back.
    tool_calls: Option<()>,
}

/// Who speaks in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RoleField {
    /// Whoever tells the assistant what it is to be.
    System,
    /// Another name for the same.
    Developer,
    /// The person who asks.
    User,
    /// The model that is meant.
    Assistant,
}

/// What is said, as one text or in parts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a text, or a list of parts of type text")]
pub(crate) enum Content {
    /// A text by itself.
    Text(String),
    /// Parts, which follow one another.
    Parts(Vec<Part>),
}

/// A part of a message. Images, sounds and files are not supported.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Part {
    /// Always `text`, or as a response names it.
    #[serde(rename = "type")]
    pub(crate) kind: PartKind,
    /// The text of the part.
    pub(crate) text: String,
}

/// The kind of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PartKind {
    /// A text of a chat.
    Text,
    /// A text for a response.
    InputText,
    /// A text of a response.
    OutputText,
}

impl Content {
    pub(crate) fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Parts(parts) => parts.into_iter().map(|part| part.text).collect(),
        }
    }
}

impl From<MessageField> for Message {
    fn from(message: MessageField) -> Self {
        Message::new(message.role.into(), message.content.into_text())
    }
}

impl From<RoleField> for Role {
    fn from(role: RoleField) -> Self {
        match role {
            RoleField::System | RoleField::Developer => Role::System,
            RoleField::User => Role::User,
            RoleField::Assistant => Role::Assistant,
        }
    }
}

/// What is noted beside a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Note {
    /// The messages that it has read and written; the first ones may be missing.
    pub(crate) messages: Vec<Message>,
    /// After each answer, the number of messages and of tokens.
    pub(crate) turns: Vec<NotedTurn>,
}

/// A place that a session can go back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NotedTurn {
    /// Messages up to there.
    pub(crate) messages: usize,
    /// Tokens up to there.
    pub(crate) position: u64,
}

impl Note {
    /// The note of a session that is at a position; an empty one where it has none, or one of another
    /// program. A server that was killed while it took a session back may have left later turns in it.
    pub(crate) fn of(
        sessions: &Sessions,
        owner: &Owner,
        name: &Name,
        position: u64,
    ) -> Result<Self, SessionError> {
        let note = sessions.note(owner, name)?.and_then(|bytes| Self::from_bytes(&bytes));
        let note = note.unwrap_or_default();
        let is_later = note.turns.last().is_some_and(|turn| turn.position > position);
        Ok(if is_later { note.at(position) } else { note })
    }

    /// A note as it is kept; none if another program wrote it.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        // Plain data with string keys: serialising it cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The note that came with a session from outside; none where its turns do not fit its messages
    /// or the session's position.
    pub(crate) fn taken_in(bytes: &[u8], position: u64) -> Option<Self> {
        let mut note = Self::from_bytes(bytes)?;
        let rising = note.turns.windows(2).all(|pair| {
            pair[0].messages <= pair[1].messages && pair[0].position < pair[1].position
        });
        let fits = note
            .turns
            .iter()
            .all(|turn| turn.messages <= note.messages.len() && turn.position <= position);
        note.bound();
        (rising && fits).then_some(note)
    }

    /// The note of the session as it was at a position.
    pub(crate) fn at(mut self, position: u64) -> Self {
        self.turns.retain(|turn| turn.position <= position);
        self.messages.truncate(self.turns.last().map_or(0, |turn| turn.messages));
        self
    }

    /// Drops the first messages where all together are too long; instructions stay.
    fn bound(&mut self) {
        let mut bytes: usize = self.messages.iter().map(|message| message.content.len()).sum();
        while bytes > MOST_NOTED && self.messages.len() > 2 {
            let at = usize::from(self.messages[0].role == Role::System);
            bytes -= self.messages.remove(at).content.len();
            for turn in &mut self.turns {
                turn.messages = turn.messages.saturating_sub(1);
            }
        }
    }
}

/// A turn that is ready to be read.
pub(crate) struct Turn {
    pub(crate) start: Start,
    pub(crate) keep: Keep,
    /// The tokens to read.
    pub(crate) ids: Vec<u32>,
    /// Whether a sampler of the session's own goes on.
    pub(crate) goes_on: bool,
    /// Reads the whole text where the session is gone when the job is given in.
    whole: Option<Whole>,
    /// Whether that was done.
    is_fresh: Arc<AtomicBool>,
    /// What is noted beside the session, but for the answer.
    note: Option<Note>,
    /// Nobody else may advance the session until the turn is dropped.
    _hold: Option<Hold>,
}

impl Turn {
    /// The turn of a conversation. It may wait for a disk.
    ///
    /// # Errors
    /// What the template or the store refuses; [`ApiError::Conflict`] for a session in use.
    pub(crate) async fn prepare(
        app: &App,
        caller: &Caller,
        language: &Arc<Language>,
        messages: Vec<Message>,
        memory: Memory,
    ) -> Result<Self, ApiError> {
        if messages.is_empty() {
            return Err(ApiError::invalid("messages", "`messages` is empty: give at least one"));
        }
        let (app, owner, language) = (app.clone(), caller.owner.clone(), language.clone());
        blocking(move || Self::of(&app, owner, &language, messages, memory)).await
    }

    fn of(
        app: &App,
        owner: Owner,
        language: &Arc<Language>,
        messages: Vec<Message>,
        memory: Memory,
    ) -> Result<Self, ApiError> {
        let (name, hold) = match &memory {
            Memory::Session(name) => (name.clone(), app.in_use().take(&owner, name)?),
            Memory::Prefix(name) => match app.in_use().take(&owner, name) {
                Ok(hold) => (name.clone(), hold),
                // Requests with one key may come together: one has the session, the others none.
                Err(_) => return Self::unnamed(app, language, &messages, &Memory::None),
            },
            Memory::None | Memory::Sealed(_) => {
                return Self::unnamed(app, language, &messages, &memory);
            }
        };
        let is_named = matches!(memory, Memory::Session(_));
        let (model, mut note) = match known(app.sessions(), &owner, &name) {
            Ok((model, note)) => (Some(model), note),
            Err(SessionError::NotFound { .. }) => (None, Note::default()),
            // What a key names only spares work.
            Err(_) if !is_named => (None, Note::default()),
            Err(error) => return Err(error.into()),
        };
        let given = messages.len();
        let new = new_messages(&note.messages, &messages);
        // The session has read all but the new messages, whatever tokens their text would give now.
        let follows = new.len() < given && model.as_deref() == Some(language.engine().model_hash());
        let is_fresh = Arc::<AtomicBool>::default();
        let spares_work = follows && !is_named && !note.messages.is_empty();
        let whole_text = spares_work.then(|| whole_later(language, messages.clone(), &is_fresh));
        let (start, ids) = match is_named || follows {
            true if note.messages.is_empty() => (memory.start(), whole(language, &new)?),
            true => {
                let start = Start::Session { name: name.clone(), or_new: is_named };
                (start, behind_answer(language, &note.messages, &new)?)
            }
            false => {
                note = Note::default();
                (memory.start(), whole(language, &messages)?)
            }
        };
        note.messages.extend(if is_named || follows { new } else { messages });
        let keep = memory.keep(&app.limits());
        let goes_on = is_named && model.is_some();
        let (note, _hold) = (Some(note), Some(hold));
        Ok(Self { start, keep, ids, goes_on, whole: whole_text, is_fresh, note, _hold })
    }

    /// A turn without a session of a name.
    fn unnamed(
        app: &App,
        language: &Language,
        messages: &[Message],
        memory: &Memory,
    ) -> Result<Self, ApiError> {
        let ids = match memory {
            Memory::Sealed(Some(_)) => behind_answer(language, &[], messages)?,
            _ => whole(language, messages)?,
        };
        let (start, keep) = (memory.start(), memory.keep(&app.limits()));
        let goes_on = memory.goes_on();
        let (whole, is_fresh, note, _hold) = (None, Arc::default(), None, None);
        Ok(Self { start, keep, ids, goes_on, whole, is_fresh, note, _hold })
    }

    /// The job that reads the turn and writes the answer, and where what it says is to be heard. `self`
    /// is left to be dropped once the job has ended.
    pub(crate) fn job(&mut self, caller: &Caller, work: Write) -> (Job, Option<Said>) {
        let ids = std::mem::take(&mut self.ids);
        let mut job = Job::new(caller.owner.clone(), ids, Work::Write(work));
        job.start = std::mem::replace(&mut self.start, Start::Fresh);
        job.keep = std::mem::replace(&mut self.keep, Keep::Nothing);
        job.whole = self.whole.take();
        let (noting, said) = self.noting().unzip();
        job.noting = noting;
        (job, said)
    }

    /// Notes the answer in one commit with the state that has read it, from what is heard of it; given
    /// once, and not at all where nothing is noted.
    pub(crate) fn noting(&mut self) -> Option<(Noting, Said)> {
        let mut note = self.note.take()?;
        let said = Said::default();
        let (heard, is_fresh) = (said.clone(), self.is_fresh.clone());
        let noting = move |position: u64| {
            if is_fresh.load(Ordering::Relaxed) {
                // The turns before were those of the session that is gone.
                note.turns.clear();
            }
            let answer = heard.lock().unwrap_or_else(PoisonError::into_inner).clone();
            note.messages.push(Message::new(Role::Assistant, answer));
            note.bound();
            note.turns.push(NotedTurn { messages: note.messages.len(), position });
            note.to_bytes()
        };
        Some((Box::new(noting), said))
    }
}

/// The model of a session, and what is noted beside it.
fn known(sessions: &Sessions, owner: &Owner, name: &Name) -> Result<(String, Note), SessionError> {
    let info = sessions.show(owner, name)?;
    let note = Note::of(sessions, owner, name, info.position)?;
    Ok((info.model, note))
}

/// The messages that a session has not read: all, or those behind its own where a client sends the
/// whole conversation each time.
fn new_messages(noted: &[Message], messages: &[Message]) -> Vec<Message> {
    let is_answer = |message: &Message| message.role == Role::Assistant;
    if !noted.iter().any(is_answer) || !messages.starts_with(noted) {
        return messages.to_vec();
    }
    let mut new = &messages[noted.len()..];
    // An answer that was read and not noted: earlier versions noted it in a commit of its own.
    if let ([first, rest @ ..], Some(false)) = (new, noted.last().map(is_answer))
        && is_answer(first)
    {
        new = rest;
    }
    match new.is_empty() {
        true => messages.to_vec(),
        false => new.to_vec(),
    }
}

/// The tokens of a whole conversation, up to where the answer begins.
pub(crate) fn whole(language: &Language, messages: &[Message]) -> Result<Vec<u32>, ApiError> {
    let rendered = language.template.render(messages, true)?;
    Ok(rendered.encode(language.engine().tokenizer())?.ids)
}

/// Gives the tokens of a whole conversation once they are needed, and says so.
fn whole_later(
    language: &Arc<Language>,
    messages: Vec<Message>,
    is_used: &Arc<AtomicBool>,
) -> Whole {
    let (language, is_used) = (language.clone(), is_used.clone());
    Box::new(move || {
        is_used.store(true, Ordering::Relaxed);
        whole(&language, &messages).ok()
    })
}

/// As [`whole`], away from the threads that serve connections: a long conversation takes its time.
///
/// # Errors
/// What the template or the tokeniser refuses.
pub(crate) async fn whole_apart(
    language: &Arc<Language>,
    messages: Vec<Message>,
) -> Result<Vec<u32>, ApiError> {
    let language = language.clone();
    blocking(move || whole(&language, &messages)).await
}

/// The tokens of what follows an answer, up to where the next one begins.
pub(crate) fn behind_answer(
    language: &Language,
    noted: &[Message],
    new: &[Message],
) -> Result<Vec<u32>, ApiError> {
    // Some templates refuse a conversation that begins with an answer.
    let first = noted.iter().take(1).filter(|first| first.role == Role::System);
    let user = noted.iter().rev().find(|message| message.role == Role::User);
    let asked = user.cloned().unwrap_or_else(|| Message::new(Role::User, "?"));
    let before: Vec<Message> = first.cloned().chain([asked]).collect();
    let rendered = language.template.render_behind_answer(&before, new, true)?;
    Ok(rendered.encode(language.engine().tokenizer())?.ids)
}

/// Has an answer end where the template ends one: with any special token, as what is said has none, or
/// with a text. A grammar ends an answer by itself, and may have that text within it.
pub(crate) fn end_answer(language: &Language, work: &mut Write) {
    let special = language.engine().tokenizer().special_tokens();
    work.options.ends.extend(special.iter().map(|(_, id)| id));
    if let (AnswerEnd::Text(text), None) = (&language.end, &work.options.rules) {
        work.options.stop.push(text.clone());
    }
}

/// A time to live in seconds as a request gives it.
pub(crate) fn ttl(seconds: Option<u64>) -> Option<Duration> {
    seconds.map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use longhand_engine::GenerateOptions;
    use serde_json::json;

    use super::*;
    use crate::generation::Running;
    use crate::memory::MemoryFields;
    use crate::testing::Server;

    fn said(words: &[&str]) -> Vec<Message> {
        let roles = [Role::User, Role::Assistant].into_iter().cycle();
        roles.zip(words).map(|(role, word)| Message::new(role, *word)).collect()
    }

    #[test]
    fn a_whole_conversation_is_told_from_a_new_turn() {
        let noted = said(&["a", "b"]);
        assert_eq!(new_messages(&noted, &said(&["a", "b", "c"])), said(&["c"]));
        assert_eq!(new_messages(&noted, &said(&["a"])), said(&["a"]));
        assert_eq!(new_messages(&noted, &said(&["a", "x", "c"])).len(), 3);
        assert_eq!(new_messages(&[], &said(&["a"])), said(&["a"]));
        // The last answer was not noted.
        let noted = said(&["a", "b", "c"]);
        let all = said(&["a", "b", "c", "d", "e"]);
        assert_eq!(new_messages(&noted, &all), all[4..]);
    }

    /// The session of a key goes between the look at it and the job.
    #[tokio::test]
    async fn a_turn_goes_on_without_the_session_that_spared_its_reading() {
        let server = Server::new();
        let chat = json!({"model": "nano", "prompt_cache_key": "k", "temperature": 0,
            "max_tokens": 4, "messages": [{"role": "user", "content": "hi"}]});
        let (_, first) = server.post("/v1/chat/completions", chat).await;
        let answer = first["choices"][0]["message"]["content"].as_str().unwrap();
        let messages = said(&["hi", answer, "and you?"]);
        let caller = server.app.keys().caller(None).unwrap();
        let language = server.app.models().unwrap().language("nano").unwrap().clone();
        let prompt_cache_key = Some("k".to_owned());
        let memory = MemoryFields { prompt_cache_key, ..MemoryFields::default() };
        let memory = Memory::of(&memory).unwrap();
        let turn = Turn::prepare(&server.app, &caller, &language, messages.clone(), memory);
        let mut turn = turn.await.unwrap();
        let Start::Session { name, or_new: false } = turn.start.clone() else {
            panic!("{:?}", turn.start);
        };
        let sessions = server.app.sessions();
        sessions.erase(&caller.owner, &name).unwrap();
        let options = GenerateOptions { max_tokens: 2, ..GenerateOptions::default() };
        let (job, heard) = turn.job(&caller, Write { options, ..Write::default() });
        let running = Running::start_noted(&server.app, &caller, &language, job, heard);
        let outcome = running.await.unwrap().finish().await.unwrap().outcome;
        assert_eq!(outcome.usage.prompt, whole(&language, &messages).unwrap().len() as u64);
        let note = Note::of(sessions, &caller.owner, &name, outcome.position).unwrap();
        assert_eq!((note.messages.len(), note.turns.len()), (4, 1));
    }

    #[test]
    fn a_note_goes_back_and_stays_bounded() {
        let turns =
            vec![NotedTurn { messages: 2, position: 10 }, NotedTurn { messages: 4, position: 20 }];
        let note = Note { messages: said(&["a", "b", "c", "d"]), turns };
        assert_eq!(note.clone().at(20), note);
        assert_eq!(Note::taken_in(&note.to_bytes(), 20), Some(note.clone()));
        assert_eq!(Note::taken_in(&note.to_bytes(), 19), None);
        assert_eq!(Note::taken_in(b"{", 20), None);
        let turns = vec![NotedTurn { messages: 5, position: 10 }];
        assert_eq!(Note::taken_in(&Note { turns, ..note.clone() }.to_bytes(), 20), None);
        assert_eq!(note.clone().at(10).messages, said(&["a", "b"]));
        assert_eq!(note.at(9), Note::default());
        let long = "x".repeat(MOST_NOTED / 2);
        let mut messages = vec![Message::new(Role::System, "be short")];
        messages.extend(said(&[&long, &long, &long, "end"]));
        let mut note = Note { messages, turns: vec![NotedTurn { messages: 5, position: 9 }] };
        note.bound();
        assert_eq!(note.messages[0].content, "be short");
        assert_eq!(note.messages.last().unwrap().content, "end");
        assert_eq!(note.turns[0].messages, note.messages.len());
    }
}
