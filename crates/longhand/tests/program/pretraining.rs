//! Objectives of pretraining, alone and inside the run of a task, through the real binary.

use serde_json::Value;

use crate::place::Place;

/// A small model of two stacks, for every recipe here.
const MODEL: &str = "[tokenizer]\nkind = 'word'\n[model]\npreset = 'bicausal-nano'\n\
                     [model.overrides]\nwidth = 16\nblocks = [{ long = { type = 'lstm', \
                     hidden = 16 }, feed_forward = 24 }]\n";

fn place() -> Place {
    let place = Place::new();
    place.done("data sample --bytes 8000 --out text.txt");
    place.done("data sample --table sentiment --rows 80 --out train.tsv");
    place
}

#[test]
fn a_bicausal_model_is_trained_resumed_and_tuned_and_continues_no_text() {
    let place = place();
    place.write("body.toml", &format!("objective = 'bicausal'\n{MODEL}"));
    let train = "train text.txt --recipe body.toml --threads 1 --batch 4 --chunk 32 \
                 --evaluate-every 4 --json --test text.txt";
    let last = place.done(&format!("{train} --steps 12 --out body"));
    assert_eq!((&last["objective"], &last["done"]), (&"bicausal".into(), &true.into()));
    let [loss, perplexity] = ["best_valid_loss", "best_valid_perplexity"]
        .map(|name| last[name].as_f64().unwrap_or(f64::NAN));
    assert!((loss.exp() / perplexity - 1.0).abs() < 1e-9 && loss > 0.0, "{last}");
    assert!(last["test"]["perplexity"].as_f64().unwrap() > 1.0, "{last}");
    assert!(!place.has("body/generation_config.json"));

    resumes_bit_for_bit(&place, &format!("{train} --steps 12"), "body");
    for verb in ["generate body --prompt a", "score body", "eval body --data text.txt"] {
        place.refused(verb, "reads in both directions");
    }
    let tune = "finetune body --task classify --data train.tsv --threads 1 --steps 3 --set longest=24 --json";
    let tuned = place.done(&format!("{tune} --out tuned"));
    assert_eq!(tuned["done"], true);
    assert!(tuned["objective"].is_null(), "{tuned}");
    let gradual = place.done(
        "finetune body --task classify --data train.tsv --threads 1 --epochs 1 --json \
         --unfreeze gradual --out gradual",
    );
    assert_eq!(gradual["trainable_parameters"], gradual["parameters"]);
}

/// A run that is killed after step 8 of 12 ends in the weights of the undisturbed one in `whole`.
fn resumes_bit_for_bit(place: &Place, train: &str, whole: &str) {
    place.done(&format!("{train} --out part"));
    let part = place.0.path().join("part");
    fs_err::remove_dir_all(part.join("checkpoints/step-000000000012")).unwrap();
    fs_err::remove_file(part.join("model.safetensors")).unwrap();
    place.done(&format!("{train} --out part --resume"));
    let weights = place.read(&format!("{whole}/model.safetensors"));
    assert_eq!(weights, place.read("part/model.safetensors"));
    fs_err::remove_dir_all(part).unwrap();
}

#[test]
fn each_objective_pretrains_on_the_sample_and_a_task_begins_with_it() {
    let place = place();
    // Muon's steps take several times as long in the development profile.
    place.write("adamw.toml", "[training]\noptimizer = { type = 'adamw' }\n");
    let presets = [
        ("causal", "longhand-nano"),
        ("bicausal", "bicausal-nano"),
        ("masked", "encoder-nano"),
        ("masked+nsp", "encoder-nano"),
    ];
    for (objective, preset) in presets {
        let train = format!(
            "train text.txt --objective {objective} --batch 2 --chunk 24 --threads 1 --json \
             --tokenizer wordpiece --vocab 300"
        );
        // Without a preset, the objective chooses one.
        let last = place.done(&format!("{train} --steps 2 --out {objective}"));
        assert_eq!(last["objective"], objective);
        assert!(last["best_valid_perplexity"].as_f64() > Some(1.0), "{last}");
        let steps = "--recipe adamw.toml --steps 12 --evaluate-every 4";
        let train = format!("{train} --preset {preset} {steps}");
        place.done(&format!("{train} --out whole-{objective}"));
        resumes_bit_for_bit(&place, &train, &format!("whole-{objective}"));
        let tune = "--task classify --data train.tsv --threads 1 --steps 2 --set longest=64 --json";
        place.done(&format!("finetune {objective} {tune} --out tuned-{objective}"));
        place.done(&format!(
            "finetune {tune} --pretrain {objective} --pretrain-epochs 0.05 --out both-{objective}"
        ));
        place.done(&format!("predict both-{objective} --data train.tsv"));
    }
    let config: Value = serde_json::from_slice(&place.read("masked+nsp/config.json")).unwrap();
    assert_eq!(config["heads"][1]["name"], "next_sentence", "{config}");
    place.refused("generate masked --prompt a", "reads in both directions");
    place.refused("train text.txt --objective masked --preset lstm --out no", "objective masked");
}

#[test]
fn a_recipe_pretrains_the_body_and_then_learns_the_task() {
    let place = place();
    let recipe = format!(
        "{MODEL}[data]\ntrain = ['train.tsv']\n[training]\nbudget = {{ steps = 6 }}\n\
         [task]\ntype = 'classify'\n[pretraining]\nbudget = {{ steps = 8 }}\nbatch = 4\n\
         learning_rate = 0.02\ntext = ['text.txt']\n"
    );
    place.write("task.toml", &recipe);
    let line = "finetune --recipe task.toml --threads 1 --json";
    let whole = place.done(&format!("{line} --out whole"));
    assert_eq!((&whole["done"], &whole["step"]), (&true.into(), &6.into()));
    let body: Value =
        serde_json::from_slice(&place.read("whole/pretrained/training.json")).unwrap();
    assert_eq!(body["results"]["steps"], 8);
    assert_eq!(body["recipe"]["objective"], "bicausal");
    assert!(body["data"]["train"]["tokens"].as_u64() > Some(1000), "the text is read too");
    place.done("eval whole --data train.tsv --json");

    // A run that is stopped after its pretraining goes on, to the same weights.
    let half = place.done(&format!("{line} --steps 3 --out half"));
    assert_eq!(half["step"], 3);
    place.done("finetune --out half --resume --steps 6 --threads 1 --json");
    // One that was killed in its pretraining begins the task after it.
    place.done(&format!("{line} --out killed"));
    for name in ["checkpoints", "model.safetensors", "config.json", "pretrained/checkpoints"] {
        let path = place.0.path().join("killed").join(name);
        if path.is_dir() { fs_err::remove_dir_all(path) } else { fs_err::remove_file(path) }
            .unwrap();
    }
    let resumed = place.done("finetune --out killed --resume --threads 1 --json");
    assert_eq!(resumed["done"], true);
    assert_eq!(place.read("whole/model.safetensors"), place.read("killed/model.safetensors"));
    place.refused(
        "finetune --out killed --resume --threads 1 --pretrain causal --json",
        "cannot learn the objective causal",
    );
    // Another run in the folder takes the pretrained body away.
    place.done(
        "finetune --task classify --data train.tsv --steps 1 --threads 1 --out killed --force",
    );
    assert!(!place.has("killed/pretrained"));
}

#[test]
fn what_does_not_fit_is_refused_before_any_work() {
    let place = place();
    for (line, words) in [
        ("train text.txt --objective sideways", "there is no objective `sideways`"),
        (
            "train text.txt --objective bicausal --preset lstm",
            "cannot learn the objective bicausal",
        ),
        ("train text.txt --preset bicausal-nano", "cannot learn the objective causal"),
        (
            "finetune --task classify --data train.tsv --pretrain bicausal --preset lstm",
            "cannot learn the objective bicausal",
        ),
        ("finetune --task classify --data train.tsv --pretrain-epochs 3", "pass --pretrain"),
        (
            "finetune --task classify --data train.tsv --pretrain bicausal --pretrain-epochs 0",
            "--pretrain-epochs is 0",
        ),
    ] {
        let (code, _, told) = place.run(&format!("{line} --out never"), "");
        assert!(code == 2 && told.contains(words), "{line}: {code}, {told}");
        assert!(!place.has("never/training.json"), "{line}");
    }
    for (text, words) in [
        ("[pretraining]\nobjective = 'bicausal'", "`pretraining` is for a `task`"),
        ("objective = 'bicausal'\n[task]\ntype = 'classify'", "`objective` is for text"),
        ("objective = 'sideways'", "sideways"),
        ("[task]\ntype = 'classify'\n[pretraining]\nbatch = 0", "pretraining: "),
    ] {
        place.write("bad.toml", text);
        place.refused("train --recipe bad.toml --out never", words);
    }
}
