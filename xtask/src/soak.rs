//! `cargo xtask soak`: the program as a server whose sessions go on whatever happens to it.
//!
//! 1. A small model of characters is trained, and servers are started ([`servers`]).
//! 2. Threads have conversations over HTTP ([`family`]): turns, branches, ways back, states that the client
//!    holds; meanwhile the servers are killed and started again.
//! 3. Each reply is compared with the plain model of the conversation ([`conversation`]), read cold and
//!    without a session by a server that is never killed ([`asker`], [`reply`]).
//! 4. At the end every session must be there, and no other one.
//!
//! [`load`] has the two forms that measure: memory under constant load, and many idle sessions.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use asker::{Asker, World};
use family::Family;
use http::Body;
use random::Random;
pub(crate) use servers::store_program;
use servers::{Cluster, Place, lock, say};
pub(crate) use settings::{Settings, USAGE};

mod asker;
mod conversation;
mod family;
mod http;
mod load;
mod random;
mod reply;
mod servers;
mod settings;

/// Conversations of one thread that go on in turns, so that sessions rest between them.
const SIDE_BY_SIDE: usize = 8;
/// The share of restored states that the servers recompute.
const VERIFIED: &str = "0.05";
/// Room for a part of the states alone, so that most come from the store.
const MEMORY: &str = "4MiB";

/// Soaks the program as the settings say. `root` is the workspace's, whose program is built
/// where none is named.
pub(crate) fn soak(root: &Path, settings: &Settings) -> Result<()> {
    let program = match &settings.program {
        Some(program) => program.clone(),
        None => build(root)?,
    };
    let folder = settings.folder.clone().unwrap_or_else(|| target(root).join("soak"));
    let mut place = Place::prepare(&program, &folder)?;
    if let Some(model) = &settings.model {
        place.model = fs_err::canonicalize(model)?;
    }
    if let Some(minutes) = settings.memory_minutes {
        return load::memory(&place, settings, minutes);
    }
    if let Some(count) = settings.idle {
        return load::idle(&place, settings, count);
    }
    say(&format!("seed {}", settings.seed));
    println!("{}", converse(place, settings)?);
    Ok(())
}

/// A short soak of a built program in a folder of its own, without a word; gives what was done.
///
/// # Errors
/// The first fault, with the command that does the same again.
pub(crate) fn short(program: &Path, folder: &Path, servers: usize) -> Result<String> {
    let settings = Settings::short(servers)?;
    converse(Place::prepare(program, folder)?, &settings)
}

/// The program of this workspace, as the tests built it.
fn build(root: &Path) -> Result<PathBuf> {
    let mut cargo = std::process::Command::new("cargo");
    cargo.args(["build", "--quiet", "--workspace", "--bins"]).current_dir(root);
    ensure!(cargo.status()?.success(), "the program could not be built");
    Ok(target(root).join("debug/longhand"))
}

fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

/// Has conversations while servers are killed, and compares. Gives what was done.
fn converse(place: Place, settings: &Settings) -> Result<String> {
    let begun = Instant::now();
    let mut flags = vec!["--verify-restore", VERIFIED, "--memory", MEMORY];
    let memory = settings.server_memory.as_deref();
    if let (Some(memory), Some(last)) = (memory, flags.last_mut()) {
        *last = memory;
    }
    let cluster = Cluster::start(&place, settings.servers, &flags)?;
    let world = World::new(place, cluster)?;
    let soak =
        Soak { world: &world, settings, fault: Mutex::new(None), is_over: AtomicBool::new(false) };
    let families = soak.run();
    let counts = &world.counts;
    let count = |of: &AtomicUsize| of.load(Ordering::Relaxed);
    if let Some(fault) = lock(&soak.fault).take() {
        say(&format!("what the servers said is in {}", world.place.folder.display()));
        return Err(fault.context(format!("reproduce: {}", settings.line())));
    }
    soak.all_are_there(&families).with_context(|| format!("reproduce: {}", settings.line()))?;
    let sessions: usize = families.iter().map(|family| family.members.len()).sum();
    Ok(format!(
        "seed {}: {} conversations, {sessions} sessions, {} turns, {} changes; {} ends of {} server(s), {} \
         requests without an answer, {} of another key's refused; {} compared in every bit, {} drawn \
         nearly; no difference, {:.0} s",
        settings.seed,
        families.len(),
        count(&counts.turns),
        count(&counts.changes),
        settings.kills,
        settings.servers,
        count(&counts.unanswered),
        count(&counts.trespasses),
        count(&counts.replays),
        count(&counts.nearly_drawn),
        begun.elapsed().as_secs_f64()
    ))
}

/// Conversations that run.
struct Soak<'a> {
    world: &'a World,
    settings: &'a Settings,
    /// The first one that was found.
    fault: Mutex<Option<anyhow::Error>>,
    is_over: AtomicBool,
}

impl Soak<'_> {
    /// Runs all conversations to their end or to the first fault.
    fn run(&self) -> Vec<Family> {
        let indices: Vec<usize> = match self.settings.only {
            Some(only) => vec![only],
            None => (0..self.settings.sessions).collect(),
        };
        let threads = self.settings.clients.min(indices.len());
        let ended = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            let killer = scope.spawn(|| self.note(self.kill(indices.len())));
            let workers: Vec<_> = (0..threads)
                .map(|thread| {
                    let share: Vec<usize> =
                        indices.iter().copied().skip(thread).step_by(threads).collect();
                    let ended = &ended;
                    scope.spawn(move || self.note(self.work(thread, share, ended)))
                })
                .collect();
            for worker in workers {
                if worker.join().is_err() {
                    self.note(Err(anyhow!("a thread of the soak panicked")));
                }
            }
            self.is_over.store(true, Ordering::Relaxed);
            if killer.join().is_err() {
                self.note(Err(anyhow!("the thread that ends servers panicked")));
            }
        });
        ended.into_inner().unwrap_or_default()
    }

    /// Keeps the first fault, which ends the others.
    fn note(&self, outcome: Result<()>) {
        if let Err(error) = outcome {
            lock(&self.fault).get_or_insert(error);
            self.is_over.store(true, Ordering::Relaxed);
        }
    }

    /// Leads a thread's conversations, some of them in turns.
    fn work(&self, thread: usize, share: Vec<usize>, ended: &Mutex<Vec<Family>>) -> Result<()> {
        let Settings { seed, turns, .. } = *self.settings;
        let mut asker = Asker::new(self.world, thread);
        let mut random = Random::at(!seed, thread as u64);
        let mut waiting = share.into_iter();
        let mut open: Vec<Family> = Vec::new();
        while !self.is_over.load(Ordering::Relaxed) {
            while open.len() < SIDE_BY_SIDE
                && let Some(index) = waiting.next()
            {
                open.push(Family::new(seed, index, turns));
            }
            if open.is_empty() {
                break;
            }
            let at = random.below(open.len());
            let family = &mut open[at];
            if let Err(error) = family.step(&mut asker) {
                let told = family.told.join("\n  ");
                return Err(error.context(format!("session {}:\n  {told}\n", family.index)));
            }
            if family.turns_left == 0 {
                lock(ended).push(open.swap_remove(at));
            }
        }
        Ok(())
    }

    /// Ends servers at seeded turns, one in four in order and the others by SIGKILL.
    fn kill(&self, families: usize) -> Result<()> {
        let mut random = Random::at(self.settings.seed, u64::MAX);
        let (kills, total) = (self.settings.kills, families * self.settings.turns);
        for kill in 0..kills {
            let part = (kill as f64 + random.below(1000) as f64 / 1000.0) / kills as f64;
            let due = (part * total as f64) as usize;
            let index = random.below(self.world.cluster.count());
            let in_order = random.once_in(4);
            while self.world.counts.turns.load(Ordering::Relaxed) < due {
                if self.is_over.load(Ordering::Relaxed) {
                    return Ok(());
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            self.world.cluster.restart(&self.world.place, index, in_order)?;
        }
        Ok(())
    }

    /// Ends all servers once more, and compares the lists of sessions.
    fn all_are_there(&self, families: &[Family]) -> Result<()> {
        let world = self.world;
        let mut asker = Asker::new(world, usize::MAX);
        let metrics = asker.again(0, "GET", "/metrics", Body::Empty)?.text();
        let name = "longhand_state_verify_failures_total";
        let failures: Vec<&str> = metrics.lines().filter(|it| it.starts_with(name)).collect();
        ensure!(!failures.is_empty(), "no count of states that differ when recomputed");
        let is_zero = |line: &&str| line.ends_with(" 0");
        ensure!(failures.iter().all(is_zero), "states differ when recomputed: {failures:?}");
        for index in 0..world.cluster.count() {
            world.cluster.restart(&world.place, index, false)?;
        }
        for owner in 0..2 {
            let mut listed = list(&mut asker, owner)?;
            let caches = listed.extract_if(.., |name, _| name.starts_with("cache-")).count();
            let had = |family: &&Family| family.owner == owner && family.cached.position() > 0;
            let must = families.iter().filter(had).count();
            ensure!(caches == must, "there are {caches} caches, but must be {must}");
            let members = families.iter().flat_map(|family| &family.members);
            let spoke = members.filter(|member| !member.conversation.turns.is_empty());
            for member in spoke.filter(|member| member.owner == owner) {
                match listed.remove(&member.name) {
                    Some(shown) => member.is_shown(&shown)?,
                    None => bail!("the session {} is lost", member.name),
                }
            }
            let surplus: Vec<_> = listed.keys().collect();
            ensure!(surplus.is_empty(), "sessions that nobody has: {surplus:?}");
        }
        Ok(())
    }
}

/// All sessions of a key by their names, page by page.
fn list(asker: &mut Asker<'_>, owner: usize) -> Result<BTreeMap<String, Value>> {
    let mut all = BTreeMap::new();
    let mut path = "/v1/sessions?limit=100".to_owned();
    loop {
        let answer = asker.again(owner, "GET", &path, Body::Empty)?;
        ensure!(answer.status == 200, "GET {path}: {}", answer.text());
        let page: Value = serde_json::from_str(&answer.text())?;
        for shown in page["data"].as_array().context("a list without data")? {
            let name = shown["name"].as_str().context("a session without a name")?;
            path = format!("/v1/sessions?limit=100&after={name}");
            ensure!(all.insert(name.to_owned(), shown.clone()).is_none(), "{name} is listed twice");
        }
        if page["has_more"] != true {
            return Ok(all);
        }
    }
}
