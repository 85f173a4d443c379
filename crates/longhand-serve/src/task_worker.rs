//! A thread that answers with a model of a task.
//!
//! Tasks are types of their own, and a visit is how a program meets one. So the thread makes the
//! visit and stays in it: examples come as the units of text that the command line reads, answers go
//! back as named values.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use longhand_engine::Cpu;
use longhand_model::Model;
use longhand_model::adapter::AdapterChoice;
use longhand_tasks::predictor::{self, Tokens, Trained};
use longhand_tasks::task::At;
use longhand_tasks::{Listed, Predictor, TaskError, TaskSettings, VisitTask};
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::rate::Rate;
use crate::task_counts::{End, Waiting};

/// Requests that may wait for the thread.
const QUEUE: usize = 64;
/// When to ask again, where more wait.
const LATER: Duration = Duration::from_millis(500);
/// Examples that are answered between two looks at whether anybody still waits for them.
const TOGETHER: usize = 32;

/// A model of a task, on a thread of its own.
pub(crate) struct TaskWorker {
    name: String,
    kind: &'static str,
    /// The network, which shares its matrices with the one that answers; none of a baseline.
    network: Option<Model>,
    sender: SyncSender<(Question, Waiting)>,
    thread: JoinHandle<()>,
}

/// Until when a request is answered, and who is charged for it.
pub(crate) struct Terms {
    deadline: Instant,
    rate: Arc<Rate>,
    metrics: Metrics,
}

/// The named values of each answer.
type Answers = Vec<Map<String, Value>>;

/// Units of text, and where their answers go.
struct Question {
    texts: Vec<String>,
    terms: Terms,
    answers: oneshot::Sender<Result<Answers, ApiError>>,
}

/// Why a request has no answers.
enum Stop {
    /// Its client has left.
    Left,
    /// What its client is told.
    Refused(ApiError),
}

struct Work {
    folder: PathBuf,
    trained: Trained,
    cpu: Arc<Cpu>,
    questions: Receiver<(Question, Waiting)>,
    ready: SyncSender<Result<(), TaskError>>,
}

impl TaskWorker {
    /// Reads the task in `task_folder` and its model with its adapters, and starts the thread. Matrices
    /// that are equal to those of `base` are held once for both.
    ///
    /// # Errors
    /// If the folder lacks a file, or its model does not fit the task.
    pub(crate) fn start(
        name: &str,
        (task_folder, model, adapters): (&Path, &Path, &[AdapterChoice]),
        base: Option<&Model>,
        cpu: &Arc<Cpu>,
    ) -> Result<Self, TaskError> {
        let (file, mut trained) = predictor::open(task_folder, model, adapters)?;
        trained.pack(base);
        let (kind, network) = (file.name(), trained.network().cloned());
        let (sender, questions) = sync_channel(QUEUE);
        let (ready, is_ready) = sync_channel(1);
        let work = Work { folder: task_folder.into(), trained, cpu: cpu.clone(), questions, ready };
        let thread = std::thread::spawn(move || {
            // How files are read is not asked for: examples come as units of text.
            if let Some(settings) = TaskSettings::named(file.name()) {
                file.visit(&settings, work);
            }
        });
        match is_ready.recv() {
            Ok(ready) => {
                ready.map(|()| Self { name: name.to_owned(), kind, network, sender, thread })
            }
            Err(_) => Err(TaskError::NotATask(task_folder.into())),
        }
    }

    /// The name in requests.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The name of the task.
    pub(crate) fn kind(&self) -> &'static str {
        self.kind
    }

    /// The network that answers, packed for reading; none of a baseline.
    pub(crate) fn network(&self) -> Option<&Model> {
        self.network.as_ref()
    }

    /// The answers to units of text, in their order.
    ///
    /// # Errors
    /// [`ApiError::Busy`] if too many requests wait, [`ApiError::Invalid`] for a text that the task
    /// does not read, [`ApiError::Overdue`] after the deadline.
    pub(crate) async fn answer(
        &self,
        texts: Vec<String>,
        terms: Terms,
    ) -> Result<Answers, ApiError> {
        let (answers, answered) = oneshot::channel();
        let (deadline, metrics) = (terms.deadline, terms.metrics.clone());
        let waiting = Waiting::new(metrics.tasks());
        match self.sender.try_send((Question { texts, terms, answers }, waiting)) {
            Ok(()) => metrics.tasks().accept(),
            Err(TrySendError::Full(_)) => {
                metrics.tasks().refuse();
                let what = format!("{QUEUE} requests wait for the model `{}`", self.name);
                return Err(ApiError::Busy { what, retry: LATER });
            }
            Err(TrySendError::Disconnected(_)) => return Err(self.ended()),
        }
        match tokio::time::timeout_at(deadline.into(), answered).await {
            // The thread finds that nobody waits any more.
            Err(_) => Err(ApiError::Overdue),
            Ok(Ok(answers)) => answers,
            Ok(Err(_)) => {
                metrics.tasks().end(End::Failed);
                Err(self.ended())
            }
        }
    }

    /// Whether its thread has ended, which only a fault of the program can cause.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    fn ended(&self) -> ApiError {
        ApiError::model_ended(&self.name)
    }
}

impl VisitTask for Work {
    type Output = ();

    fn visit<T: Listed>(self, task: T, _: &T::Settings) {
        let Self { folder, trained, cpu, questions, ready } = self;
        let mut predictor = match Predictor::checked(&folder, task, trained, cpu) {
            Ok(predictor) => predictor,
            Err(error) => {
                // Whoever started the thread waits for this.
                let _ = ready.send(Err(error));
                return;
            }
        };
        let _ = ready.send(Ok(()));
        while let Ok((question, waiting)) = questions.recv() {
            drop(waiting);
            let outcome = answer(&mut predictor, &question);
            let Question { terms, answers, .. } = question;
            let (end, told) = match outcome {
                Ok(found) => (End::Finished, Ok(found)),
                Err(Stop::Left) => {
                    terms.metrics.tasks().end(End::Cancelled);
                    continue;
                }
                Err(Stop::Refused(ApiError::Overdue)) => (End::Overdue, Err(ApiError::Overdue)),
                Err(Stop::Refused(error)) => (End::Failed, Err(error)),
            };
            terms.metrics.tasks().end(end);
            // A client that has left does not take them.
            let _ = answers.send(told);
        }
    }
}

impl Terms {
    /// The terms of a request of the key with this rate.
    pub(crate) fn of(deadline: Instant, rate: &Arc<Rate>, metrics: &Metrics) -> Self {
        Self { deadline, rate: rate.clone(), metrics: metrics.clone() }
    }

    fn charge(&self, tokens: Tokens) {
        self.rate.spend(Instant::now(), tokens.read + tokens.written);
        self.metrics.tasks().tokens(tokens);
    }
}

impl Question {
    /// Refuses to go on where nobody waits any more.
    fn check(&self) -> Result<(), Stop> {
        if self.terms.deadline <= Instant::now() {
            return Err(Stop::Refused(ApiError::Overdue));
        }
        match self.answers.is_closed() {
            true => Err(Stop::Left),
            false => Ok(()),
        }
    }
}

impl From<TaskError> for Stop {
    fn from(error: TaskError) -> Self {
        Self::Refused(error.into())
    }
}

/// The answers to units of text.
fn answer<T: Listed>(predictor: &mut Predictor<T>, question: &Question) -> Result<Answers, Stop> {
    let mut examples = Vec::with_capacity(question.texts.len());
    for (place, text) in question.texts.iter().enumerate() {
        let at = At { name: "the request", example: place + 1 };
        examples.extend(predictor.task.parse(text, at)?);
    }
    let mut all = Vec::with_capacity(examples.len());
    for (place, some) in examples.chunks(TOGETHER).enumerate() {
        question.check()?;
        let first = At { name: "the request", example: 1 + place * TOGETHER };
        let answered = predictor.predict(some, first);
        question.terms.charge(predictor.take_tokens());
        let answered = answered?;
        let fields = some.iter().zip(&answered);
        all.extend(fields.map(|(example, answers)| predictor.task.fields(example, answers)));
    }
    Ok(all)
}
