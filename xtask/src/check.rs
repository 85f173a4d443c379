//! `cargo xtask check`: the one list of what must hold before a change lands.
//!
//! `.ci/run` installs what this list needs and then calls it, so that a developer and CI run
//! the same thing. A step that passes prints one line; a step that fails prints all it said.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// The command that the README tells a person to type; CI types the same.
const README_TEST_COMMAND: [&str; 3] = ["cargo", "test", "--workspace"];

/// Runs every check of the workspace at `root`, cheapest first. The error names the first one that
/// fails; later ones do not run.
pub(crate) fn check(root: &Path) -> Result<()> {
    let readme = fs_err::read_to_string(root.join("README.md"))?;
    let test_command = README_TEST_COMMAND.join(" ");
    if !readme.contains(&test_command) {
        bail!("README.md no longer gives `{test_command}` as the way to run the tests");
    }

    step("format", || run(root, &["cargo", "fmt", "--all", "--check"]))?;
    step("tidy", || crate::tidy::tidy(root).map(|()| Outcome::passed()))?;
    step("dependencies", || deny(root))?;
    step("lints", || {
        let lints = ["--workspace", "--all-targets", "--", "-D", "warnings"];
        run(root, &[&["cargo", "clippy", "--quiet"], &lints[..]].concat())
    })?;
    step("tests", || run(root, &README_TEST_COMMAND))?;
    step("documentation", || {
        let mut command = command(root, &["cargo", "doc", "--quiet", "--workspace", "--no-deps"]);
        capture(command.env("RUSTDOCFLAGS", "-Dwarnings"))
    })?;
    step("fuzz targets compile", || fuzz(root))?;
    // Of the whole workspace, as the tests built them: one package alone has other features, and
    // would compile its dependencies anew.
    step("examples and the program", || {
        run(root, &["cargo", "build", "--quiet", "--workspace", "--bins", "--examples"])
    })?;
    two_at_a_time(
        root,
        &[
            ("TensorBoard reads our logs", tensorboard),
            ("Python reads our tokenisers", tokenizers),
            ("seqeval scores as we do", entities),
            ("answers are measured as SQuAD", spans),
            ("KenLM scores as we do", arpa),
            ("sacrebleu and ROUGE agree", metrics),
            ("transformers agrees on chats", chats),
            ("clients are answered", |root| ask_server(root, "server")),
            ("schemathesis finds nothing", |root| ask_server(root, "openapi")),
            ("lm-evaluation-harness agrees", |root| ask_server(root, "harness")),
            ("sessions outlive a server", |root| soak(root, 1)),
            ("two servers, one store", |root| soak(root, 2)),
            ("the page in Chromium", page),
            ("end to end", end_to_end),
        ],
    )
}

/// Runs checks of what is built. Most of them wait for a server, a browser or an interpreter, so that
/// two share two processors well. After a failure no other one begins.
fn two_at_a_time(root: &Path, checks: &[(&str, Check)]) -> Result<()> {
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(&(name, check)) = checks.get(next.fetch_add(1, Ordering::Relaxed)) {
            step(name, || check(root))
                .inspect_err(|_| next.store(checks.len(), Ordering::Relaxed))?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(work);
        let own = work();
        own.and(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// A check of the workspace at a path.
type Check = fn(&Path) -> Result<Outcome>;

/// The remark of a step that did not fail.
struct Outcome {
    remark: String,
}

impl Outcome {
    fn passed() -> Self {
        Self { remark: String::new() }
    }

    fn skipped(why: &str) -> Self {
        Self { remark: format!("SKIPPED: {why}") }
    }
}

/// Runs one step and prints its name, how long it took and what it remarks.
fn step(name: &str, body: impl FnOnce() -> Result<Outcome>) -> Result<()> {
    let start = Instant::now();
    let outcome = body().with_context(|| format!("step '{name}' failed"))?;
    println!("{name:<28} {:>6.1} s  {}", start.elapsed().as_secs_f64(), outcome.remark);
    Ok(())
}

/// Licences, bans and sources of dependencies, by cargo-deny: the one `.ci/run` installs below the
/// target folder, or the one on the path. CI fails without it.
fn deny(root: &Path) -> Result<Outcome> {
    let installed = target_directory(root).join("tools/bin/cargo-deny");
    let program = if installed.exists() { installed } else { PathBuf::from("cargo-deny") };
    let starts = Command::new(&program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !starts {
        let why = "cargo-deny is not installed (cargo install --locked cargo-deny)";
        if in_ci() {
            bail!(why);
        }
        return Ok(Outcome::skipped(why));
    }
    let arguments = ["--log-level", "error", "check", "bans", "licenses", "sources"];
    capture(Command::new(program).current_dir(root).args(arguments))
}

/// The fuzz crate is a workspace of its own: a stable toolchain checks it without running it. With the
/// versions and the folder of this workspace most of its dependencies are checked already.
fn fuzz(root: &Path) -> Result<Outcome> {
    if !root.join("fuzz/Cargo.toml").exists() {
        return Ok(Outcome::skipped("no fuzz targets"));
    }
    fs_err::copy(root.join("Cargo.lock"), root.join("fuzz/Cargo.lock"))?;
    let mut command =
        command(root, &["cargo", "check", "--quiet", "--manifest-path", "fuzz/Cargo.toml"]);
    capture(command.arg("--target-dir").arg(target_directory(root)))
}

/// Writes event files with our writer and reads them with TensorBoard's own package.
fn tensorboard(root: &Path) -> Result<Outcome> {
    let expected = ["--scalar", "train/loss", "--scalar", "valid/loss"];
    let expected = [&expected[..], &["--histogram", "gates/forget", "--text", "sample"]].concat();
    read_in_python(root, "tensorboard", "tensorboard_sample", &expected)
}

/// Trains each kind of tokeniser and encodes with the Python package `tokenizers`.
fn tokenizers(root: &Path) -> Result<Outcome> {
    read_in_python(root, "tokenizers", "tokenizers_sample", &[])
}

/// Scores the entities of random tags and compares with the Python package `seqeval`.
fn entities(root: &Path) -> Result<Outcome> {
    read_in_python(root, "entities", "entities_sample", &[])
}

/// Measures random answers and compares with SQuAD's and CMRC's rules in Python.
fn spans(root: &Path) -> Result<Outcome> {
    read_in_python(root, "spans", "spans_sample", &[])
}

/// Writes n-gram models as ARPA files and scores a text with the Python package `kenlm`.
fn arpa(root: &Path) -> Result<Outcome> {
    read_in_python(root, "arpa", "arpa_sample", &[])
}

/// Measures random outputs and compares with the Python packages `sacrebleu` and `rouge-score`.
fn metrics(root: &Path) -> Result<Outcome> {
    read_in_python(root, "metrics", "metrics_sample", &[])
}

/// Renders conversations by chat templates and compares with the Python package `transformers`.
fn chats(root: &Path) -> Result<Outcome> {
    read_in_python(root, "chat_templates", "chat_sample", &[])
}

/// Has `scripts/check_NAME.py` serve small models and ask the server: with the clients of OpenAI and
/// Anthropic, with `schemathesis`, and with lm-evaluation-harness.
fn ask_server(root: &Path, name: &str) -> Result<Outcome> {
    let python = match python(root)? {
        Ok(python) => python,
        Err(skipped) => return Ok(skipped),
    };
    let folder = target_directory(root).join(format!("check-{name}"));
    if folder.exists() {
        fs_err::remove_dir_all(&folder)?;
    }
    let mut command = Command::new(python);
    let script = format!("scripts/check_{name}.py");
    capture(command.current_dir(root).arg(script).arg(program(root)).arg(&folder))
}

/// The program, which was built before.
fn program(root: &Path) -> PathBuf {
    target_directory(root).join("debug/longhand")
}

/// Has conversations with servers that are killed meanwhile. Several servers share a Valkey or Redis
/// server; CI fails without one.
fn soak(root: &Path, servers: usize) -> Result<Outcome> {
    if servers > 1 && crate::soak::store_program().is_none() {
        let why = "neither valkey-server nor redis-server is on the path (.ci/run installs it)";
        if in_ci() {
            bail!(why);
        }
        return Ok(Outcome::skipped(why));
    }
    let folder = target_directory(root).join(format!("check-soak-{servers}"));
    let remark = crate::soak::short(&program(root), &folder, servers)?;
    Ok(Outcome { remark })
}

/// The Python that the checks run on, or why they are skipped. CI fails without it.
fn python(root: &Path) -> Result<Result<PathBuf, Outcome>> {
    let python = target_directory(root).join("venv/bin/python");
    if python.exists() {
        return Ok(Ok(python));
    }
    let why = format!("no Python environment at {} (.ci/run makes it)", python.display());
    if in_ci() {
        bail!(why);
    }
    Ok(Err(Outcome::skipped(&why)))
}

/// Has an example write a folder, and `scripts/check_NAME.py` read it.
fn read_in_python(root: &Path, name: &str, example: &str, arguments: &[&str]) -> Result<Outcome> {
    let script = format!("scripts/check_{name}.py");
    if !root.join(&script).exists() {
        return Ok(Outcome::skipped(&format!("{script} is absent")));
    }
    let python = match python(root)? {
        Ok(python) => python,
        Err(skipped) => return Ok(skipped),
    };
    let folder = target_directory(root).join(format!("check-{name}"));
    if folder.exists() {
        fs_err::remove_dir_all(&folder)?;
    }
    let program = target_directory(root).join("debug/examples").join(example);
    capture(Command::new(program).current_dir(root).arg(&folder))?;
    let mut reader = Command::new(python);
    capture(reader.current_dir(root).arg(script).arg(&folder).args(arguments))
}

/// Drives the server's page in headless Chromium, with axe-core: before a small server of the script's own,
/// and before the program.
fn page(root: &Path) -> Result<Outcome> {
    let python = match python(root)? {
        Ok(python) => python,
        Err(skipped) => return Ok(skipped),
    };
    if Command::new("chromium").arg("--version").output().is_err() {
        let why = "no chromium on the path (.ci/run installs it)";
        if in_ci() {
            bail!(why);
        }
        return Ok(Outcome::skipped(why));
    }
    let mut script = Command::new(python);
    let script = script.current_dir(root).arg("scripts/check_page.py");
    capture(script.arg("--program").arg(program(root)))
}

/// Drives the built program as a person would.
fn end_to_end(root: &Path) -> Result<Outcome> {
    if !root.join("scripts/end_to_end.sh").exists() {
        return Ok(Outcome::skipped("scripts/end_to_end.sh is absent"));
    }
    run(root, &["bash", "scripts/end_to_end.sh"])
}

fn run(root: &Path, words: &[&str]) -> Result<Outcome> {
    capture(&mut command(root, words))
}

fn command(root: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(root);
    command
}

/// Runs a command quietly; shows everything it said if it fails, and test counts if it passes.
fn capture(command: &mut Command) -> Result<Outcome> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        return Ok(Outcome { remark: test_counts(&said) });
    }
    eprintln!("{said}{}", String::from_utf8_lossy(&output.stderr));
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
    let program = command.get_program().to_string_lossy();
    bail!("`{program} {}` ended with {}", words.join(" "), output.status)
}

/// Sums the `test result:` lines of `cargo test`; empty where there are none.
fn test_counts(said: &str) -> String {
    let (mut passed, mut ignored, mut found) = (0_u64, 0_u64, false);
    for line in said.lines().filter_map(|line| line.strip_prefix("test result: ok. ")) {
        found = true;
        for part in line.split(';') {
            let mut words = part.split_whitespace();
            let count = words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
            match words.next() {
                Some("passed") => passed += count,
                Some("ignored") => ignored += count,
                _ => {}
            }
        }
    }
    match (found, ignored) {
        (false, _) => String::new(),
        (true, 0) => format!("{passed} tests passed"),
        (true, _) => format!("{passed} tests passed, {ignored} ignored"),
    }
}

fn target_directory(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !value.is_empty() && value != "false")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_counts_are_summed_over_binaries() {
        let said = "running 2 tests\n\
            test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n\
            noise\n\
            test result: ok. 40 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n";
        assert_eq!(test_counts(said), "42 tests passed, 1 ignored");
        assert_eq!(test_counts("nothing of the kind"), "");
    }
}
