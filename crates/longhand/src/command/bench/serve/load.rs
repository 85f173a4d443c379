//! When requests are sent, and what they say.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use longhand_model::split_mix64;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::client::{Answer, Connection};
use super::sample::{End, Sample};
use super::target::Target;
use crate::interrupt::STOP;

/// The most requests of an open loop that wait for their answers.
pub(super) const MOST_OPEN: usize = 4096;
/// What prompts are made of.
const WORDS: [&str; 16] = [
    "river", "stone", "letter", "garden", "winter", "paper", "window", "morning", "story", "bread",
    "mountain", "silver", "evening", "market", "little", "road",
];

/// What is sent, how often and for how long.
#[derive(Clone, Debug)]
pub(super) struct Load {
    pub(super) arrivals: Arrivals,
    /// How many requests are sent at most.
    pub(super) requests: usize,
    /// How long requests are sent.
    pub(super) time: Duration,
    /// How long an answer may take.
    pub(super) timeout: Duration,
    /// Whether the server keeps the conversations.
    pub(super) sessions: bool,
    /// Turns of a conversation.
    pub(super) turns: usize,
    /// Words of a turn.
    pub(super) words: usize,
    /// Tokens of an answer.
    pub(super) tokens: usize,
    pub(super) stream: bool,
    pub(super) seed: u64,
}

/// When the next request is sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Arrivals {
    /// When a client's last one is answered.
    Closed {
        /// How many clients there are.
        clients: usize,
    },
    /// At random, independent times.
    Open {
        /// Requests a second on average.
        rate: f64,
    },
}

/// What came of a load.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) samples: Vec<Sample>,
    /// From the first request to the last answer.
    pub(super) time: Duration,
    /// Requests of an open loop that were due while [`MOST_OPEN`] waited.
    pub(super) waiting_too_long: usize,
}

/// One conversation, which goes on turn by turn.
struct Conversation {
    number: u64,
    turn: usize,
    /// All that was said so far.
    said: String,
    /// The session's name, where the server keeps it.
    session: Option<String>,
}

/// What the tasks of a load share.
struct Shared {
    load: Load,
    target: Target,
    model: String,
    /// Tells the sessions of this run from those of any other.
    run: u64,
    /// Requests that were sent.
    sent: AtomicUsize,
    /// Conversations that were begun.
    begun: AtomicUsize,
    until: Instant,
    /// Names of the sessions that the server holds for this run.
    kept: Mutex<Vec<String>>,
}

impl Load {
    /// Sends the load and waits for its last answer. Sessions of the run are erased at its end.
    pub(super) async fn run(&self, target: &Target, model: &str) -> Run {
        let began = Instant::now();
        let shared = Arc::new(Shared {
            load: self.clone(),
            target: target.clone(),
            model: model.to_owned(),
            run: split_mix64(self.seed ^ u64::from(std::process::id())) ^ nanoseconds(),
            sent: AtomicUsize::new(0),
            begun: AtomicUsize::new(0),
            until: began + self.time,
            kept: Mutex::default(),
        });
        let mut run = match self.arrivals {
            Arrivals::Closed { clients } => closed(&shared, clients).await,
            Arrivals::Open { rate } => open(&shared, rate).await,
        };
        run.time = began.elapsed();
        erase(&shared).await;
        run
    }
}

/// Each client sends its next request when the last one is answered.
async fn closed(shared: &Arc<Shared>, clients: usize) -> Run {
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let shared = shared.clone();
        tasks.spawn(async move {
            let (mut connection, mut samples) = (Connection::default(), Vec::new());
            let mut talk = None;
            while Instant::now() < shared.until && shared.claim() {
                let mut now = talk.take().unwrap_or_else(|| shared.converse());
                let sample = shared.turn(&mut connection, &mut now, Instant::now()).await;
                let lost = sample.end == End::Unreachable;
                samples.push(sample);
                talk = (now.turn < shared.load.turns).then_some(now);
                if lost {
                    // A server that is gone is not asked a thousand times a second.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            samples
        });
    }
    Run { samples: tasks.join_all().await.into_iter().flatten().collect(), ..Run::default() }
}

/// Requests come at the times of a Poisson process, whether or not others are answered.
async fn open(shared: &Arc<Shared>, rate: f64) -> Run {
    // Connections and conversations that nobody uses now.
    let idle: Arc<Mutex<(Vec<Connection>, VecDeque<Conversation>)>> = Arc::default();
    let (mut tasks, mut run) = (JoinSet::new(), Run::default());
    let mut due = shared.until - shared.load.time;
    for arrival in 0u64.. {
        due += gap(shared.load.seed, arrival, rate);
        // Arrivals are those of the seed, however far behind this machine is.
        if due >= shared.until || !shared.claim() {
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        if tasks.len() >= MOST_OPEN {
            run.waiting_too_long += 1;
            continue;
        }
        let (shared, idle) = (shared.clone(), idle.clone());
        tasks.spawn(async move {
            let (connection, talk) = {
                let mut idle = lock(&idle);
                (idle.0.pop(), idle.1.pop_front())
            };
            let mut connection = connection.unwrap_or_default();
            let mut talk = talk.unwrap_or_else(|| shared.converse());
            let sample = shared.turn(&mut connection, &mut talk, due).await;
            let mut idle = lock(&idle);
            idle.0.push(connection);
            if talk.turn < shared.load.turns {
                idle.1.push_back(talk);
            }
            sample
        });
        while let Some(Ok(sample)) = tasks.try_join_next() {
            run.samples.push(sample);
        }
    }
    run.samples.extend(tasks.join_all().await);
    run
}

impl Shared {
    /// Whether one more request is to be sent; it counts as sent then.
    fn claim(&self) -> bool {
        !STOP.load(Ordering::Relaxed)
            && self.sent.fetch_add(1, Ordering::Relaxed) < self.load.requests
    }

    fn converse(&self) -> Conversation {
        let number = self.begun.fetch_add(1, Ordering::Relaxed) as u64;
        let session = self.load.sessions.then(|| format!("bench-{:016x}-{number}", self.run));
        Conversation { number, turn: 0, said: String::new(), session }
    }

    /// Says a conversation's next turn.
    async fn turn(
        &self,
        connection: &mut Connection,
        talk: &mut Conversation,
        due: Instant,
    ) -> Sample {
        let seed = [self.load.seed, talk.number, talk.turn as u64]
            .into_iter()
            .fold(0, |state: u64, x| split_mix64(state.wrapping_add(x)));
        let words = words(seed, self.load.words);
        let body = self.body(talk, &words, seed);
        let Answer { sample, text } =
            connection.ask(&self.target, "/v1/completions", &body, due).await;
        talk.turn += 1;
        match &talk.session {
            None => talk.said = talk.said.clone() + &words + &text,
            Some(session) if talk.turn == 1 => lock(&self.kept).push(session.clone()),
            Some(_) => (),
        }
        sample
    }

    fn body(&self, talk: &Conversation, words: &str, seed: u64) -> Value {
        let mut body = json!({
            "model": self.model,
            "prompt": format!("{}{words}", talk.said),
            "max_tokens": self.load.tokens,
            "temperature": 1.0,
            "seed": seed >> 33,
            "stream": self.load.stream,
        });
        if self.load.stream {
            body["stream_options"] = json!({ "include_usage": true });
        }
        if let Some(session) = &talk.session {
            body["session_id"] = json!(session);
        }
        body
    }
}

/// Erases the sessions of a run; what cannot be erased expires, or is the operator's to erase.
async fn erase(shared: &Shared) {
    let kept = std::mem::take(&mut *lock(&shared.kept));
    let erased = async {
        let mut connection = Connection::default();
        for name in kept {
            let path = format!("/v1/sessions/{name}");
            let Ok(answer) = connection.send(&shared.target, "DELETE", &path, String::new()).await
            else {
                break;
            };
            drop(http_body_util::BodyExt::collect(answer.into_body()).await);
        }
    };
    drop(tokio::time::timeout(shared.target.timeout, erased).await);
}

/// The time between two arrivals of a Poisson process: −ln(1 − u) / rate, u uniform in 0..1.
pub(super) fn gap(seed: u64, arrival: u64, rate: f64) -> Duration {
    let drawn = split_mix64(split_mix64(seed).wrapping_add(arrival)) >> 11;
    let uniform = drawn as f64 / (1_u64 << 53) as f64;
    Duration::from_secs_f64(-(1.0 - uniform).ln() / rate)
}

/// Words that a seed chooses, each with a space before it.
fn words(seed: u64, count: usize) -> String {
    let word = |i: u64| WORDS[(split_mix64(seed.wrapping_add(i)) % WORDS.len() as u64) as usize];
    (0..count as u64).flat_map(|i| [" ", word(i)]).collect()
}

fn nanoseconds() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a task that panicked left is a list, and whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_have_their_rate_and_are_the_same_for_a_seed() {
        let all = |seed| (0..20_000).map(move |i| gap(seed, i, 50.0).as_secs_f64());
        let mean = all(3).sum::<f64>() / 20_000.0;
        assert!((mean - 0.02).abs() < 0.0005, "{mean}");
        // Of an exponential distribution, the standard deviation is the mean.
        let spread = (all(3).map(|gap| (gap - mean).powi(2)).sum::<f64>() / 20_000.0).sqrt();
        assert!((spread - 0.02).abs() < 0.001, "{spread}");
        assert!(all(3).eq(all(3)) && !all(3).eq(all(4)));
    }

    #[test]
    fn words_are_as_many_as_asked_for() {
        assert_eq!(words(7, 30).split_whitespace().count(), 30);
        assert_eq!(words(7, 30), words(7, 30));
        assert_ne!(words(7, 30), words(8, 30));
    }
}
