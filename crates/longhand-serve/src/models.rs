//! The models of a server, by their names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use longhand_engine::{Cpu, Engine, EngineError};
use longhand_model::Model;
use longhand_model::adapter::AdapterChoice;
use longhand_sessions::{Host, HostSettings, JobError, Sealer, Sessions, StateCache};
use longhand_tasks::{TASK_FILE, TaskError, TaskFile};
use longhand_text::TextError;
use longhand_text::chat::{AnswerEnd, ChatFault, ChatTemplate};

use crate::error::ApiError;
use crate::ids::unix_time;
use crate::liveness::Liveness;
use crate::task_worker::TaskWorker;

/// A model folder and the name that requests call it by.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSource {
    /// The name in requests.
    pub name: String,
    /// The folder of the model, or of an adapter's base.
    pub folder: PathBuf,
    /// Adapters of it; each is served as `name:adapter` beside the model itself.
    pub adapters: Vec<AdapterChoice>,
}

/// Models that are loaded. None is named by a path: a request finds what is in this list alone.
pub struct Models {
    models: BTreeMap<String, Served>,
    created: u64,
}

/// A model that answers.
#[derive(Clone)]
pub(crate) enum Served {
    /// It writes text behind text.
    Language(Arc<Language>),
    /// It does a task.
    Task(Arc<TaskWorker>),
}

/// A language model and its host.
pub(crate) struct Language {
    /// The name in requests.
    pub(crate) name: String,
    pub(crate) host: Arc<Host>,
    pub(crate) template: Arc<ChatTemplate>,
    /// What ends an answer by the template.
    pub(crate) end: AnswerEnd,
    /// The model's hash, shortened, as answers tell it.
    pub(crate) fingerprint: String,
    /// Whether the host's thread still works.
    pub(crate) liveness: Liveness,
}

/// What all models share.
pub struct Shared {
    /// The threads that compute.
    pub cpu: Arc<Cpu>,
    /// The store of sessions.
    pub sessions: Arc<Sessions>,
    /// States at the beginnings of prompts.
    pub cache: Arc<StateCache>,
    /// What seals states that clients hold; none where the server has no key for it.
    pub sealer: Option<Arc<Sealer>>,
    /// Streams and queue of each model.
    pub settings: HostSettings,
}

/// Why models cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelsError {
    /// A model that cannot be served.
    #[error("the model `{name}`: {fault}")]
    Model {
        /// The name in requests.
        name: String,
        /// What is wrong with it, in a sentence.
        fault: Box<ModelFault>,
    },
    /// Two models of one name.
    #[error("two models are called `{0}`: name them, as NAME=DIR")]
    Twice(String),
    /// A name that requests could not use.
    #[error(
        "`{0}` cannot be the name of a model: give one without a slash or white space, as NAME=DIR"
    )]
    Name(String),
}

/// Why a model cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelFault {
    /// A folder without a model that can be read.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A folder whose task cannot be read.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// A chat template that cannot be read.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A chat template that holds no conversation.
    #[error(transparent)]
    Chat(#[from] ChatFault),
    /// A host that cannot be started.
    #[error(transparent)]
    Host(#[from] JobError),
}

impl ModelsError {
    fn of(name: &str, fault: impl Into<ModelFault>) -> Self {
        Self::Model { name: name.to_owned(), fault: Box::new(fault.into()) }
    }
}

impl Models {
    /// Reads all models, in their order.
    ///
    /// # Errors
    /// [`ModelsError`] names the first model that cannot be served.
    pub fn load(sources: &[ModelSource], shared: &Shared) -> Result<Self, ModelsError> {
        let mut models = BTreeMap::new();
        let mut add = |name: String, served: Served| match models.contains_key(&name) {
            true => Err(ModelsError::Twice(name)),
            false => {
                tracing::info!(model = name, kind = served.kind(), "a model is ready");
                models.insert(name, served);
                Ok(())
            }
        };
        for ModelSource { name, folder, adapters } in sources {
            let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '/' && c != '\\';
            if name.is_empty() || !name.chars().all(is_plain) {
                return Err(ModelsError::Name(name.clone()));
            }
            let base = Served::open(name.clone(), folder, None, shared)?;
            add(name.clone(), base.clone())?;
            for adapter in adapters {
                let name = format!("{name}:{}", adapter.name);
                let chosen = Some((adapter, &base));
                add(name.clone(), Served::open(name.clone(), folder, chosen, shared)?)?;
            }
        }
        Ok(Self { models, created: unix_time() })
    }

    /// Models that were made in memory.
    #[cfg(test)]
    pub(crate) fn of(served: Vec<(String, Served)>) -> Self {
        Self { models: served.into_iter().collect(), created: unix_time() }
    }

    /// All models by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Served)> {
        self.models.iter().map(|(name, served)| (name.as_str(), served))
    }

    /// The models that no longer answer, because a fault of the program has ended their thread.
    pub(crate) fn ended(&self) -> impl Iterator<Item = &str> {
        let ended = self.iter().filter(|(_, served)| match served {
            Served::Language(language) => language.liveness.has_ended(&language.host),
            Served::Task(worker) => worker.has_ended(),
        });
        ended.map(|(name, _)| name)
    }

    /// When the models were loaded, in seconds since 1970.
    pub(crate) fn created(&self) -> u64 {
        self.created
    }

    /// The model of a name.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] for a name that is none.
    pub(crate) fn get(&self, name: &str) -> Result<&Served, ApiError> {
        self.models.get(name).ok_or_else(|| ApiError::NotFound {
            what: "model",
            name: name.chars().take(200).collect(),
            param: Some("model"),
            remedy: ": /v1/models lists those that there are",
        })
    }

    /// A model that writes text.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] for a name that is none, [`ApiError::Invalid`] for a model
    /// that does a task.
    pub(crate) fn language(&self, name: &str) -> Result<&Arc<Language>, ApiError> {
        match self.get(name)? {
            Served::Language(language) => Ok(language),
            Served::Task(worker) => {
                let message = format!(
                    "the model `{}` does the task {}, and does not continue texts",
                    worker.name(),
                    worker.kind()
                );
                Err(ApiError::unsupported("model", message))
            }
        }
    }

    /// The model called `name`, or the only language model where none is named.
    ///
    /// # Errors
    /// As [`Models::language`]; [`ApiError::Invalid`] where several could be meant.
    pub(crate) fn language_or_only(&self, name: Option<&str>) -> Result<&Arc<Language>, ApiError> {
        if let Some(name) = name {
            return self.language(name);
        }
        let mut languages = self.models.values().filter_map(|served| match served {
            Served::Language(language) => Some(language),
            Served::Task(_) => None,
        });
        match (languages.next(), languages.next()) {
            (Some(only), None) => Ok(only),
            _ => Err(ApiError::invalid("model", "`model` is missing: /v1/models lists them")),
        }
    }

    /// Ends all hosts: jobs that run have `within` to come to their end. It blocks.
    pub fn drain(&self, within: Duration) -> usize {
        let hosts = self.models.values().filter_map(|served| match served {
            Served::Language(language) => Some(language.host.clone()),
            Served::Task(_) => None,
        });
        // Side by side: each may need the whole time.
        let waiting: Vec<_> =
            hosts.map(|host| std::thread::spawn(move || host.drain(within))).collect();
        waiting.into_iter().map(|thread| thread.join().unwrap_or(0)).sum()
    }
}

impl Served {
    fn open(
        name: String,
        folder: &Path,
        adapter: Option<(&AdapterChoice, &Served)>,
        shared: &Shared,
    ) -> Result<Self, ModelsError> {
        // An adapter shares what it leaves of its base as it is.
        let base = adapter.and_then(|(_, base)| base.network());
        let chosen: Vec<AdapterChoice> = adapter.map(|(it, _)| it.clone()).into_iter().collect();
        let folders = chosen.iter().map(|choice| choice.folder.as_path()).chain([folder]);
        let task_folder = folders.clone().find(|folder| folder.join(TASK_FILE).is_file());
        if let Some(task_folder) = task_folder {
            let file =
                TaskFile::load(task_folder).map_err(|error| ModelsError::of(&name, error))?;
            // A model of conversations is a language model that a template makes one of.
            if !matches!(file, Some(TaskFile::Chat(_))) {
                let from = (task_folder, folder, &chosen[..]);
                let worker = TaskWorker::start(&name, from, base, &shared.cpu);
                let worker = worker.map_err(|error| ModelsError::of(&name, error))?;
                return Ok(Self::Task(Arc::new(worker)));
            }
        }
        let engine = Engine::load_beside(folder, &chosen, base)
            .map_err(|error| ModelsError::of(&name, error))?;
        let template =
            template(&engine, folders.clone()).map_err(|error| ModelsError::of(&name, error))?;
        let template = match template {
            Some(template) => template,
            None => own_template(&engine).map_err(|error| ModelsError::of(&name, error))?,
        };
        Language::start(name, &engine, template, shared).map(|it| Self::Language(Arc::new(it)))
    }

    /// The network that answers, packed for reading; none of an n-gram model or a baseline.
    fn network(&self) -> Option<&Model> {
        match self {
            Self::Language(language) => language.engine().model().network().ok(),
            Self::Task(worker) => worker.network(),
        }
    }

    /// `language`, or the name of the task.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Language(_) => "language",
            Self::Task(worker) => worker.kind(),
        }
    }
}

impl Language {
    /// Starts the host of a model.
    ///
    /// # Errors
    /// [`ModelsError::Model`] for a template that writes no answers, or if the host cannot be started.
    pub(crate) fn start(
        name: String,
        engine: &Arc<Engine>,
        template: ChatTemplate,
        shared: &Shared,
    ) -> Result<Self, ModelsError> {
        let end = template.answer_end().map_err(|error| ModelsError::of(&name, error))?;
        let Shared { cpu, sessions, cache, sealer, settings } = shared;
        let host = Host::start(engine, cpu, sessions, cache, sealer.clone(), *settings);
        let host = Arc::new(host.map_err(|error| ModelsError::of(&name, error))?);
        let fingerprint = format!("lh-{:.12}", engine.model_hash());
        let (template, liveness) = (Arc::new(template), Liveness::default());
        Ok(Self { name, host, template, end, fingerprint, liveness })
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        self.host.engine()
    }

    /// Why a job was not taken. A host that is closed while the server takes work has lost its thread.
    pub(crate) fn refused(&self, error: JobError, takes_work: bool) -> ApiError {
        match error {
            JobError::Draining if takes_work => {
                self.liveness.doubt();
                ApiError::model_ended(&self.name)
            }
            error => error.into(),
        }
    }
}

/// The template of the first folder that has one.
fn template<'a>(
    engine: &Engine,
    folders: impl Iterator<Item = &'a Path>,
) -> Result<Option<ChatTemplate>, TextError> {
    for folder in folders {
        if let Some(template) = ChatTemplate::of_folder(folder, engine.tokenizer())? {
            return Ok(Some(template));
        }
    }
    Ok(None)
}

/// Our own template where the tokeniser has its special tokens, else one of plain lines.
pub(crate) fn own_template(engine: &Engine) -> Result<ChatTemplate, ChatFault> {
    match ChatTemplate::own(engine.tokenizer()) {
        Err(ChatFault::NoToken(_)) => ChatTemplate::plain(engine.tokenizer()),
        own => own,
    }
}

#[cfg(test)]
mod tests {
    use longhand_model::adapter::{Adapter, Base};
    use longhand_model::{LowRankForm, LowRankSettings, Preset};
    use longhand_text::Tokenizer;

    use super::*;
    use crate::auth::Keys;
    use crate::limits::Limits;
    use crate::testing::Server;

    /// A base is in memory once, however many adapters it has.
    #[test]
    fn an_adapter_holds_what_it_changes_and_shares_the_rest() {
        let place = tempfile::tempdir().unwrap();
        let [folder, adapter] = ["base", "low"].map(|name| place.path().join(name));
        fs_err::create_dir(&folder).unwrap();
        fs_err::create_dir(&adapter).unwrap();
        let tokenizer = Tokenizer::byte().unwrap();
        let base = Model::new(Preset::LonghandNano.config(tokenizer.vocab_size()), 1).unwrap();
        base.save(&folder).unwrap();
        tokenizer.save(&folder.join("tokenizer.json")).unwrap();
        let mut model = base.clone();
        let form = LowRankForm::Product;
        let settings = LowRankSettings { rank: 2, form, alpha: 2.0, dropout: 0.0, seed: 1 };
        let changed = model.add_low_rank(settings, |name| name.contains("weight_hh")).unwrap();
        for parameter in model.weights.iter_mut().filter(|it| it.name.ends_with("lora_b")) {
            parameter.data.fill(0.01);
        }
        let origin = Base { name: "base".into(), hash: base.hash(), own: Vec::new() };
        Adapter::of(&model, &origin).save(&adapter).unwrap();

        let (_, shared) = Server::bare(Keys::none().unwrap(), Limits::default());
        let adapters = vec![AdapterChoice { name: "low".into(), folder: adapter, weight: 1.0 }];
        let source = ModelSource { name: "base".into(), folder, adapters };
        let models = Models::load(&[source], &shared).unwrap();
        let network = |name: &str| models.get(name).unwrap().network().unwrap();
        let (one, other) = (network("base"), network("base:low"));
        assert_eq!(one.weights.len(), other.weights.len());
        assert_ne!(one.hash(), other.hash());
        for (one, other) in one.weights.iter().zip(other.weights.iter()) {
            let (Some(held), Some(own)) = (&one.packed, &other.packed) else { continue };
            assert_eq!(Arc::ptr_eq(held, own), !changed.contains(&one.name), "{}", one.name);
        }
    }
}
