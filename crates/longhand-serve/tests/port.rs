//! A server at a port: what it does with clients that do not behave.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use longhand_serve::sessions::{
    CacheSettings, HostSettings, Sessions, SessionsSettings, StateCache,
};
use longhand_serve::{App, Keys, Limits, Models, ServerSettings, Shared, serve};

/// Longer than any wait of a test that passes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server without a model, which lives until the tests have ended.
fn server(change: impl FnOnce(&mut ServerSettings)) -> SocketAddr {
    server_with(Limits::default(), change)
}

fn server_with(limits: Limits, change: impl FnOnce(&mut ServerSettings)) -> SocketAddr {
    let sessions = Sessions::in_memory(SessionsSettings::default()).unwrap();
    let cache = StateCache::new(CacheSettings::default(), sessions.counters()).unwrap();
    let app = App::new(sessions.clone(), Arc::new(Keys::none().unwrap()), limits);
    let cpu = Arc::new(longhand_engine::Cpu::new(1));
    let shared = Shared { cpu, sessions, cache, sealer: None, settings: HostSettings::default() };
    let mut settings = ServerSettings::at("127.0.0.1:0".parse().unwrap());
    settings.head_time = Duration::from_millis(500);
    change(&mut settings);
    let (send, receive) = channel();
    std::thread::spawn(move || {
        let ready = move |address| send.send(address).unwrap();
        serve(&settings, app, move || Models::load(&[], &shared), ready)
    });
    receive.recv_timeout(PATIENCE).unwrap()
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// All that the server says until it closes the connection.
fn said(mut stream: TcpStream) -> String {
    let mut said = Vec::new();
    // A connection that is closed with bytes unread is reset.
    let _ = stream.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

/// The answer to a request without a body, as a whole.
fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = connect(address);
    // A server that is full may have closed it.
    let _ = write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    said(stream)
}

fn healthy(address: SocketAddr) -> bool {
    get(address, "/health").starts_with("HTTP/1.1 200")
}

#[test]
fn a_head_that_never_ends_or_is_too_long_ends_the_connection_alone() {
    let address = server(|_| {});
    let mut half = connect(address);
    write!(half, "GET /health HTTP/1.1\r\nhost: loc").unwrap();
    let mut long = connect(address);
    let head =
        format!("GET /health HTTP/1.1\r\nhost: localhost\r\nx-long: {}", "a".repeat(1 << 20));
    // The server may close before all of it is written.
    let _ = long.write_all(head.as_bytes());
    let refused = said(long);
    assert!(refused.is_empty() || refused.starts_with("HTTP/1.1 431"), "{refused}");
    assert!(healthy(address));
    // Nothing follows the half head; the server does not wait for ever.
    let ended = said(half);
    assert!(ended.is_empty() || ended.starts_with("HTTP/1.1 408"), "{ended}");
    assert!(healthy(address));
}

#[test]
fn more_connections_than_there_are_places_wait_for_one() {
    let address = server(|settings| settings.connections = 2);
    let idle: Vec<TcpStream> = (0..2).map(|_| connect(address)).collect();
    // It is accepted once the idle ones have used up their time.
    assert!(healthy(address));
    drop(idle);
}

#[test]
fn a_page_of_another_origin_is_not_answered_without_keys() {
    let address = server(|_| {});
    let mut stream = connect(address);
    write!(stream, "GET /v1/models HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n")
        .unwrap();
    assert!(said(stream).starts_with("HTTP/1.1 403"));
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let sessions = Sessions::in_memory(SessionsSettings::default()).unwrap();
    let app = App::new(sessions, Arc::new(Keys::none().unwrap()), Limits::default());
    let settings = ServerSettings::at(address);
    let served = serve(&settings, app, || unreachable!("it does not come so far"), |_| {});
    let error = served.unwrap_err().to_string();
    assert!(error.contains(&address.to_string()) && error.contains("--port"), "{error}");
}

/// A request whose body does not fit what is said of it.
fn begin_body(address: SocketAddr, length: &str) -> TcpStream {
    let mut stream = connect(address);
    write!(
        stream,
        "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: \
         application/json\r\n{length}\r\n\r\n"
    )
    .unwrap();
    stream
}

#[test]
fn a_body_that_never_ends_is_given_up_by_its_time_and_by_its_size() {
    let body_time = Duration::from_secs(2);
    let limits = Limits { body: 1 << 20, body_time, ..Limits::default() };
    let address = server_with(limits, |_| {});
    // Nothing follows the first bytes of one; the other goes on and on.
    let mut slow = begin_body(address, "content-length: 1000");
    slow.write_all(b"{\"model\"").unwrap();
    let mut endless = begin_body(address, "transfer-encoding: chunked");
    let piece = [&b"10000\r\n"[..], &vec![b' '; 1 << 16], b"\r\n"].concat();
    let mut sent = 0_u64;
    while endless.write_all(&piece).is_ok() {
        sent += 1 << 16;
        assert!(sent < 1 << 33, "any number of bytes is taken");
    }
    assert!(healthy(address));
    let answer = said(slow);
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(healthy(address));
}

#[test]
fn a_connection_that_says_nothing_after_its_answer_ends() {
    let address = server(|_| {});
    let mut stream = connect(address);
    write!(stream, "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    assert!(all.starts_with(b"HTTP/1.1 200"));
}

/// The most files that this process may have open, as Linux tells it.
fn open_files() -> usize {
    let limits = fs_err::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    soft.unwrap_or(1024)
}

#[test]
fn ten_thousand_connections_are_held_off_and_healthy_requests_are_answered() {
    const WANTED: usize = 10_000;
    const PLACES: usize = 256;
    // Both ends are of this process; other tests of it need some files too.
    let count = WANTED.min(open_files().saturating_sub(PLACES + 300));
    if count < WANTED {
        eprintln!("{count} connections in place of {WANTED}: `ulimit -n` allows no more");
    }
    let address = server(|settings| {
        settings.connections = PLACES;
        settings.head_time = Duration::from_millis(100);
    });
    let left = AtomicUsize::new(count);
    let take = |left: &AtomicUsize| {
        let less = |left: usize| left.checked_sub(1);
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    };
    // Some say nothing and some half a head; none is closed from this side.
    let open = || {
        let mut held = Vec::new();
        while take(&left) {
            let mut stream = connect(address);
            if held.len() % 2 == 0 {
                let _ = stream.write_all(b"GET /health HT");
            }
            held.push(stream);
        }
        held
    };
    let (answered, most) = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(open)).collect();
        let (begun, mut answered, mut most) = (Instant::now(), 0, 0);
        while answered < 3 || threads.iter().any(|thread| !thread.is_finished()) {
            assert!(begun.elapsed() < 4 * PATIENCE, "{answered} requests were answered");
            let answer = get(address, "/metrics");
            answered += usize::from(answer.starts_with("HTTP/1.1 200"));
            let lines = answer.lines();
            let open = lines.filter_map(|line| line.strip_prefix("longhand_connections "));
            most = open.filter_map(|open| open.parse().ok()).fold(most, usize::max);
        }
        let held: usize = threads.into_iter().map(|thread| thread.join().unwrap().len()).sum();
        assert_eq!(held, count);
        (answered, most)
    });
    assert!(answered >= 3 && (1..=PLACES).contains(&most), "{answered} answers, {most} open");
}

/// A certificate and a key in files, which fit each other or do not.
fn certificate(folder: &Path, fits: bool) -> (PathBuf, PathBuf) {
    let make = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (one, other) = (make(), make());
    let key = if fits { &one } else { &other };
    let (certificate_path, key_path) = (folder.join("cert.pem"), folder.join("key.pem"));
    fs_err::write(&certificate_path, one.cert.pem()).unwrap();
    fs_err::write(&key_path, key.signing_key.serialize_pem()).unwrap();
    (certificate_path, key_path)
}

#[test]
fn a_handshake_that_never_ends_ends_its_connection() {
    let folder = tempfile::tempdir().unwrap();
    let tls = certificate(folder.path(), true);
    let address = server(|settings| settings.tls = Some(tls));
    let mut silent = connect(address);
    let mut half = connect(address);
    // The head of a record of TLS, without the record.
    half.write_all(&[22, 3, 1, 2, 0]).unwrap();
    for stream in [&mut silent, &mut half] {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "{rest:?}");
    }
}

#[test]
fn a_certificate_that_does_not_fit_its_key_is_named_before_anything_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let sessions = Sessions::in_memory(SessionsSettings::default()).unwrap();
    let app = App::new(sessions, Arc::new(Keys::none().unwrap()), Limits::default());
    let mut settings = ServerSettings::at("127.0.0.1:0".parse().unwrap());
    settings.tls = Some(certificate(folder.path(), false));
    let served = serve(&settings, app, || unreachable!("it does not come so far"), |_| {});
    let error = served.unwrap_err().to_string();
    assert!(error.contains("do not fit each other") && error.contains("key.pem"), "{error}");
}
