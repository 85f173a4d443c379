//! What an operator copies (`deploy/`, `docs/serving.md`) names only flags and metrics that exist.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use longhand_serve::{ServeFile, metrics};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(name: &str) -> String {
    fs_err::read_to_string(root().join(name)).unwrap()
}

/// The flags of a verb, from its help.
fn flags(verb: &[&str]) -> Vec<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longhand"));
    let output = command.args(verb).arg("--help").output().unwrap();
    assert!(output.status.success(), "{verb:?}: {}", String::from_utf8_lossy(&output.stderr));
    flags_in(&String::from_utf8(output.stdout).unwrap())
}

/// Every `--flag` of a text.
fn flags_in(text: &str) -> Vec<String> {
    let is_part = |letter: char| letter.is_ascii_lowercase() || letter == '-';
    let flag = |rest: &str| {
        let name: String = rest.chars().take_while(|&letter| is_part(letter)).collect();
        let name = name.trim_end_matches('-');
        (name.len() > 1).then(|| format!("--{name}"))
    };
    // A flag begins a word; `---` and a name's own hyphens begin none.
    let starts = text.match_indices("--").filter(|&(at, _)| {
        let before = text[..at].chars().next_back();
        before.is_none_or(|before| !before.is_alphanumeric() && before != '-')
    });
    starts.filter_map(|(at, _)| flag(&text[at + 2..])).collect()
}

/// The commands of a text: a line with `longhand VERB`, and the lines that it goes on in.
fn commands(text: &str, verb: &str) -> Vec<String> {
    let begins = format!("longhand {verb}");
    let mut found: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in text.lines() {
        if goes_on {
            let last = found.last_mut().unwrap();
            *last = format!("{} {}", last.trim_end_matches('\\'), line.trim());
        } else if let Some(at) = line.find(&begins) {
            found.push(line[at..].trim_end_matches('`').to_owned());
        } else {
            continue;
        }
        goes_on = line.ends_with('\\');
    }
    found
}

fn assert_known(name: &str, used: &[String], known: &[String]) {
    for flag in used {
        assert!(known.contains(flag), "{name} names {flag}, which is no flag of {known:?}");
    }
}

#[test]
fn flags_are_found_in_texts() {
    let text = "--a-b X, `--host`, ---, a--b, -x, --port=8, (--key-file)";
    assert_eq!(flags_in(text), ["--a-b", "--host", "--port", "--key-file"]);
    let text = "x longhand serve m --a \\\n  --b\nlonghand doctor --c\n  `longhand serve --d`";
    assert_eq!(commands(text, "serve"), ["longhand serve m --a  --b", "longhand serve --d"]);
}

#[test]
fn what_is_deployed_and_documented_names_flags_that_exist() {
    let verbs: [&[&str]; 3] = [&["serve"], &["doctor"], &["bench", "serve"]];
    for verb in verbs {
        let known = flags(verb);
        let mut used = 0;
        for name in ["docs/serving.md", "deploy/longhand.service", "deploy/Dockerfile", "README.md"]
        {
            for command in commands(&read(name), &verb.join(" ")) {
                let flags = flags_in(&command);
                used += flags.len();
                assert_known(name, &flags, &known);
            }
        }
        assert!(used > 0, "no flag of {verb:?} is documented");
    }
    // The image's command is a list of words.
    let dockerfile = read("deploy/Dockerfile");
    let command = dockerfile.lines().find_map(|line| line.strip_prefix("CMD ")).unwrap();
    let words: Vec<String> = serde_json::from_str(command).unwrap();
    assert_eq!(words[0], "serve");
    assert_known("deploy/Dockerfile", &flags_in(&words.join(" ")), &flags(&["serve"]));
    // What the guide says of flags outside of commands.
    let all: Vec<String> = verbs.iter().flat_map(|verb| flags(verb)).collect();
    let guide = read("docs/serving.md");
    // Another program has flags of its own.
    let ours: Vec<&str> = guide.lines().filter(|line| !line.starts_with("    lm_eval")).collect();
    assert_known("docs/serving.md", &flags_in(&ours.join("\n")), &all);
}

/// The example file is read, with the settings commented in too, and each key is a flag.
#[test]
fn the_example_settings_are_those_of_the_server() {
    let text = read("deploy/serve.toml");
    let all: String = text
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|line| line.contains(" = \"")).unwrap_or(line))
        .map(|line| format!("{line}\n"))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("serve.toml");
    for text in [&text, &all] {
        fs_err::write(&path, text).unwrap();
        let file = ServeFile::load(&path).unwrap();
        assert_eq!((file.models.len(), file.port), (1, Some(8080)));
    }
    assert!(ServeFile::load(&path).unwrap().api_key_file.is_some(), "{all}");
    let known = flags(&["serve"]);
    for line in all.lines().filter(|line| !line.starts_with('#')) {
        let Some((key, _)) = line.split_once(" = ") else { continue };
        if key != "models" {
            assert_known("deploy/serve.toml", &[format!("--{}", key.replace('_', "-"))], &known);
        }
    }
}

/// The oldest compiler that the workspace takes is the one that the image is built with.
#[test]
fn the_image_is_built_with_the_compiler_of_the_workspace() {
    let manifest = read("Cargo.toml");
    let version = manifest.lines().find_map(|line| line.strip_prefix("rust-version = \""));
    let version = version.unwrap().trim_end_matches('"');
    assert!(read("deploy/Dockerfile").contains(&format!("FROM rust:{version}-alpine AS build")));
}

/// The series that a query of Prometheus asks for.
fn series(query: &str) -> Vec<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = query.split(|letter: char| !is_part(letter));
    let ours = words.filter(|word| word.starts_with("longhand_") || word.starts_with("process_"));
    ours.map(str::to_owned).collect()
}

fn assert_series(name: &str) {
    let found = metrics::names().any(|(known, kind)| match kind {
        "histogram" => {
            ["_bucket", "_sum", "_count"].iter().any(|end| name == format!("{known}{end}"))
        }
        _ => name == known,
    });
    assert!(found, "there is no metric {name}");
}

/// Every string of a JSON value by its key.
fn strings<'v>(value: &'v Value, key: &str, found: &mut Vec<&'v str>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| strings(value, key, found)),
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == key => found.push(text),
                    _ => strings(value, key, found),
                }
            }
        }
        _ => (),
    }
}

#[test]
fn the_dashboard_asks_for_metrics_that_exist_and_for_all_of_them() {
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/longhand.json")).unwrap();
    let mut queries = Vec::new();
    strings(&dashboard, "expr", &mut queries);
    assert!(queries.len() > 20, "{}", queries.len());
    let asked: Vec<String> = queries.iter().flat_map(|query| series(query)).collect();
    asked.iter().for_each(|name| assert_series(name));
    for (name, _) in metrics::names() {
        assert!(asked.iter().any(|asked| asked.starts_with(name)), "no panel shows {name}");
    }
    // What the guide tells an operator to watch exists too.
    series(&read("docs/serving.md")).iter().for_each(|name| assert_series(name));
    // Panels are beside each other and do not overlap.
    let panels = dashboard["panels"].as_array().unwrap();
    let place = |panel: &Value| {
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        (at("x"), at("y"), at("x") + at("w"), at("y") + at("h"))
    };
    for (index, one) in panels.iter().enumerate() {
        let (left, top, right, bottom) = place(one);
        assert!(right <= 24, "{}", one["title"]);
        for other in &panels[index + 1..] {
            let (l, t, r, b) = place(other);
            let apart = r <= left || right <= l || b <= top || bottom <= t;
            assert!(apart, "{} overlaps {}", one["title"], other["title"]);
        }
    }
}
