//! A chat template, compiled.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::Path;

use minijinja::value::Value;
use minijinja::{Environment, Error, ErrorKind};

use super::config::{CHAT_TEMPLATE_FILE, TOKENIZER_CONFIG_FILE, TokenizerConfig};
use super::environment::{Raised, environment, is_space};
use super::fault::ChatFault;
use super::generation::{VARIABLES, replaced};
use super::marks::Marks;
use super::rendered::Rendered;
use super::{OWN_TEMPLATE, PLAIN_TEMPLATE, ROLE_TOKENS};
use crate::corpus::dialogues::{Message, Role};
use crate::error::TextError;
use crate::tokenizer::{SpecialTokens, Tokenizer};

/// The template's name in the engine's messages.
const NAME: &str = "chat_template";
/// Bytes of a template that are read.
const LONGEST: usize = 1 << 20;
/// Work that a template may do: instructions, and each 64 bytes that it writes or reads; about a
/// second. The text is at most 64 times as long.
const WORK: u64 = 1_000_000;

/// A template that makes a text of a conversation. It serves one tokeniser.
#[derive(Clone)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    /// Whether the template itself marks what the assistant says.
    marks_answers: bool,
    /// The names by which templates call special tokens, such as `bos_token`.
    tokens: BTreeMap<String, String>,
    special: SpecialTokens,
}

/// What ends an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerEnd {
    /// A special token: the first one that is written.
    SpecialToken,
    /// A text, which is not part of the answer.
    Text(String),
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ChatTemplate").field("source", &self.source).finish_non_exhaustive()
    }
}

impl ChatTemplate {
    /// Compiles a template for a tokeniser. `config` names the special tokens that it may call.
    ///
    /// # Errors
    /// [`ChatFault::Template`] for a template that is no Jinja or too long.
    pub fn new(
        source: &str,
        config: &TokenizerConfig,
        tokenizer: &Tokenizer,
    ) -> Result<Self, ChatFault> {
        if source.len() > LONGEST {
            let reason = format!("it has {} bytes, but at most {LONGEST} are read", source.len());
            return Err(ChatFault::Template { reason });
        }
        let (jinja, marks_answers) = replaced(source);
        let fault = |error: Error| ChatFault::Template { reason: error.to_string() };
        let mut environment = environment().map_err(fault)?;
        environment.add_template_owned(NAME, jinja).map_err(fault)?;
        Ok(Self {
            environment,
            source: source.to_owned(),
            marks_answers,
            tokens: config.tokens.clone(),
            special: tokenizer.special_tokens().clone(),
        })
    }

    /// Our own template, for a tokeniser with the special tokens [`ROLE_TOKENS`].
    ///
    /// # Errors
    /// [`ChatFault::NoToken`] for a tokeniser without them.
    pub fn own(tokenizer: &Tokenizer) -> Result<Self, ChatFault> {
        let special = tokenizer.special_tokens();
        match ROLE_TOKENS.iter().find(|name| special.id(name).is_none()) {
            Some(&missing) => Err(ChatFault::NoToken(missing.into())),
            None => Self::new(OWN_TEMPLATE, &TokenizerConfig::own(tokenizer), tokenizer),
        }
    }

    /// A template of lines, `User: …`, for any tokeniser.
    ///
    /// # Errors
    /// None in practice: the template is the program's own.
    pub fn plain(tokenizer: &Tokenizer) -> Result<Self, ChatFault> {
        Self::new(PLAIN_TEMPLATE, &TokenizerConfig::default(), tokenizer)
    }

    /// The template of a model folder, in `chat_template.jinja` or `tokenizer_config.json`; none
    /// where it has none.
    ///
    /// # Errors
    /// [`TextError::Io`] for a file that cannot be read, [`TextError::Chat`] for one
    /// that cannot be used.
    pub fn of_folder(folder: &Path, tokenizer: &Tokenizer) -> Result<Option<Self>, TextError> {
        let path = folder.join(TOKENIZER_CONFIG_FILE);
        let config = match path.is_file() {
            true => TokenizerConfig::load(&path)?,
            false => TokenizerConfig::default(),
        };
        let beside = folder.join(CHAT_TEMPLATE_FILE);
        let (path, source) = match (beside.is_file(), &config.chat_template) {
            (true, _) => (beside.clone(), Some(fs_err::read_to_string(&beside)?)),
            (false, source) => (path, source.clone()),
        };
        let Some(source) = source else { return Ok(None) };
        let named = |fault| TextError::Chat { name: path.display().to_string(), fault };
        Self::new(&source, &config, tokenizer).map(Some).map_err(named)
    }

    /// The Jinja source, as its file has it.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The special tokens by the names that the template calls, such as `eos_token`.
    pub fn tokens(&self) -> &BTreeMap<String, String> {
        &self.tokens
    }

    /// The text of a conversation; with `answering` it ends where the assistant is to go on.
    ///
    /// # Errors
    /// [`ChatFault`] if the template refuses the turns, fails, or could be misled by them.
    pub fn render(&self, messages: &[Message], answering: bool) -> Result<Rendered, ChatFault> {
        let marks = self.marks(messages)?;
        self.render_marked(messages, answering, marks)
    }

    /// The text that follows an answer of the assistant: what ends it, further turns, and, with
    /// `answering`, the beginning of the next answer. `before` are turns before the answer, of which
    /// the template may want some; their text is left out.
    ///
    /// # Errors
    /// As [`Self::render`], and [`ChatFault::NoAnswer`] for a template that leaves answers out.
    pub fn render_behind_answer(
        &self,
        before: &[Message],
        further: &[Message],
        answering: bool,
    ) -> Result<Rendered, ChatFault> {
        let marks = self.marks(before.iter().chain(further))?;
        let answer = Message::new(Role::Assistant, marks.answer);
        let messages: Vec<Message> =
            before.iter().chain([&answer]).chain(further).cloned().collect();
        let rendered = self.render_marked(&messages, answering, marks)?;
        let at = rendered.text.rfind(marks.answer).ok_or(ChatFault::NoAnswer)?;
        Ok(rendered.split_off(at + marks.answer.len_utf8()))
    }

    /// What ends an answer by this template.
    ///
    /// # Errors
    /// As [`Self::render_behind_answer`], and [`ChatFault::NoEnd`] where nothing follows an answer.
    pub fn answer_end(&self) -> Result<AnswerEnd, ChatFault> {
        let question = Message::new(Role::User, "?");
        let end = self.render_behind_answer(&[question], &[], false)?;
        if end.special.first().is_some_and(|first| end.text[..first.start].chars().all(is_space)) {
            return Ok(AnswerEnd::SpecialToken);
        }
        let line = end.text.find('\n').map_or(end.text.len(), |at| at + 1);
        match &end.text[..line] {
            "" => Err(ChatFault::NoEnd),
            line => Ok(AnswerEnd::Text(line.to_owned())),
        }
    }

    fn marks<'a>(
        &self,
        messages: impl IntoIterator<Item = &'a Message>,
    ) -> Result<Marks, ChatFault> {
        let contents = messages.into_iter().map(|message| message.content.as_str());
        let tokens = self.tokens.values().map(String::as_str);
        let names = self.special.iter().map(|(name, _)| name);
        Marks::beside(contents.chain(tokens).chain(names).chain([self.source.as_str()]))
    }

    fn render_marked(
        &self,
        messages: &[Message],
        answering: bool,
        marks: Marks,
    ) -> Result<Rendered, ChatFault> {
        let text = self.written(messages, answering, [None; 2])?;
        let marked: Vec<Message> = messages
            .iter()
            .map(|message| {
                let mut content = marks.guarded(&message.content, &self.special);
                if message.role == Role::Assistant && !self.marks_answers {
                    content = marks.spoken(&content);
                }
                Message { role: message.role, content }
            })
            .collect();
        let around = [marks.begin, marks.end].map(|mark| self.marks_answers.then_some(mark));
        let marked = self.written(&marked, answering, around)?;
        let unmarked = marks.removed(&marked, &self.special);
        if unmarked.text != text {
            return Err(self.suspect(messages).map_or(ChatFault::Measures, ChatFault::Depends));
        }
        let mut spoken = unmarked.spoken;
        if !self.marks_answers {
            for span in &mut spoken {
                span.end = end_of_turn(&text, span.end, &unmarked.special);
            }
        }
        Ok(Rendered { text, special: unmarked.special, spoken })
    }

    /// The special token whose characters a message has, if there is one.
    fn suspect(&self, messages: &[Message]) -> Option<String> {
        let has = |character: Option<char>| {
            let holds = |message: &Message| character.is_some_and(|c| message.content.contains(c));
            messages.iter().any(holds)
        };
        let mut names = self.special.iter().map(|(name, _)| name);
        let found = names.find(|name| has(name.chars().next()) || has(name.chars().next_back()));
        found.map(str::to_owned)
    }

    /// The text that the template writes. `around` is written around what the assistant says, where
    /// the template marks it.
    fn written(
        &self,
        messages: &[Message],
        answering: bool,
        around: [Option<char>; 2],
    ) -> Result<String, ChatFault> {
        let turn = |message: &Message| {
            Value::from_pairs([
                ("role", Value::from(message.role.name())),
                ("content", Value::from(message.content.as_str())),
            ])
        };
        let turns: Vec<Value> = messages.iter().map(turn).collect();
        let text = |mark: Option<char>| Value::from(mark.map(String::from).unwrap_or_default());
        let own = [
            ("messages", Value::from(turns)),
            ("add_generation_prompt", Value::from(answering)),
            ("tools", Value::from(())),
            ("documents", Value::from(())),
            (VARIABLES[0], text(around[0])),
            (VARIABLES[1], text(around[1])),
        ];
        let tokens =
            self.tokens.iter().map(|(key, token)| (key.as_str(), Value::from(token.as_str())));
        let context = Value::from_pairs(tokens.chain(own).collect::<Vec<_>>());
        let bytes: usize = messages.iter().map(|message| message.content.len()).sum();
        // The environment is cheap to copy: its parts are shared.
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(WORK + bytes as u64 + 200 * messages.len() as u64));
        let template = environment.get_template(NAME).map_err(|error| fault(&error))?;
        template.render(context).map_err(|error| fault(&error))
    }
}

/// The words of an error, without the engine's own where the template raised it.
fn fault(error: &Error) -> ChatFault {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        if let Some(Raised(words)) = inner.downcast_ref() {
            return ChatFault::Refuses(words.clone());
        }
        let engine = inner.downcast_ref::<Error>();
        if engine.is_some_and(|error| error.kind() == ErrorKind::OutOfFuel) {
            return ChatFault::TooLong;
        }
        cause = inner.source();
    }
    ChatFault::Fails { reason: error.to_string() }
}

/// Where a turn ends that ends to speak at `at`: behind a special token that follows, or a line break.
fn end_of_turn(text: &str, at: usize, special: &[Range<usize>]) -> usize {
    let next = special.iter().find(|name| name.start >= at);
    match next.filter(|name| text[at..name.start].chars().all(is_space)) {
        Some(name) => name.end,
        None => at + usize::from(text[at..].starts_with('\n')),
    }
}
