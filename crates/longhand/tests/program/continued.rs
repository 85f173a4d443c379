//! Language models that go on with another text, and what models forget, through the real binary.

use serde_json::Value;

use crate::place::Place;

/// A folder with language models, and another text to go on with.
fn place() -> Place {
    let place = Place::with_models();
    // The rate of a step must not depend on the number of steps, for a run that is cut in two.
    place.write("even.toml", "[training]\nschedule = { type = 'constant' }\nwarmup = 0\n");
    place.write("new.txt", &"sad she was then. glad he was. ".repeat(60));
    place
}

/// Goes on with the language model on another text.
fn go_on(place: &Place, further: &str) -> Value {
    let line = "train base new.txt --recipe even.toml --threads 1 --batch 4 --chunk 16 \
                --evaluate-every 10 --json";
    place.done(&format!("{line} {further}"))
}

/// The mean loss of a language model on a text.
fn loss(place: &Place, line: &str) -> f64 {
    place.done(&format!("eval {line} --json"))["loss"].as_f64().unwrap()
}

#[test]
fn a_language_model_goes_on_with_another_text() {
    let place = place();
    for line in ["train base other --out no", "train base new.txt --rehearse other --out no"] {
        place.refused(line, "other is the folder of a model");
    }
    let before = loss(&place, "base --data new.txt");
    let whole = go_on(&place, "--steps 40 --out whole");
    assert_eq!((&whole["objective"], &whole["step"]), (&"causal".into(), &40.into()));
    assert_eq!(whole["trainable_parameters"], whole["parameters"]);
    assert!(loss(&place, "whole --data new.txt") < before - 0.3);
    assert_eq!(place.read("whole/tokenizer.json"), place.read("base/tokenizer.json"));
    // An interrupted run goes on as if nothing had been.
    go_on(&place, "--steps 20 --out part");
    go_on(&place, "--steps 40 --out part --resume");
    assert_eq!(place.read("part/model.safetensors"), place.read("whole/model.safetensors"));
    place.refused("train other new.txt --resume --out part", "another model");

    // A tied head is the embedding, of eight words.
    let frozen = go_on(&place, "--method frozen --steps 2 --out frozen");
    assert_eq!(frozen["trainable_parameters"], 8 * 32);
    let gradual = "--unfreeze gradual --epochs 2 --patience 50 --out gradual";
    assert_eq!(go_on(&place, gradual)["trainable_parameters"], whole["parameters"]);

    for line in [
        "train base new.txt --preset lstm --out never",
        "train base new.txt --width 16 --out never",
        "train base new.txt --tokenizer char --out never",
    ] {
        place.refused(line, "keeps its own: leave out --");
    }
    place
        .refused("train base new.txt --objective masked --out never", "cannot learn the objective");
    place.refused("train new.txt --method lora --steps 1 --out never", "base model");
    place.refused("train base new.txt --out base --force", "holds the model to begin with");
    place.tune("--steps 1 --out task");
    place.refused("train task new.txt --steps 1 --out never", "no language-model head");
    assert!(!place.has("never/training.json"));
}

#[test]
fn an_adapter_of_a_language_model_is_trained_resumed_and_applied() {
    let place = place();
    let before = loss(&place, "base --data new.txt");
    for (method, flags) in
        [("lora", "--lora-rank 4 --lora-dropout 0.1"), ("adapter", "--adapter-width 8")]
    {
        let go_on = |further: &str| go_on(&place, &format!("--method {method} {flags} {further}"));
        let last = go_on(&format!("--steps 40 --out {method}"));
        let [trained, all] =
            ["trainable_parameters", "parameters"].map(|name| last[name].as_u64().unwrap());
        assert!(0 < trained && trained < all / 2, "{trained} of {all}");
        assert!(!place.has(&format!("{method}/model.safetensors")));
        let after = loss(&place, &format!("base --adapter {method} --data new.txt"));
        assert!(after < before - 0.1, "{method}: {after} after {before}");
        assert_eq!(after, loss(&place, &format!("{method} --data new.txt")));

        go_on(&format!("--steps 20 --out {method}-part"));
        go_on(&format!("--steps 40 --out {method}-part --resume"));
        let weights = |folder: &str| place.read(&format!("{folder}/adapter_model.safetensors"));
        assert_eq!(weights(&format!("{method}-part")), weights(method));
        let write = format!("generate base --adapter {method} --prompt she --max-tokens 3");
        assert_eq!(place.run(&write, "").0, 0);
        place.refused(&format!("generate other --adapter {method} --prompt she"), "hash");
        place.refused(&format!("train {method} new.txt --out never"), "longhand adapter merge");
    }
    // A recipe may name the base too.
    place.write(
        "again.toml",
        "[data]\ntrain = ['new.txt']\n[model.base]\npath = 'base'\n\
                               [tuning]\nmethod = 'lora'\n[training]\nbudget = { steps = 2 }\n\
                               batch = 4\nchunk = 16\n",
    );
    assert_eq!(place.done("train --recipe again.toml --json --out recipe")["step"], 2);
    assert!(place.has("recipe/adapter_model.safetensors"));
}

#[test]
fn old_text_is_rehearsed_and_what_is_forgotten_is_told() {
    let place = place();
    place.write("old.txt", &"she was glad then. he was sad then. ".repeat(20));
    let told = |last: &Value| {
        let loss = |when: &str| last["forgetting"][when].as_f64().unwrap();
        (loss("before"), loss("after"))
    };
    // The end of the old text is what is measured.
    let rehearse = "--rehearse text.txt --rehearse-weight 1";
    let (before, kept) = told(&go_on(&place, &format!("{rehearse} --steps 40 --out rehearsed")));
    let (_, lost) = told(&go_on(&place, "--forgetting old.txt --steps 40 --out lost"));
    assert!(kept < before + 0.3 && lost > kept + 0.5, "{before}, {kept}, {lost}");
    assert_eq!(go_on(&place, "--steps 1 --out plain")["forgetting"], Value::Null);
    // The loss on the text that is named, of the base and of what became of it.
    let line = "--rehearse text.txt --forgetting old.txt --steps 10 --method lora --out lora";
    let (before, after) = told(&go_on(&place, &format!("{line} --precision f32")));
    assert!((before - loss(&place, "base --data old.txt")).abs() < 1e-5);
    assert!((after - loss(&place, "base --adapter lora --data old.txt")).abs() < 1e-5);

    go_on(&place, &format!("{rehearse} --steps 20 --out part"));
    go_on(&place, &format!("{rehearse} --steps 40 --out part --resume"));
    assert_eq!(place.read("part/model.safetensors"), place.read("rehearsed/model.safetensors"));
    place.refused(
        "train base --rehearse-weight 2 --rehearse old.txt --resume --out part",
        "old text",
    );
    place.refused(
        "train base new.txt --rehearse text.txt --rehearse-weight 0 --out never",
        "above 0",
    );
    place.refused("train new.txt --rehearse text.txt --out never", "name a model to begin with");
    place.refused("train base new.txt --rehearse nowhere.txt --out never", "nowhere.txt");
}

#[test]
fn a_task_beside_the_old_objective_forgets_less() {
    let place = place();
    let told = |line: &str| {
        let last = place.tune(line);
        assert!(last["test"]["accuracy"].as_f64().unwrap() > 0.9, "{last}");
        last["forgetting"]["after"].as_f64().unwrap()
    };
    let lost = told("--forgetting text.txt --steps 40 --out lost");
    let kept = told("--rehearse text.txt --forgetting text.txt --steps 40 --out kept");
    assert!(kept < lost - 0.1, "{kept} with and {lost} without rehearsal");
    // The language model's head is beside the task's, and a task still answers.
    let config: Value = serde_json::from_slice(&place.read("kept/config.json")).unwrap();
    let names = [0, 1].map(|head| config["heads"][head]["name"].as_str().unwrap());
    assert_eq!(names, ["classify", "head"]);
    assert_eq!(place.answers("kept").len(), 3);
    // An adapter goes on to need its base alone, whose head it keeps.
    told("--rehearse text.txt --method lora --steps 60 --out lora");
    assert_eq!(place.answers("lora"), place.answers("base --adapter lora"));
    let shown = place.done("adapter show lora --json");
    assert_eq!(shown["own"], serde_json::json!(["classify.bias", "classify.weight"]));
    // Nothing of that head is lost: it is frozen, and the model has the base's to the last bit.
    let load = |name: &str| longhand_model::adapter::load(&place.0.path().join(name), &[]).unwrap();
    let (base, tuned) = (load("base"), load("lora"));
    let head = |model: &longhand_model::Model| {
        let parts = ["head.", "embedding."];
        let of_head = |name: &str| parts.iter().any(|part| name.starts_with(part));
        let values = model.weights.iter().filter(|p| of_head(&p.name));
        let values = values.map(|p| (p.name.clone(), p.data.to_vec())).collect::<Vec<_>>();
        (model.token_head().name().to_owned(), values)
    };
    assert_eq!(head(&tuned), head(&base));

    let tune = "finetune base --task classify --data train.tsv --steps 2 --out never";
    place.refused(&format!("{tune} --method frozen --rehearse text.txt"), "head alone");
    let from_nothing = "finetune --task classify --data train.tsv --steps 2 --out never";
    place.refused(&format!("{from_nothing} --forgetting text.txt"), "name a model to begin with");
    let baseline = "finetune --task classify --data train.tsv --baseline nb-lr --out never";
    place.refused(&format!("{baseline} --rehearse text.txt"), "--rehearse is not for the baseline");
    let task = "finetune lost --task classify --data train.tsv --steps 2 --out never";
    place.refused(&format!("{task} --rehearse text.txt"), "no head that predicts tokens");
}
