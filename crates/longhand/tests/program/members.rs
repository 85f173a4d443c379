//! Several networks that learn a task and answer together, through the real binary.

use crate::place::Place;
use serde_json::Value;

/// A run of few steps on the table of [`Place::with_table`].
const LEARN: &str = "finetune --task classify --data train.tsv --test test.tsv --threads 1 --batch 8 \
                     --steps 24 --precision f32 --set calibrate=true --json";

#[test]
fn networks_learn_beside_each_other_and_answer_together() {
    let place = Place::with_table();
    let last = place.done(&format!("{LEARN} --members 3 --ensemble nb-lr --out three"));
    let members = last["members"].as_array().unwrap();
    assert_eq!((members.len(), &last["done"]), (3, &true.into()));
    for member in members {
        assert!(member["valid"]["accuracy"].is_f64() && member["test"]["accuracy"].is_f64());
    }
    assert!(last["calibration"]["network_exponent"].is_f64(), "{last}");
    let own = place.done("eval three/member-02 --data test.tsv --threads 1 --json");
    assert_eq!(
        (&own["accuracy"], &own["loss"]),
        (&members[1]["test"]["accuracy"], &members[1]["test"]["loss"],)
    );
    // The networks differ, and the results are those of all together.
    assert_ne!(
        place.read("three/model.safetensors"),
        place.read("three/member-02/model.safetensors")
    );
    let joint = place.done("eval three --data test.tsv --json");
    let close = |a: &Value, b: &Value| (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-6;
    assert!(close(&joint["loss"], &last["test"]["loss"]), "{joint} {last}");
    let record: Value = serde_json::from_slice(&place.read("three/training.json")).unwrap();
    assert_eq!(
        (&record["recipe"]["members"], &record["recipe"]["member"]),
        (&3.into(), &Value::Null)
    );
    let second: Value =
        serde_json::from_slice(&place.read("three/member-02/training.json")).unwrap();
    assert_eq!(second["recipe"]["member"], 2);
    let of_one = second["results"]["parameters"].as_u64().unwrap();
    assert_eq!(last["parameters"], 3 * of_one);
    let card = String::from_utf8(place.read("three/README.md")).unwrap();
    assert!(card.contains("3 networks of different seeds answer together."), "{card}");
    assert!(card.contains("| test, network 3 alone | accuracy |"), "{card}");

    // Line by line and together, quantized, explained.
    let answers = place.answers("three");
    assert_eq!(answers.len(), 3);
    let (_, one, _) = place.run("predict three --json", "she was glad\n");
    let one: Value = serde_json::from_str(&one).unwrap();
    assert_eq!(one["probabilities"]["good"], answers[0]);
    let small = place.done("quantize three --weights int8 --out small --json");
    let bytes = |part: &str| small[part]["memory_bytes"].as_f64().unwrap();
    assert!(bytes("before") > 12.0 * of_one as f64 - 1.0 && bytes("after") < 0.6 * bytes("before"));
    assert!(place.has("small/member-03/model.safetensors"));
    for (a, b) in answers.iter().zip(place.answers("small")) {
        assert!((a - b).abs() < 0.1, "{a} {b}");
    }
    let (code, told, errors) = place.run("predict three --explain --json", "she was glad\n");
    assert_eq!(code, 0, "{errors}");
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["explanation"]["tokens"].as_array().unwrap().len(), 3);

    // A folder that lacks a part says which.
    fs_err::remove_dir_all(place.0.path().join("small/member-02")).unwrap();
    place.refused("predict small", "small/member-02 is missing, a network that answers together");
    let (_, _, told) = place.run(&LEARN.replace("--json", "--members 2 --out told"), "");
    assert!(told.contains("network 1 of 2") && told.contains("network 2 of 2"), "{told}");
    assert!(told.contains("network 2 alone: validation accuracy"), "{told}");
}

#[test]
fn a_run_that_was_killed_goes_on_to_the_same_networks() {
    let place = Place::with_table();
    place.write(
        "whole.toml",
        "members = 2\n[data]\ntrain = ['train.tsv']\ntest = ['test.tsv']\nvalid_fraction = 0.1\n\
         [task]\ntype = 'classify'\ncalibrate = true\n[tokenizer]\nkind = 'word'\n[model]\n\
         preset = 'stacked-lstm-classifier'\n[training]\nbudget = { steps = 24 }\nbatch = 8\n\
         keep = 9\nevaluations = 4\n",
    );
    let whole = "finetune --recipe whole.toml --threads 1 --json";
    place.done(&format!("{whole} --out whole"));
    place.done(&format!("{whole} --out cut"));
    let cut = |name: &str| place.0.path().join("cut").join(name);
    let same = || {
        for name in
            ["model.safetensors", "task.json", "ensemble.json", "member-02/model.safetensors"]
        {
            assert_eq!(
                place.read(&format!("cut/{name}")),
                place.read(&format!("whole/{name}")),
                "{name}"
            );
        }
    };
    same();
    let clear = |names: &[&str]| {
        for name in names {
            let path = cut(name);
            if path.is_dir() {
                fs_err::remove_dir_all(path).unwrap();
            } else {
                fs_err::remove_file(path).unwrap();
            }
        }
    };
    let results = |name: &str| {
        let path = cut(name).join("training.json");
        let mut record: Value = serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
        record["results"] = Value::Null;
        fs_err::write(path, record.to_string()).unwrap();
    };
    // Killed while the second network learns: its last checkpoints were not yet written.
    let after = ["checkpoints", "model.safetensors", "config.json", "task.json", "ensemble.json"];
    clear(&after);
    clear(&["member-02/model.safetensors", "member-02/config.json"]);
    results("");
    results("member-02");
    let mut steps: Vec<_> = fs_err::read_dir(cut("member-02/checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("step-"))
        .collect();
    steps.sort();
    assert!(steps.len() > 2, "{steps:?}");
    steps.drain(1..).for_each(|path| fs_err::remove_dir_all(path).unwrap());
    place.done("finetune --resume --json --threads 1 --out cut");
    same();
    // Killed between the two.
    clear(&after);
    results("");
    place.done("finetune --resume --json --threads 1 --out cut");
    same();
    place.refused(
        "finetune --resume --members 3 --out cut",
        "begun with another number of networks",
    );
    // A run that takes the place of this one has no networks of it.
    place.done(&format!("{LEARN} --force --out cut"));
    assert!(!place.has("cut/member-02") && !place.has("cut/ensemble.json"));
}

#[test]
fn one_network_is_as_none_is_named() {
    let place = Place::with_table();
    place.done(&format!("{LEARN} --members 1 --out one"));
    place.done(&format!("{LEARN} --out none"));
    for name in ["model.safetensors", "task.json", "config.json", "tokenizer.json"] {
        assert_eq!(
            place.read(&format!("one/{name}")),
            place.read(&format!("none/{name}")),
            "{name}"
        );
    }
    assert!(!place.has("one/member-02") && !place.has("one/ensemble.json"));
    assert_eq!(place.answers("one"), place.answers("none"));
}

#[test]
fn folds_have_networks_of_their_own_and_what_cannot_be_is_refused() {
    let place = Place::with_table();
    let folds = LEARN.replace("--test test.tsv ", "").replace("--steps 24", "--steps 2");
    let last = place.done(&format!("{folds} --members 2 --folds 2 --out folds"));
    assert_eq!(last["folds"].as_array().unwrap().len(), 2);
    assert!(place.has("folds/fold-02/member-02/model.safetensors"));
    place.done(&format!("{folds} --members 2 --folds 2 --resume --out folds"));

    let refused = |further: &str, words: &str| {
        place.refused(&format!("{folds} --out refused {further}"), words);
        assert!(!place.has("refused/training.json"), "{further}");
    };
    refused("--members 0", "--members");
    refused("--members 65", "`members` must be at most 64");
    let baseline = "finetune --task classify --data train.tsv --members 2 --baseline nb-lr";
    place.refused(baseline, "--members is not for the baseline nb-lr");
    place.done(&format!("{folds} --out base"));
    place.refused(
        "finetune base --task classify --data train.tsv --members 2 --method lora --out refused",
        "an adapter is of one network: leave out `members`",
    );
    let adapter = "finetune base --task classify --data train.tsv --method lora --steps 1 --json";
    place.done(&format!("{adapter} --out adapter"));
    place.refused("predict folds/fold-01 --adapter adapter", "adapter");
    let merge = "adapter merge folds/fold-01 adapter --out merged";
    place.refused(merge, "an adapter changes one network, and 2 of folds/fold-01 answer together");
}
