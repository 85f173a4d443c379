//! The processes of a soak: a model that is trained for it, servers that are killed and started again,
//! and the store that they share.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::http::{Body, Client, Request};

/// How long a process may take to be ready, or to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one sleeps between two looks.
const PAUSE: Duration = Duration::from_millis(10);
/// How long leases of a killed server may last, and a little more.
const LEASES: Duration = Duration::from_secs(45);

/// A small model with each kind of state: keys and values in a ring that is soon full, vectors, matrices.
/// AdamW: Muon's steps take several times as long in the development profile.
const RECIPE: &str = r#"
[tokenizer]
kind = "char"

[model.config]
model_type = "longhand"
format = 2
width = 48
heads = [{ type = "language-model" }]

[[model.config.blocks]]
working = { type = "attention", heads = 4, kv_heads = 4, head_width = 12, window = 64 }
long = { type = "lstm", hidden = 48 }
fusion = "concat"

[[model.config.blocks]]
long = { type = "mlstm", hidden = 48, heads = 4 }

[training]
batch = 8
chunk = 64
optimizer = { type = "adamw" }
"#;

/// The program, and the folder with all that it reads and writes.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) program: PathBuf,
    pub(super) folder: PathBuf,
    /// The folder of the model that is served.
    pub(super) model: PathBuf,
    /// The API keys of the two owners.
    pub(super) keys: [String; 2],
}

/// A process that ends with this value.
#[derive(Debug)]
struct Process(Child);

/// A server that answers.
#[derive(Debug)]
pub(super) struct Server {
    process: Process,
    pub(super) address: SocketAddr,
}

/// Servers of the same sessions.
#[derive(Debug)]
pub(super) struct Cluster {
    arguments: Vec<String>,
    /// None while it is down.
    servers: Vec<Mutex<Option<Server>>>,
    starts: AtomicUsize,
    /// How many are being ended now, and when the last one was back.
    ending: AtomicUsize,
    back: Mutex<Option<Instant>>,
    /// When one was last ended by SIGTERM.
    in_order: Mutex<Option<Instant>>,
    _store: Option<Process>,
}

impl Place {
    /// Trains a small model of characters in an empty folder, and makes keys.
    pub(super) fn prepare(program: &Path, folder: &Path) -> Result<Self> {
        if folder.exists() {
            fs_err::remove_dir_all(folder)?;
        }
        fs_err::create_dir_all(folder)?;
        let program = fs_err::canonicalize(program)?;
        let folder = fs_err::canonicalize(folder)?;
        let model = folder.join("model");
        let mut place = Self { program, folder, model, keys: Default::default() };
        place.run("data sample --bytes 60000 --out text.txt")?;
        fs_err::write(place.folder.join("run.toml"), RECIPE)?;
        place.run("train text.txt --recipe run.toml --steps 60 --seed 3 --out model")?;
        for (key, name) in ["a", "b"].into_iter().enumerate() {
            let line = format!("serve --new-key {name} --api-key-file keys.toml");
            place.keys[key] = place.run(&line)?.trim().to_owned();
        }
        let sealing = format!("first {}\n", "5a".repeat(32));
        fs_err::write(place.folder.join("sealing.keys"), sealing)?;
        Ok(place)
    }

    /// Runs the program to its end, and gives what it printed.
    fn run(&self, line: &str) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.args(line.split_whitespace()).current_dir(&self.folder).stdin(Stdio::null());
        let output = command.output().with_context(|| format!("cannot start `{line}`"))?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "`longhand {line}` ended with {}: {errors}",
            output.status
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts a server with flags beside those of every one, and waits until it takes work. What it
    /// says goes to a file with its name.
    pub(super) fn serve(&self, name: &str, arguments: &[String]) -> Result<Server> {
        let path = self.folder.join(format!("{name}.log"));
        let log = fs_err::File::create(&path)?.into_parts().0;
        let mut command = Command::new(&self.program);
        command.current_dir(&self.folder).args(["serve", "--port", "0"]);
        command.arg(format!("soak={}", self.model.display()));
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut process = Process(command.spawn().context("cannot start the server")?);
        let begun = Instant::now();
        loop {
            let said = fs_err::read_to_string(&path)?;
            let address = said.split("listening at http://").nth(1);
            if let Some((address, _)) = address.and_then(|address| address.split_once('\n')) {
                let address = address.trim().parse().context("the address of the server")?;
                let server = Server { process, address };
                server.wait_until_ready(begun)?;
                return Ok(server);
            }
            let ended = process.0.try_wait()?;
            if ended.is_some() || begun.elapsed() > PATIENCE {
                bail!("the server did not start ({ended:?}): {said}");
            }
            std::thread::sleep(PAUSE);
        }
    }
}

impl Server {
    /// The number of its process.
    pub(super) fn process_id(&self) -> u32 {
        self.process.0.id()
    }

    fn wait_until_ready(&self, begun: Instant) -> Result<()> {
        let request = Request { method: "GET", path: "/ready", key: "", body: Body::Empty };
        loop {
            let answer = Client::default().ask(self.address, &request);
            if answer.as_ref().is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            ensure!(begun.elapsed() < PATIENCE, "the server does not get ready: {answer:?}");
            std::thread::sleep(PAUSE);
        }
    }

    /// Ends it in order, by SIGTERM.
    pub(super) fn end(mut self) -> Result<()> {
        let process = self.process_id().to_string();
        let sent = Command::new("kill").args(["-TERM", &process]).status()?;
        ensure!(sent.success(), "SIGTERM could not be sent");
        let begun = Instant::now();
        loop {
            if let Some(status) = self.process.0.try_wait()? {
                ensure!(status.success(), "the server ended with {status} after SIGTERM");
                return Ok(());
            }
            ensure!(begun.elapsed() < PATIENCE, "the server does not end after SIGTERM");
            std::thread::sleep(PAUSE);
        }
    }
}

impl Cluster {
    /// Starts servers; several share a store, which is started too.
    pub(super) fn start(place: &Place, count: usize, arguments: &[&str]) -> Result<Self> {
        let common =
            ["--api-key-file", "keys.toml", "--sealing-key-file", "sealing.keys"].into_iter();
        let mut arguments: Vec<String> =
            common.chain(arguments.iter().copied()).map(str::to_owned).collect();
        let store = match count {
            1 => {
                arguments.extend(["--sessions".to_owned(), "sessions".to_owned()]);
                None
            }
            _ => {
                let (store, url) = start_store(&place.folder)?;
                arguments.extend(["--store".to_owned(), url]);
                Some(store)
            }
        };
        let cluster = Self {
            arguments,
            servers: (0..count).map(|_| Mutex::new(None)).collect(),
            starts: AtomicUsize::new(0),
            ending: AtomicUsize::new(0),
            back: Mutex::new(None),
            in_order: Mutex::new(None),
            _store: store,
        };
        for index in 0..count {
            cluster.start_one(place, index)?;
        }
        Ok(cluster)
    }

    fn start_one(&self, place: &Place, index: usize) -> Result<()> {
        let start = self.starts.fetch_add(1, Ordering::Relaxed);
        let server = place.serve(&format!("server-{index}-{start}"), &self.arguments)?;
        *lock(&self.servers[index]) = Some(server);
        Ok(())
    }

    /// How many servers there are when all are up.
    pub(super) fn count(&self) -> usize {
        self.servers.len()
    }

    /// Where a server listens; none while it is down.
    pub(super) fn address(&self, index: usize) -> Option<SocketAddr> {
        lock(&self.servers[index]).as_ref().map(|server| server.address)
    }

    /// The process of a server that is up.
    pub(super) fn process_id(&self, index: usize) -> Option<u32> {
        lock(&self.servers[index]).as_ref().map(Server::process_id)
    }

    /// Ends a server, in order or by SIGKILL, and starts it again.
    pub(super) fn restart(&self, place: &Place, index: usize, in_order: bool) -> Result<()> {
        self.ending.fetch_add(1, Ordering::SeqCst);
        if in_order {
            *lock(&self.in_order) = Some(Instant::now());
        }
        let server = lock(&self.servers[index]).take();
        let ended = match (server, in_order) {
            (Some(server), true) => server.end(),
            // Its value's end is SIGKILL.
            (server, _) => {
                drop(server);
                Ok(())
            }
        };
        let started = ended.and_then(|()| self.start_one(place, index));
        *lock(&self.back) = Some(Instant::now());
        self.ending.fetch_sub(1, Ordering::SeqCst);
        started
    }

    /// Whether a server was down at any time since then.
    pub(super) fn was_disturbed_since(&self, then: Instant) -> bool {
        self.ending.load(Ordering::SeqCst) > 0 || lock(&self.back).is_some_and(|back| back >= then)
    }

    /// Whether a server may have broken off a turn since then, as SIGTERM lets it.
    pub(super) fn ended_in_order_since(&self, then: Instant) -> bool {
        // What was asked just before the signal is broken off after it.
        lock(&self.in_order).is_some_and(|ended| ended >= then)
    }

    /// Whether the lease of a killed server may still be valid.
    pub(super) fn may_have_leases(&self) -> bool {
        let is_recent = |back: Instant| back.elapsed() < LEASES;
        self.count() > 1
            && (self.ending.load(Ordering::SeqCst) > 0 || lock(&self.back).is_some_and(is_recent))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // What has ended already cannot be killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a Valkey or Redis server of its own, which writes nothing to the disk.
fn start_store(folder: &Path) -> Result<(Process, String)> {
    let program = store_program().context("there is neither valkey-server nor redis-server")?;
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let log = fs_err::File::create(folder.join("store.log"))?.into_parts().0;
    let mut command = Command::new(program);
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""]);
    command.args(["--appendonly", "no"]).current_dir(folder);
    let process = Process(command.stdin(Stdio::null()).stdout(log).spawn()?);
    let begun = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        ensure!(begun.elapsed() < PATIENCE, "the store does not listen at port {port}");
        std::thread::sleep(PAUSE);
    }
    Ok((process, format!("redis://127.0.0.1:{port}")))
}

/// The program of a store, if this machine has one.
pub(crate) fn store_program() -> Option<&'static str> {
    let starts = |program: &&str| {
        let mut command = Command::new(program);
        command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    ["valkey-server", "redis-server"].into_iter().find(starts)
}

/// MiB of a process that are in memory.
pub(super) fn resident_mib(process: u32) -> Result<f64> {
    let status = fs_err::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: f64 = kib.and_then(|kib| kib.parse().ok()).context("a process without VmRSS")?;
    Ok(kib / 1024.0)
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells whoever waits at a terminal how far it is.
pub(super) fn say(text: &str) {
    // A closed stderr is no reason to end.
    let _ = writeln!(std::io::stderr(), "{text}");
}
