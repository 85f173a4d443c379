//! Synthetic log lines with anomalies, and how well scores find them.
//!
//! `log_sample write FOLDER` writes `train.log` (60,000 clean lines), `reference.log` (20,000 clean
//! ones), `test.log` (200,000 lines of which 200 are anomalies of five kinds) and `test.kinds`, the
//! kind of each line. `log_sample measure SCORES KINDS` reads the output of `longhand score --by line
//! --json` and prints the area under the ROC curve of the mean, the maximum and the sum of the
//! surprisal, for all anomalies and for each kind against the normal lines.
#![allow(clippy::print_stdout, clippy::expect_used)]

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

const TRAIN: usize = 60_000;
const REFERENCE: usize = 20_000;
const TEST: usize = 200_000;
/// Anomalies of each kind in the test.
const EACH: usize = 40;
/// The kinds of anomalies.
const KINDS: [&str; 5] = ["template", "parameter", "order", "range", "garbled"];

/// Services and their messages, with how often each comes. Names in braces are parameters.
const TEMPLATES: [(&str, &str, u32); 36] = [
    ("nginx", "{ip} GET {path} {status} {bytes} {ms}ms", 300),
    ("nginx", "{ip} POST {path} {status} {bytes} {ms}ms", 120),
    ("nginx", "upstream {service} timed out after {ms}ms while reading response header", 4),
    ("nginx", "{ip} HEAD /health 200 0 1ms", 60),
    ("sshd", "Accepted publickey for {user} from {ip} port {port} ssh2", 60),
    ("sshd", "Failed password for {user} from {ip} port {port} ssh2", 15),
    ("sshd", "Disconnected from user {user} {ip} port {port}", 55),
    ("sshd", "pam_unix(sshd:session): session opened for user {user} by (uid=0)", 58),
    ("sshd", "pam_unix(sshd:session): session closed for user {user}", 57),
    ("cron", "({user}) CMD (/usr/local/bin/{job} --quiet)", 40),
    ("cron", "({user}) END (/usr/local/bin/{job}) exit status 0 after {seconds}s", 40),
    ("kernel", "eth{small}: link up, {speed} Mbps, full duplex", 6),
    ("kernel", "eth{small}: link down", 5),
    ("kernel", "CPU{small}: core temperature {celsius} C, fan {rpm} rpm", 80),
    ("kernel", "Out of memory: killed process {pid} ({service}) total-vm:{kb}kB", 1),
    ("kernel", "EXT4-fs (sd{letter}1): mounted filesystem with ordered data mode", 3),
    ("systemd", "Starting {service}.service...", 20),
    ("systemd", "Started {service}.service.", 20),
    ("systemd", "{service}.service: main process exited, code=exited, status={small}", 5),
    ("systemd", "{service}.service: scheduled restart job, restart counter is at {small}.", 5),
    ("postgres", "checkpoint complete: wrote {count} buffers ({percent}%); write={seconds} s", 30),
    ("postgres", "duration: {ms} ms statement: SELECT * FROM {table} WHERE id = {pid}", 70),
    (
        "postgres",
        "duration: {ms} ms statement: UPDATE {table} SET state = {small} WHERE id = {pid}",
        45,
    ),
    ("postgres", "connection authorized: user={user} database={table} SSL enabled", 35),
    ("postgres", "deadlock detected between process {pid} and process {pid}", 1),
    ("payments", "charge of {amount} EUR for order {pid} approved in {ms}ms", 50),
    ("payments", "charge of {amount} EUR for order {pid} declined: {reason}", 9),
    ("payments", "retrying order {pid}, attempt {small} of 5", 12),
    ("queue", "worker {small} took job {job} after {ms}ms, {count} jobs waiting", 90),
    ("queue", "worker {small} finished job {job} in {seconds}s", 88),
    ("queue", "depth {count}, consumers {small}, lag {ms}ms", 60),
    ("dhcpd", "DHCPACK on {ip} to {mac} via eth{small}", 25),
    ("dhcpd", "DHCPDISCOVER from {mac} via eth{small}", 25),
    ("backup", "volume sd{letter}: {percent}% used, {kb}kB free", 30),
    ("backup", "snapshot {job} of sd{letter} done in {seconds}s", 10),
    ("auth", "token of {user} renewed, valid for {seconds}s", 40),
];

const USERS: [&str; 14] = [
    "alice", "bruno", "chen", "deploy", "elena", "farid", "grace", "hiro", "ines", "jonas", "root",
    "backup", "www-data", "postgres",
];
const SERVICES: [&str; 9] =
    ["nginx", "sshd", "postgres", "payments", "queue", "auth", "backup", "search", "mailer"];
const PATHS: [&str; 12] = [
    "/",
    "/login",
    "/api/v1/orders",
    "/api/v1/users",
    "/api/v1/search",
    "/static/app.js",
    "/static/main.css",
    "/img/logo.png",
    "/cart",
    "/checkout",
    "/feed.xml",
    "/metrics",
];
const JOBS: [&str; 8] = [
    "rotate-logs",
    "send-mail",
    "reindex",
    "thumbnails",
    "report-daily",
    "prune-cache",
    "sync-stock",
    "export-csv",
];
const TABLES: [&str; 6] = ["orders", "users", "carts", "invoices", "sessions", "products"];
const REASONS: [&str; 4] =
    ["insufficient funds", "card expired", "issuer unavailable", "limit exceeded"];

/// Messages that no template has.
const UNSEEN: [(&str, &str); 8] = [
    ("kernel", "general protection fault ip:{kb} sp:{kb} error:0 in libcrypto.so.3"),
    ("sshd", "error: kex_exchange_identification: banner line contains invalid characters"),
    ("nginx", "SSL_do_handshake() failed: wrong version number while SSL handshaking to upstream"),
    ("postgres", "invalid page in block {count} of relation base/{pid}/{pid}"),
    ("payments", "ledger mismatch: expected {amount} but found {amount}, halting settlement"),
    ("systemd", "Failed to mount /srv/archive: superblock could not be read"),
    ("queue", "poisoned message moved to quarantine by operator request"),
    ("auth", "signature of the identity provider does not verify, refusing all logins"),
];
/// Values of parameters that never came before.
const RARE: [(&str, &str); 6] = [
    ("user", "mallory"),
    ("path", "/wp-admin/setup.php"),
    ("job", "xmrig-miner"),
    ("table", "pg_shadow"),
    ("service", "netcat"),
    ("reason", "stolen card"),
];
/// Values out of range: times, temperatures, shares and ports as they never are.
const BEYOND: [(&str, &str); 7] = [
    ("ms", "48213977"),
    ("celsius", "417"),
    ("percent", "613"),
    ("port", "7104439"),
    ("seconds", "90441267"),
    ("status", "7013"),
    ("rpm", "930000"),
];

/// Numbers of a seed (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn between(&mut self, least: usize, most: usize) -> usize {
        least + self.below(most - least + 1)
    }

    fn of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }

    /// Of values of which the first ones come more often.
    fn skewed<T: Copy>(&mut self, values: &[T]) -> T {
        let most = self.below(values.len()) + 1;
        values[self.below(most)]
    }
}

/// A clock, and the lines that it dates.
struct Log {
    random: Random,
    milliseconds: u64,
}

impl Log {
    fn new(seed: u64) -> Self {
        Self { random: Random(seed), milliseconds: 0 }
    }

    fn template(&mut self, fits: impl Fn(&str) -> bool) -> (&'static str, &'static str) {
        let fitting = || TEMPLATES.iter().filter(|(_, message, _)| fits(message));
        let all: u32 = fitting().map(|template| template.2).sum();
        let mut place = self.random.below(all.max(1) as usize) as u32;
        for &(service, message, weight) in fitting() {
            if place < weight {
                return (service, message);
            }
            place -= weight;
        }
        (TEMPLATES[0].0, TEMPLATES[0].1)
    }

    /// The value of a parameter.
    fn value(&mut self, name: &str) -> String {
        let r = &mut self.random;
        match name {
            "ip" => format!("10.{}.{}.{}", r.between(0, 3), r.between(0, 9), r.between(1, 254)),
            "path" => r.skewed(&PATHS).to_owned(),
            "status" => {
                r.skewed(&["200", "200", "200", "304", "301", "404", "403", "500"]).to_owned()
            }
            "bytes" => r.between(100, 99_999).to_string(),
            "ms" => r.between(1, 950).to_string(),
            "seconds" => r.between(1, 59).to_string(),
            "user" => r.skewed(&USERS).to_owned(),
            "port" => r.between(32_768, 60_999).to_string(),
            "service" => r.skewed(&SERVICES).to_owned(),
            "job" => r.skewed(&JOBS).to_owned(),
            "table" => r.skewed(&TABLES).to_owned(),
            "reason" => r.skewed(&REASONS).to_owned(),
            "small" => r.between(0, 4).to_string(),
            "speed" => r.of(&["100", "1000", "10000"]).to_owned(),
            "celsius" => r.between(35, 75).to_string(),
            "rpm" => format!("{}00", r.between(8, 32)),
            "pid" => r.between(1_000, 32_000).to_string(),
            "kb" => r.between(100_000, 9_999_999).to_string(),
            "letter" => r.of(&["a", "b", "c"]).to_owned(),
            "count" => r.between(0, 400).to_string(),
            "percent" => r.between(1, 98).to_string(),
            "amount" => format!("{}.{:02}", r.between(1, 399), r.between(0, 99)),
            "mac" => {
                let mut parts = (0..3).map(|_| format!("{:02x}", r.below(256)));
                let parts: Vec<String> = parts.by_ref().collect();
                format!("52:54:00:{}", parts.join(":"))
            }
            _ => String::new(),
        }
    }

    /// A message with its parameters; one of them has the value that is given.
    fn fill(&mut self, message: &str, given: Option<(&str, &str)>) -> String {
        let mut filled = String::new();
        let mut rest = message;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').unwrap_or((after, ""));
            filled += before;
            match given.filter(|(given, _)| *given == name) {
                Some((_, value)) => filled += value,
                None => filled += &self.value(name),
            }
            rest = after;
        }
        filled + rest
    }

    fn line(&mut self, service: &str, message: &str) -> String {
        self.milliseconds += self.random.below(900) as u64;
        let (s, ms) = (self.milliseconds / 1000, self.milliseconds % 1000);
        let (day, hour, minute) = (1 + s / 86_400 % 28, s / 3600 % 24, s / 60 % 60);
        let host =
            self.random.skewed(&["web-1", "web-2", "web-3", "db-1", "db-2", "mq-1", "edge-1"]);
        let pid = self.random.between(300, 999);
        format!(
            "2026-03-{day:02}T{hour:02}:{minute:02}:{:02}.{ms:03} {host} {service}[{pid}]: {message}",
            s % 60
        )
    }

    fn normal(&mut self) -> String {
        let (service, message) = self.template(|_| true);
        let message = self.fill(message, None);
        self.line(service, &message)
    }

    fn anomaly(&mut self, kind: usize) -> String {
        match kind {
            0 => {
                let (service, message) = self.random.of(&UNSEEN);
                let message = self.fill(message, None);
                self.line(service, &message)
            }
            1 | 3 => {
                let given = if kind == 1 { self.random.of(&RARE) } else { self.random.of(&BEYOND) };
                let named = format!("{{{}}}", given.0);
                let (service, message) = self.template(|message| message.contains(&named));
                let message = self.fill(message, Some(given));
                self.line(service, &message)
            }
            2 => {
                // Two neighbours of a message of enough words change places.
                let (service, message) = self.template(|message| {
                    message.split(' ').filter(|w| !w.contains('{')).count() > 4
                });
                let message = self.fill(message, None);
                let mut words: Vec<&str> = message.split(' ').collect();
                let place = self.random.below(words.len() - 2);
                words.swap(place, place + 2);
                self.line(service, &words.join(" "))
            }
            _ => {
                let line = self.normal();
                if self.random.below(2) == 0 {
                    let end = self.random.between(line.len() / 3, line.len() * 4 / 5);
                    return line[..end].trim_end().to_owned();
                }
                let mut bytes = line.into_bytes();
                for _ in 0..6 {
                    let place = self.random.between(24, bytes.len() - 1);
                    bytes[place] = b'!' + self.random.below(90) as u8;
                }
                String::from_utf8_lossy(&bytes).into_owned()
            }
        }
    }
}

fn write(folder: &Path) -> Result<()> {
    fs_err::create_dir_all(folder)?;
    for (name, lines, seed) in [("train", TRAIN, 1), ("reference", REFERENCE, 2)] {
        let mut log = Log::new(seed);
        let text: String = (0..lines).map(|_| log.normal() + "\n").collect();
        fs_err::write(folder.join(format!("{name}.log")), text)?;
    }
    let mut log = Log::new(3);
    // One anomaly in each stretch of equal length.
    let stretch = TEST / (EACH * KINDS.len());
    let (mut text, mut kinds) = (String::new(), String::new());
    for part in 0..EACH * KINDS.len() {
        let place = log.random.below(stretch);
        for line in 0..stretch {
            let anomaly = (line == place).then_some(part % KINDS.len());
            let written = match anomaly {
                Some(kind) => log.anomaly(kind),
                None => log.normal(),
            };
            writeln!(text, "{written}")?;
            writeln!(kinds, "{}", anomaly.map_or("normal", |kind| KINDS[kind]))?;
        }
    }
    fs_err::write(folder.join("test.log"), text)?;
    Ok(fs_err::write(folder.join("test.kinds"), kinds)?)
}

/// The chance that an anomaly has a larger value than a normal line; equal ones count half.
fn area(normal: &[f64], anomalies: &[f64]) -> f64 {
    let mut sorted = normal.to_vec();
    sorted.sort_by(f64::total_cmp);
    let wins = anomalies.iter().map(|value| {
        let below = sorted.partition_point(|other| other < value);
        let not_above = sorted.partition_point(|other| other <= value);
        (below + not_above) as f64 / 2.0
    });
    wins.sum::<f64>() / (normal.len() * anomalies.len()).max(1) as f64
}

fn measure(scores: &Path, kinds: &Path) -> Result<()> {
    let kinds = fs_err::read_to_string(kinds)?;
    let scores = fs_err::read_to_string(scores)?;
    let lines = scores.lines().zip(kinds.lines());
    let rows = lines.map(|(line, kind)| Ok((serde_json::from_str::<Value>(line)?, kind)));
    let rows: Vec<(Value, &str)> = rows.collect::<Result<_>>()?;
    println!("{} lines", rows.len());
    println!("{:10} {:>8} {:>8} {:>8}", "kind", "mean", "max", "sum");
    for kind in KINDS.iter().chain(&["all"]) {
        let mut told = format!("{kind:10}");
        for field in ["mean", "max", "sum"] {
            let values = |wanted: &dyn Fn(&str) -> bool| -> Vec<f64> {
                let some = rows.iter().filter(|(_, kind)| wanted(kind));
                some.map(|(row, _)| row[field].as_f64().unwrap_or(0.0)).collect()
            };
            let normal = values(&|kind| kind == "normal");
            let anomalies = values(&|it| it == *kind || (*kind == "all" && it != "normal"));
            write!(told, " {:8.5}", area(&normal, &anomalies))?;
        }
        println!("{told}");
    }
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["write", folder] => write(Path::new(folder)),
        ["measure", scores, kinds] => {
            measure(Path::new(scores), Path::new(kinds)).context("the scores cannot be measured")
        }
        _ => bail!("log_sample write FOLDER | log_sample measure SCORES KINDS"),
    }
}
