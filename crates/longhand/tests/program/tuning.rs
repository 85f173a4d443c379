//! Ways of tuning, and adapters, through the real binary.

use longhand_model::adapter::Base;
use longhand_model::{Adapter, LowRankForm, LowRankSettings, Model};
use serde_json::Value;

use crate::place::Place;

/// The parameters of a classifier's head.
const OWN: [&str; 2] = ["head.bias", "head.weight"];

fn difference(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0, |most, (a, b)| most.max((a - b).abs()))
}

#[test]
fn an_adapter_is_trained_resumed_applied_and_merged() {
    let place = Place::with_models();
    let lora = "--method lora --lora-rank 4 --lora-alpha 8 --lora-dropout 0.1 --evaluate-every 10";
    let last = place.tune(&format!("{lora} --steps 60 --out whole"));
    assert!(last["test"]["accuracy"].as_f64().unwrap() > 0.9, "{last}");
    let [trained, all] =
        ["trainable_parameters", "parameters"].map(|name| last[name].as_u64().unwrap());
    assert!(0 < trained && trained < all / 2, "{trained} of {all}");
    assert!(place.has("whole/adapter_config.json") && place.has("whole/adapter_model.safetensors"));
    assert!(!place.has("whole/model.safetensors") && !place.has("whole/config.json"));

    place.tune(&format!("{lora} --steps 30 --patience 50 --out part"));
    let resumed = place.tune(&format!("{lora} --steps 60 --patience 50 --out part --resume"));
    assert_eq!(resumed["step"], 60);
    place.refused(
        "finetune base --task classify --data train.tsv --method frozen --resume --out part",
        "way of tuning",
    );

    let tune = "finetune base --task classify --data train.tsv --out never";
    place.refused(&format!("{tune} --rank 4"), "--lora-rank is for --method lora or adalora");
    let other = format!("{tune} --method lora --adapter-width 4");
    place.refused(&other, "--adapter-width is for --method adapter, and the method is lora");

    let alone = place.answers("whole");
    let applied = place.answers("base --adapter whole");
    assert_eq!(alone, applied);
    place.refused("predict other --adapter whole", "base model with hash");
    place.done("adapter merge base whole --out merged");
    assert!(difference(&alone, &place.answers("merged")) < 1e-5);
    place.refused("adapter merge base whole --out merged", "not empty");
    place.refused("adapter merge other whole --out never", "the model in other has hash");
    place.refused("adapter merge base whole@3e38 --out never", "the merged `blocks.0.");
    place.refused("quantize whole --weights int8 --out never", "merge it first");
    assert!(!place.has("never"));

    let shown = place.done("adapter show whole --json");
    assert_eq!((&shown["peft_type"], &shown["lora_alpha"]), (&"LORA".into(), &8.0.into()));
    assert_eq!(shown["parameters"].as_u64(), Some(trained));
    assert_eq!(shown["own"], serde_json::json!(OWN));
    let (_, text, _) = place.run("adapter show whole", "");
    assert!(text.contains("blocks.0.lstm.weight_hh_l0  rank 4 of 128 × 32"), "{text}");
    place.refused("adapter show base", "adapter_config.json is missing");
}

#[test]
fn ranks_are_chosen_and_an_adapter_of_the_target_rank_is_left() {
    let place = Place::with_models();
    place.write(
        "even.toml",
        "[training]\nschedule = { type = 'constant' }\nwarmup = 0\n[tuning]\nmethod = 'adalora'\n\
         rank = 2\nadalora = { begin = 0.1, end = 0.6, beta1 = 0.8 }\n",
    );
    let adalora = "--recipe even.toml --evaluate-every 10";
    let last = place.tune(&format!("{adalora} --steps 60 --out whole"));
    assert!(last["test"]["accuracy"].as_f64().unwrap() > 0.9, "{last}");
    let trained = last["trainable_parameters"].as_u64().unwrap();
    assert!(trained < last["parameters"].as_u64().unwrap() / 2, "{last}");

    let shown = place.done("adapter show whole --json");
    assert_eq!((&shown["peft_type"], &shown["own"]), (&"ADALORA".into(), &serde_json::json!(OWN)));
    let changes = shown["changes"].as_array().unwrap();
    let ranks: Vec<u64> = changes.iter().map(|change| change["r"].as_u64().unwrap()).collect();
    // Attention's matrix, the LSTM's two, the fusion and the feed-forward layer's two.
    assert_eq!(ranks.iter().sum::<u64>(), 2 * 6, "{ranks:?}");
    assert!(shown["parameters"].as_u64().unwrap() < trained);
    let (_, text, _) = place.run("adapter show whole", "");
    assert!(text.contains("blocks.0.attention.qkv  rank "), "{text}");

    let alone = place.answers("whole");
    assert_eq!(place.answers("base --adapter whole"), alone);
    place.refused("predict other --adapter whole", "base model with hash");
    let measured = place.done("eval base --adapter whole --data test.tsv --json");
    assert_eq!(measured["accuracy"], last["test"]["accuracy"]);
    place.done("adapter merge base whole --out merged");
    assert!(difference(&alone, &place.answers("merged")) < 1e-5);

    let tune = "finetune base --task classify --data train.tsv --steps 2 --out never";
    place.refused(&format!("{tune} --method adalora --rank 30"), "rank 45");
    place.write("few.toml", "[tuning]\nmethod = 'adalora'\nadalora = { initial = 4 }\n");
    place.refused(&format!("{tune} --recipe few.toml"), "adalora.initial");
    place.write("odd.toml", "[tuning]\nadalora = { first = 4 }\n");
    place.refused(
        &format!("{tune} --recipe odd.toml"),
        "there is no key `first`: the keys are initial",
    );
}

#[test]
fn an_embedding_is_changed_where_it_is_named() {
    let place = Place::with_models();
    let lora = "--method lora --rank 2 --lora-targets embedding.weight --evaluate-every 10";
    let last = place.tune(&format!("{lora} --steps 60 --out whole"));
    assert!(last["test"]["accuracy"].as_f64().unwrap() > 0.9, "{last}");
    let shown = place.done("adapter show whole --json");
    let [vocabulary, width] = [0, 1].map(|i| shown["changes"][0]["shape"][i].as_u64().unwrap());
    // The change, and the head of two classes.
    assert_eq!(last["trainable_parameters"], 2 * (vocabulary + width) + 2 * width + 2);
    let alone = place.answers("whole");
    assert_eq!(place.answers("base --adapter whole"), alone);
    place.done("adapter merge base whole --out merged");
    assert!(difference(&alone, &place.answers("merged")) < 1e-5);
    let tune = "finetune base --task classify --data train.tsv --steps 2 --out never";
    let named = "--lora-targets embedding.weight";
    place.refused(&format!("{tune} --method adalora {named}"), "`embedding.weight`");
}

#[test]
fn adapter_layers_are_trained_resumed_applied_and_merged() {
    let place = Place::with_models();
    // The rate of a step must not depend on the number of steps, for a run that is cut in two.
    place.write("even.toml", "[training]\nschedule = { type = 'constant' }\nwarmup = 0\n");
    let adapter = "--recipe even.toml --method adapter --adapter-width 8 --evaluate-every 10";
    let last = place.tune(&format!("{adapter} --steps 40 --out whole"));
    assert!(last["test"]["accuracy"].as_f64().unwrap() > 0.9, "{last}");
    // Two layers of 8 units, three norms, the head.
    let layers = 2 * (8 * 32 + 8 + 32 * 8 + 32);
    assert_eq!(last["trainable_parameters"], layers + 3 * 32 + 2 * 32 + 2);
    assert!(!place.has("whole/model.safetensors"));

    place.tune(&format!("{adapter} --steps 20 --out part"));
    place.tune(&format!("{adapter} --steps 40 --out part --resume"));
    assert_eq!(place.answers("part"), place.answers("whole"));

    let applied = place.answers("base --adapter whole");
    assert_eq!(place.answers("whole"), applied);
    place.refused("predict other --adapter whole", "base model with hash");
    let file = "eval base --adapter text.txt --data text.txt";
    place.refused(file, "there is no adapter folder text.txt: give one that holds");
    place.refused("predict base --adapter whole@0.5", "no changes of low rank to be weighed");
    place.done("quantize base --weights int8 --out small");
    place.refused("predict small --adapter whole", "are packed for reading");
    place.done("adapter merge base whole --out merged");
    assert_eq!(place.answers("merged"), applied);
    let shown = place.done("adapter show whole --json");
    assert_eq!(shown["peft_type"], "HOULSBY");
    let tune = "finetune base --task classify --data train.tsv --method adapter --out never";
    place.refused(&format!("{tune} --adapter-width 0"), "--adapter-width is 0");
    let again = "finetune merged --task classify --data train.tsv --method adapter --out never";
    place.refused(again, "adapter layers already");
}

/// An adapter of the model's own head, as pretraining further would leave it.
fn further(place: &Place, name: &str, seed: u64) {
    let folder = place.0.path();
    let base = Model::load(&folder.join("base")).unwrap();
    let mut model = base.clone();
    let form = LowRankForm::Product;
    let settings = LowRankSettings { rank: 2, form, alpha: 4.0, dropout: 0.0, seed };
    model.add_low_rank(settings, |name| name.contains("qkv") || name.contains("hh")).unwrap();
    for parameter in model.weights.iter_mut().filter(|p| p.name.ends_with("lora_b")) {
        parameter.data.iter_mut().enumerate().for_each(|(i, x)| *x = (i as f32).sin());
    }
    let origin = Base { name: "base".into(), hash: base.hash(), own: Vec::new() };
    fs_err::create_dir(folder.join(name)).unwrap();
    Adapter::of(&model, &origin).save(&folder.join(name)).unwrap();
}

#[test]
fn several_adapters_are_applied_at_once() {
    let place = Place::with_models();
    place.tune("--method lora --steps 30 --out topics");
    place.tune("--method adalora --steps 30 --out mood");
    further(&place, "tone", 1);
    further(&place, "style", 2);

    let both = "base --adapter topics --adapter quiet=tone@0.25";
    let (_, lines, told) = place.run(&format!("predict {both} --json"), "she was glad\n");
    let line: Value = serde_json::from_str(&lines).unwrap();
    assert_eq!(line["adapters"], serde_json::json!(["topics", "quiet"]));
    assert!(told.contains("adapters: topics, quiet × 0.25"), "{told}");
    let answers = place.answers(both);
    assert!(difference(&answers, &place.answers("base --adapter topics")) > 1e-4);
    let turned = place.answers("base --adapter tone@0.25 --adapter topics");
    assert!(difference(&answers, &turned) < 1e-5);
    let measured = place.done(&format!("eval {both} --data test.tsv --json"));
    assert_eq!(measured["adapters"], line["adapters"]);
    place.done("adapter merge base topics tone@0.25 --out merged");
    assert!(difference(&answers, &place.answers("merged")) < 1e-5);

    // Of language models: a change and its opposite are none.
    let loss = |line: &str| {
        let line = format!("eval base {line} --data text.txt --json");
        place.done(&line)["loss"].as_f64().unwrap()
    };
    let [none, whole] = ["--threads 1", "--adapter tone"].map(loss);
    assert!((whole - none).abs() > 1e-2, "{whole} {none}");
    assert!((loss("--adapter tone@0.5") - whole).abs() > 1e-3);
    assert!((loss("--adapter tone --adapter back=tone@-1") - none).abs() < 1e-4);
    let eval = place.done("eval base --adapter tone --adapter style --data text.txt --json");
    assert_eq!(eval["adapters"], serde_json::json!(["tone", "style"]));

    let refused = |line: &str, part: &str| place.refused(&format!("predict base {line}"), part);
    refused("--adapter topics --adapter mood", "`topics` and `mood` both have parameters");
    refused("--adapter topics --adapter topics", "two adapters are called `topics`");
    for (verb, name) in [
        ("predict base", "topics"),
        ("generate base --prompt she", "tone"),
        ("eval base --data text.txt", "tone"),
    ] {
        let line = format!("{verb} --adapter {name} --adapter {name}");
        let (code, _, told) = place.run(&line, "she\n");
        assert!(code == 2 && told.contains("two adapters are called"), "{verb}: {told}");
    }
    refused("--adapter topics --adapter tone@much", "no number");
    refused("--adapter topics --adapter never", "there is no adapter folder never: give one");
    let (code, _, told) = place.run("serve base --port 0 --adapter n=never", "");
    assert!(code == 1 && told.contains("there is no adapter folder never"), "{told}");
    let (code, _, told) = place.run("serve base --port 0 --adapter tone --adapter tone", "");
    assert!(code == 2 && told.contains("two adapters of the model `base` are called"), "{told}");
    place.refused("generate base --adapter topics --adapter tone --prompt she", "language model");
}

#[test]
fn the_head_alone_is_trained_or_one_block_after_the_other() {
    let place = Place::with_models();
    let frozen = place.tune("--method frozen --steps 30 --out frozen");
    // Two classes over a width of 32, and their biases.
    assert_eq!(frozen["trainable_parameters"], 2 * 32 + 2);
    assert!(place.has("frozen/model.safetensors"));
    let gradual = place.tune("--unfreeze gradual --epochs 4 --patience 50 --out gradual");
    assert_eq!(gradual["trainable_parameters"], gradual["parameters"]);
    assert!(gradual["test"]["accuracy"].as_f64().unwrap() > 0.9, "{gradual}");
    let full = place.tune("--method full --steps 3 --out full");
    assert_eq!(full["trainable_parameters"], full["parameters"]);

    let tune = "finetune base --task classify --data train.tsv --steps 2 --out never";
    place.refused(&format!("{tune} --unfreeze gradual"), "epochs");
    place.refused(&format!("{tune} --method lora --lora-rank 1000"), "rank 1000");
    place.refused(&format!("{tune} --method lora --lora-rank 0"), "--lora-rank is 0");
    place.refused(&format!("{tune} --method lora --lora-targets nothing*"), "`nothing*`");
    place.refused(&format!("{tune} --method half"), "full, frozen, lora, adalora, adapter");
    let from_nothing = "finetune --task classify --data train.tsv --steps 2 --out never";
    place.refused(&format!("{from_nothing} --method lora"), "base model");
    assert!(!place.has("never/model.safetensors"));
}

#[test]
fn an_adapter_must_fit_what_it_is_used_for() {
    let place = Place::with_models();
    // The adapter of a classifier: its head cannot write.
    place.tune("--method lora --steps 5 --out tuned");
    place.refused("generate base --adapter tuned --prompt she", "language model");
    place.refused("eval base --adapter tuned --data test.tsv --exact", "language models");
    place.refused("eval other --adapter tuned --data test.tsv", "base model with hash");
    let measured = |line: &str| {
        let result = place.done(&format!("eval {line} --data test.tsv --json"));
        (result["loss"].clone(), result["accuracy"].clone())
    };
    assert!(measured("tuned").0.is_number());
    assert_eq!(measured("base --adapter tuned"), measured("tuned"));
    place.refused("generate base --adapter base --prompt she", "adapter_config.json is missing");
    assert!(!place.read("tuned/adapter_model.safetensors").is_empty());
}
