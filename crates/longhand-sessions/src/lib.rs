//! Many sessions of a model: continued in one batch, kept, found again and moved. It is
//! synchronous, and knows no HTTP.
//!
//! ```
//! use std::ops::ControlFlow;
//! use std::sync::{Arc, mpsc};
//!
//! use longhand_engine::{Cpu, Engine, GenerateOptions};
//! use longhand_model::{Model, Preset};
//! use longhand_sessions::{
//!     CacheSettings, Event, Host, HostSettings, Job, Keep, KeepSession, Name, Owner, Sessions,
//!     SessionsSettings, Start, StateCache, Work, Write,
//! };
//! use longhand_text::Tokenizer;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let tokenizer = Tokenizer::byte()?;
//! let model = Model::new(Preset::LonghandNano.config(tokenizer.vocab_size()), 1)?;
//! let engine = Engine::new(model, tokenizer)?;
//! let sessions = Sessions::in_memory(SessionsSettings::default())?;
//! let cache = StateCache::new(CacheSettings::default(), sessions.counters())?;
//! let cpu = Arc::new(Cpu::new(1));
//! let host = Host::start(&engine, &cpu, &sessions, &cache, None, HostSettings::default())?;
//!
//! // A turn of the session `diary`, which begins with it.
//! let (owner, name) = (Owner::new("key-1")?, Name::new("diary")?);
//! let options = GenerateOptions { max_tokens: 4, ..GenerateOptions::default() };
//! let work = Work::Write(Write { options, ..Write::default() });
//! let mut job = Job::new(owner.clone(), engine.tokenizer().encode("One day")?, work);
//! job.start = Start::Session { name: name.clone(), or_new: true };
//! job.keep = Keep::Session(KeepSession::new(name.clone()));
//! let (send, receive) = mpsc::channel();
//! let sink = Box::new(move |event| match send.send(event) {
//!     Ok(()) => ControlFlow::Continue(()),
//!     Err(_) => ControlFlow::Break(()),
//! });
//! let ticket = host.submit(job, sink)?;
//! for event in receive {
//!     match event {
//!         Event::Token { next, .. } => print!("{}", next.text),
//!         Event::Done(outcome) => assert_eq!(outcome.position, 7 + 4),
//!         Event::Failed(error) => return Err(error.into()),
//!         _ => {}
//!     }
//! }
//! drop(ticket);
//! assert_eq!(sessions.show(&owner, &name)?.position, 7 + 4);
//! # Ok(())
//! # }
//! ```
//!
//! The path of a job:
//! 1. [`job`]: what it reads, where it begins, what it writes and keeps;
//! 2. [`host`] accepts it, reads the state that it begins with, and hands it to the worker of one
//!    model, which decodes all streams together and reads prompts in fair pieces between two steps;
//! 3. [`cache`]: states at the beginnings of prompts, found by the hash chain of their tokens;
//! 4. [`sessions`]: named states of owners, hot in memory, durable in a database or in a server that
//!    several hosts share; [`sealed`]: states that the client keeps, encrypted;
//! 5. [`counters`]: what an operator watches.

mod backend;
pub mod cache;
mod chain;
mod clock;
pub mod counters;
pub mod error;
mod history;
pub mod host;
pub mod job;
mod lru;
#[cfg(test)]
mod model_test;
pub mod name;
mod record;
pub mod sealed;
pub mod sessions;
#[cfg(test)]
mod testing;
mod worker;

pub use cache::{CacheSettings, Sharing, StateCache};
pub use counters::{Counter, Counters, Gauge, Histogram};
pub use error::{JobError, SealError, SessionError};
pub use host::{Host, HostSettings, Load, Ticket};
pub use job::{
    Backlog, Event, Finish, Job, Keep, KeepSession, Noting, Outcome, Score, Sink, Start,
    TokenScore, Usage, Whole, Work, Write,
};
pub use name::{Name, Owner};
pub use record::{Checkpoint, SessionInfo, Used};
pub use sealed::{Sealer, SealingKey};
pub use sessions::{Quota, Report, Sessions, SessionsSettings};
