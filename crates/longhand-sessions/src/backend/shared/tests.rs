use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use longhand_model::Format;
use tempfile::TempDir;

use super::*;
use crate::backend::Lease;
use crate::testing::{Random, host, ids, name, owner, run, tiny, turn};
use crate::{HostSettings, JobError, Sessions, SessionsSettings};

/// A server of its own, which ends with the test.
struct Running {
    child: Child,
    folder: TempDir,
    program: &'static str,
    port: u16,
}

impl Running {
    /// Starts a server of the machine; none, with a line that says so, if it has none.
    fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        for program in ["valkey-server", "redis-server"] {
            if let Ok(child) = spawn(program, port, &folder) {
                let running = Self { child, folder, program, port };
                running.wait();
                return Some(running);
            }
        }
        eprintln!("skipped: neither valkey-server nor redis-server is on the PATH");
        None
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn wait(&self) {
        let client = Client::open(self.url()).unwrap();
        for _ in 0..200 {
            if client
                .get_connection()
                .is_ok_and(|mut it| cmd("PING").query::<String>(&mut it).is_ok())
            {
                return;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("the server does not answer");
    }

    /// Kills it and starts it again on its files.
    fn kill_and_start(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = spawn(self.program, self.port, &self.folder).unwrap();
        self.wait();
    }

    fn command<T: redis::FromRedisValue>(&self, parts: &[&str]) -> T {
        let mut connection = Client::open(self.url()).unwrap().get_connection().unwrap();
        let mut command = cmd(parts[0]);
        parts[1..].iter().for_each(|&part| {
            command.arg(part);
        });
        command.query(&mut connection).unwrap()
    }
}

fn spawn(program: &str, port: u16, folder: &TempDir) -> std::io::Result<Child> {
    Command::new(program)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .args(["--appendonly", "yes", "--appendfsync", "always", "--dir"])
        .arg(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn key(item: &str) -> RecordKey {
    RecordKey { table: Table::Sessions, owner: owner("a"), item: item.into() }
}

#[test]
fn a_holder_that_was_overtaken_writes_nothing() {
    let Some(server) = Running::start() else { return };
    let lease = Duration::from_secs(1);
    let connect =
        || -> Arc<dyn Backend> { Arc::new(Shared::connect(&server.url(), lease).unwrap()) };
    let (first, second) = (connect(), connect());
    let held = Lease::take(&first, key("s")).unwrap();
    assert!(matches!(Lease::take(&second, key("s")), Err(SessionError::InUse { .. })));
    // It is renewed while it is held.
    std::thread::sleep(2 * lease);
    assert!(matches!(Lease::take(&second, key("s")), Err(SessionError::InUse { .. })));
    // The holder pauses until its lease has expired, and another takes over.
    // A renewal may come in between, which restores a lease that nobody else has.
    let taken = (0..100).find_map(|_| {
        let _: i64 = server.command(&["DEL", "longhand:a:lease:ss"]);
        Lease::take(&second, key("s")).ok()
    });
    let taken = taken.unwrap();
    assert!(taken.fence > held.fence);
    let write = |lease: &Lease, value: &[u8]| {
        let mut batch = Batch::new(&owner("a"));
        batch.guards.push(lease.guard());
        batch.put.push(Put { key: key("s"), value: value.to_vec(), expires: None });
        batch.blobs.push((7, value.to_vec()));
        (batch.sessions, batch.bytes) = (1, 5);
        batch
    };
    let outcomes = first.commit(&[write(&held, b"late")]);
    assert!(matches!(&outcomes[0], Err(SessionError::LeaseLost { name }) if name == "s"));
    assert_eq!(first.record(&key("s")).unwrap(), None);
    assert_eq!(first.blob(&owner("a"), 7).unwrap(), None);
    assert!(second.commit(&[write(&taken, b"good")])[0].is_ok());
    // Late again, and after the other gave its lease back.
    drop(taken);
    assert!(first.commit(&[write(&held, b"late")])[0].is_err());
    assert_eq!(first.record(&key("s")).unwrap().unwrap(), b"good");
    assert_eq!(first.used(&owner("a")).unwrap(), Used { sessions: 1, bytes: 5 });
    assert_eq!(second.owners().unwrap(), [owner("a")]);
    // What nobody renews runs out by itself.
    assert!(second.lease(&key("t")).unwrap().is_some());
    assert!(first.lease(&key("t")).unwrap().is_none());
    drop(second);
    let waited = (0..200).any(|_| {
        std::thread::sleep(lease / 10);
        first.lease(&key("t")).unwrap().is_some()
    });
    assert!(waited, "the lease of a server that has ended is held for ever");
}

#[test]
fn a_lease_that_ended_with_its_write_takes_no_later_one_with_it() {
    // No server is asked.
    let client = Client::open("redis://127.0.0.1:1").unwrap();
    let server = Server { client, lease: LEASE, spare: Mutex::default(), held: Mutex::default() };
    let (releases, released) = channel();
    let shared = Shared { server: Arc::new(server), releases };
    shared.server.held().insert(key("s"), 2);
    shared.release(&key("s"), 1);
    assert_eq!(shared.server.held().get(&key("s")), Some(&2));
    shared.release(&key("s"), 2);
    assert!(shared.server.held().is_empty());
    drop(shared);
    assert_eq!(released.iter().collect::<Vec<_>>(), [(key("s"), 1), (key("s"), 2)]);
}

#[test]
fn what_expired_is_erased_by_any_server_and_counted_by_each() {
    let Some(server) = Running::start() else { return };
    let engine = tiny(Format::F32, 1);
    let url = server.url();
    let shared = || Sessions::shared(&url, SessionsSettings::default()).unwrap();
    let (first, second) = (shared(), shared());
    let (a, ttl) = (owner("a"), Some(Duration::from_secs(60)));
    let host = host(&engine, &first, None, HostSettings::default());
    run(&host, turn("s", ids(3, 1), 2, 1)).unwrap();
    first.set_ttl(&a, &name("s"), ttl).unwrap();
    for copy in ["t", "u"] {
        first.fork(&a, &name("s"), &name(copy), None).unwrap();
    }
    first.set_ttl(&a, &name("t"), None).unwrap();
    first.rename(&a, &name("u"), &name("v")).unwrap();
    for (id, ttl) in [("brief", ttl), ("long", ttl), ("long", None)] {
        first.put_document(&a, "kind", id, b"x", ttl).unwrap();
    }
    assert_eq!(second.sweep().unwrap(), 0);
    assert_eq!(second.counters().sessions_stored.get(), 3);
    second.shelf.clock.pass(Duration::from_secs(61));
    assert_eq!(second.shelf.sweep(Some(&owner("b"))).unwrap(), 0);
    assert_eq!(second.sweep().unwrap(), 3);
    let left: Vec<String> =
        second.list(&a).unwrap().iter().map(|info| info.name.to_string()).collect();
    assert_eq!(left, ["t"]);
    assert_eq!(second.documents(&a, "kind").unwrap(), ["long"]);
    let expiring: Vec<String> = server.command(&["ZRANGE", EXPIRIES, "0", "-1"]);
    assert!(expiring.is_empty(), "{expiring:?}");
    let third = shared();
    for store in [&second, &third] {
        assert_eq!(store.counters().sessions_stored.get(), 1);
        assert_eq!(store.counters().sessions_stored_bytes.get(), store.used(&a).unwrap().bytes);
    }
    assert_eq!(first.counters().sessions_stored.get(), 3, "it learns of it with its next sweep");
    first.sweep().unwrap();
    assert_eq!(first.counters().sessions_stored.get(), 1);
}

/// Two servers that share their sessions, with a kill of the store in between, against one server
/// with a database of its own.
#[test]
fn two_hosts_on_one_store_go_on_with_each_others_sessions() {
    let Some(mut server) = Running::start() else { return };
    let engine = tiny(Format::F32, 1);
    let alone = Sessions::in_memory(SessionsSettings::default()).unwrap();
    let settings = HostSettings { verify: 0.5, ..HostSettings::default() };
    let plain = host(&engine, &alone, None, settings);
    let url = server.url();
    let shared = || Sessions::shared(&url, SessionsSettings::default()).unwrap();
    let stores = [shared(), shared()];
    let hosts: Vec<_> = stores.iter().map(|store| host(&engine, store, None, settings)).collect();
    let mut random = Random(3);
    for round in 0..60u64 {
        if round == 30 {
            server.kill_and_start();
        }
        let job = || turn(&format!("s{}", round % 7), ids(1 + round as usize, round), 5, round);
        let expected = run(&plain, job()).unwrap();
        let at = random.below(2) as usize;
        // Whoever heard of the end of one job can go on with another server at once.
        let got = run(&hosts[at], job()).unwrap();
        assert_eq!(got.tokens, expected.tokens, "round {round}");
        assert_eq!(got.outcome().position, expected.outcome().position);
    }
    let a = owner("a");
    for at in 0..7 {
        let called = name(&format!("s{at}"));
        let expected = alone.export(&a, &called).unwrap();
        assert_eq!(stores[0].export(&a, &called).unwrap(), expected);
        assert_eq!(stores[1].export(&a, &called).unwrap(), expected);
    }
    for store in &stores {
        assert_eq!(store.counters().verify_failures.get(), 0);
        assert_eq!(store.list(&a).unwrap().len(), 7);
    }
    assert!(stores.iter().any(|store| store.counters().verified.get() > 0));
    stores[0].rename(&a, &name("s0"), &name("t")).unwrap();
    stores[1].fork(&a, &name("t"), &name("u"), None).unwrap();
    stores[0].put_document(&a, "response", "r", b"{}", None).unwrap();
    assert_eq!(stores[1].document(&a, "response", "r").unwrap().unwrap(), b"{}");
    let used = stores[0].used(&a).unwrap();
    assert_eq!(used.sessions, 8);
    for info in stores[1].list(&a).unwrap() {
        stores[1].erase(&a, &info.name).unwrap();
    }
    assert!(stores[1].erase_document(&a, "response", "r").unwrap());
    assert_eq!(stores[0].used(&a).unwrap(), Used::default());
    // Nothing is left behind but counters.
    let keys: Vec<String> = server.command(&["KEYS", "longhand:*blob*"]);
    assert!(keys.is_empty(), "{keys:?}");
}

/// One session, which two servers want at the same time: no turn is lost or done twice.
#[test]
fn one_session_is_advanced_by_one_server_at_a_time() {
    let Some(server) = Running::start() else { return };
    let engine = tiny(Format::F32, 1);
    let threads: Vec<_> = (0..2)
        .map(|at| {
            let (engine, url) = (engine.clone(), server.url());
            std::thread::spawn(move || {
                let store = Sessions::shared(&url, SessionsSettings::default()).unwrap();
                let host = host(&engine, &store, None, HostSettings::default());
                let mut done = 0;
                while done < 20 {
                    match run(&host, turn("s", ids(3, at), 2, at)) {
                        Ok(ran) => {
                            assert_eq!(ran.outcome().usage.read + ran.outcome().usage.generated, 5);
                            done += 1;
                        }
                        Err(JobError::Session(SessionError::InUse { .. })) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let store = Sessions::shared(&server.url(), SessionsSettings::default()).unwrap();
    let info = store.show(&owner("a"), &name("s")).unwrap();
    assert_eq!((info.turns, info.position), (40, 40 * 5));
    assert!(Sessions::shared("redis://127.0.0.1:1", SessionsSettings::default()).is_err());
    assert!(Sessions::shared("nonsense", SessionsSettings::default()).is_err());
}
