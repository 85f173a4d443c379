//! A server in a process of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::Place;

/// A server that ends with the test.
pub(crate) struct Served {
    child: Child,
    pub(crate) url: String,
}

impl Served {
    /// Starts `longhand LINE`, and waits until it listens.
    pub(crate) fn start(place: &Place, line: &str) -> Self {
        Self::run(place, Command::new(env!("CARGO_BIN_EXE_longhand")), line)
    }

    /// The same, where no file may become larger than some blocks of 512 bytes: a small disk.
    pub(crate) fn start_limited(place: &Place, line: &str, blocks: u32) -> Self {
        let mut command = Command::new("sh");
        // Without the signal, as on a disk that is full, the write fails and nobody is killed.
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_longhand")]);
        Self::run(place, command, line)
    }

    fn run(place: &Place, mut command: Command, line: &str) -> Self {
        command.current_dir(place.0.path()).args(line.split_whitespace());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let (mut all, mut last) = (String::new(), String::new());
        let url = loop {
            last.clear();
            assert!(said.read_line(&mut last).unwrap() > 0, "the server ended: {all}");
            all += &last;
            if let Some((_, url)) = last.split_once("listening at ") {
                break url.trim().to_owned();
            }
        };
        // A full pipe would stop it.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self { child, url }
    }

    /// Sends a signal, as `HUP`.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// The status and the JSON of an answer.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let address = self.url.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: \
             application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap())
    }

    /// The JSON of an answer to a request that succeeds.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.ask("POST", path, body);
        assert_eq!(status, 200, "{path} {body}: {answer}");
        answer
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It has ended by itself where this fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
