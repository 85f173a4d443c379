//! `longhand doctor` through the real binary: a sound machine and model, and each thing that is wrong.

use serde_json::Value;

use crate::place::Place;

/// The exit code, the report, and what stderr says.
fn examine(place: &Place, line: &str) -> (i32, Value, String) {
    let (code, out, errors) = place.run(&format!("doctor {line} --threads 2 --json"), "");
    (code, serde_json::from_str(&out).unwrap(), errors)
}

fn check<'r>(report: &'r Value, name: &str) -> &'r Value {
    let checks = report["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("{name}: {report}"))
}

#[test]
fn a_sound_machine_and_a_sound_model_are_well_and_a_damaged_one_is_wrong() {
    let place = Place::with_models();
    let (code, report, errors) = examine(&place, "base");
    assert_eq!((code, errors.as_str(), &report["well"]), (0, "", &true.into()), "{report}");
    let names = [
        "processor",
        "threads",
        "disk",
        "model",
        "tokeniser",
        "decode",
        "memory",
        "operations",
        "training",
        "snapshot",
        "speed",
    ];
    for name in names {
        let found = check(&report, name);
        assert_ne!(found["verdict"], "wrong", "{found}");
        assert_eq!(found["advice"].is_null(), found["verdict"] == "well", "{found}");
    }
    let found = |name: &str| check(&report, name)["found"].as_str().unwrap().to_owned();
    assert!(found("model").contains("all hashes agree"), "{}", found("model"));
    assert!(found("snapshot").contains("bit for bit"));
    assert!(found("speed").contains("this model"));
    // Words have spaces between them.
    assert!(found("decode").matches(' ').count() > 8, "{}", found("decode"));

    // The table has a line for each.
    let (code, table, _) = place.run("doctor --threads 1", "");
    assert_eq!(code, 0, "{table}");
    for name in ["processor", "operations", "training", "snapshot"] {
        assert!(
            table.lines().any(|line| line.starts_with(name) && line.contains("well")),
            "{table}"
        );
    }
    assert!(!table.contains("tokeniser"), "{table}");

    // One bit of the weights.
    let path = place.0.path().join("base/model.safetensors");
    let mut weights = fs_err::read(&path).unwrap();
    let last = weights.len() - 5;
    weights[last] ^= 1;
    fs_err::write(&path, weights).unwrap();
    let (code, report, errors) = examine(&place, "base");
    assert_eq!((code, &report["well"]), (1, &false.into()));
    assert!(errors.starts_with("error: 1 of ") && errors.contains("model"), "{errors}");
    let wrong = check(&report, "model");
    assert!(wrong["found"].as_str().unwrap().contains("damaged"), "{wrong}");
    assert!(wrong["advice"].as_str().unwrap().contains("again"), "{wrong}");
}

#[test]
fn what_is_missing_is_named_with_what_to_do() {
    let place = Place::new();
    let (code, report, _) = examine(&place, "nowhere --folder neither");
    assert_eq!(code, 1);
    for name in ["model", "disk"] {
        let wrong = check(&report, name);
        assert_eq!(wrong["verdict"], "wrong");
        assert!(wrong["found"].as_str().unwrap().contains("there is no folder"), "{wrong}");
        assert!(wrong["advice"].is_string(), "{wrong}");
    }
    // The machine is examined all the same.
    assert_eq!(check(&report, "operations")["verdict"], "well");
}

#[test]
fn a_model_of_a_task_is_opened() {
    let place = Place::with_models();
    place.tune("--out classifier --epochs 1");
    let (code, report, errors) = examine(&place, "classifier");
    assert_eq!(code, 0, "{errors}");
    let model = check(&report, "model")["found"].as_str().unwrap();
    assert!(model.contains("does the task classify"), "{model}");
}
