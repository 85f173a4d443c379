//! A thread that answers with a model of a task.
//!
//! Tasks are types of their own, and a visit is how a program meets one. So the thread makes the visit
//! and stays in it: examples come as the units of text that the command line reads, answers go back as
//! named values.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use longhand_engine::Cpu;
use longhand_model::adapter::AdapterChoice;
use longhand_tasks::predictor::{self, Trained};
use longhand_tasks::task::At;
use longhand_tasks::{Listed, Predictor, TaskError, TaskSettings, VisitTask};
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use crate::error::ApiError;

/// Requests that may wait for the thread.
const QUEUE: usize = 64;
/// When to ask again, where more wait.
const LATER: Duration = Duration::from_millis(500);

/// A model of a task, on a thread of its own.
pub(crate) struct TaskWorker {
    name: String,
    kind: &'static str,
    sender: SyncSender<Question>,
    thread: JoinHandle<()>,
}

/// Units of text, and where their answers go.
struct Question {
    texts: Vec<String>,
    answers: oneshot::Sender<Result<Vec<Map<String, Value>>, ApiError>>,
}

struct Work {
    folder: PathBuf,
    trained: Trained,
    cpu: Arc<Cpu>,
    questions: Receiver<Question>,
    ready: SyncSender<Result<(), TaskError>>,
}

impl TaskWorker {
    /// Reads the task in `task_folder` and its model, and starts the thread.
    ///
    /// # Errors
    /// If the folder lacks a file, or its model does not fit the task.
    pub(crate) fn start(
        name: &str,
        task_folder: &Path,
        model: &Path,
        adapters: Vec<AdapterChoice>,
        cpu: &Arc<Cpu>,
    ) -> Result<Self, TaskError> {
        let (file, trained) = predictor::open(task_folder, model, &adapters)?;
        let kind = file.name();
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
            Ok(ready) => ready.map(|()| Self { name: name.to_owned(), kind, sender, thread }),
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

    /// The answers to units of text, in their order.
    ///
    /// # Errors
    /// [`ApiError::Busy`] if too many requests wait, [`ApiError::Invalid`] for a text that the task
    /// does not read.
    pub(crate) async fn answer(
        &self,
        texts: Vec<String>,
    ) -> Result<Vec<Map<String, Value>>, ApiError> {
        let (answers, answered) = oneshot::channel();
        match self.sender.try_send(Question { texts, answers }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                let what = format!("{QUEUE} requests wait for the model `{}`", self.name);
                return Err(ApiError::Busy { what, retry: LATER });
            }
            Err(TrySendError::Disconnected(_)) => return Err(self.ended()),
        }
        answered.await.map_err(|_| self.ended())?
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
        while let Ok(Question { texts, answers }) = questions.recv() {
            if answers.is_closed() {
                continue;
            }
            // A client that has left does not take them.
            let _ = answers.send(answer(&mut predictor, &texts));
        }
    }
}

/// The answers to units of text.
fn answer<T: Listed>(
    predictor: &mut Predictor<T>,
    texts: &[String],
) -> Result<Vec<Map<String, Value>>, ApiError> {
    let mut examples = Vec::with_capacity(texts.len());
    for (place, text) in texts.iter().enumerate() {
        let at = At { name: "the request", example: place + 1 };
        examples.extend(predictor.task.parse(text, at)?);
    }
    let first = At { name: "the request", example: 1 };
    let answers = predictor.predict(&examples, first)?;
    let fields = examples.iter().zip(&answers);
    Ok(fields.map(|(example, answers)| predictor.task.fields(example, answers)).collect())
}
