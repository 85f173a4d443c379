use std::sync::Arc;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;

use super::*;
use crate::config::{HeadConfig, HeadKind, Pooling};
use crate::{Cpu, LowRankForm, LowRankSettings, Mode, Sequence, Tape};

const CONFIG: &str = r#"{
    "model_type": "longhand", "format": 2, "vocab_size": 19, "width": 16,
    "blocks": [{
        "working": {"type": "attention", "heads": 2, "kv_heads": 1, "head_width": 8, "window": 4},
        "long": {"type": "lstm", "hidden": 12}, "feed_forward": 24
    }],
    "heads": [{"type": "language-model"}]
}"#;

fn base(seed: u64) -> Model {
    Model::new(Config::from_json(CONFIG.as_bytes()).unwrap(), seed).unwrap()
}

/// A classifier on the base, with changes that are not zero.
fn adapted(base: &Model) -> (Model, Base) {
    adapted_in(base, LowRankForm::Product)
}

/// As [`adapted`], with changes of a form.
fn adapted_in(base: &Model, form: LowRankForm) -> (Model, Base) {
    let kind = HeadKind::Classifier { classes: 3, pooling: Pooling::Max };
    let config = Config { heads: vec![HeadConfig::new(kind)], ..base.config().clone() };
    let mut model = Model::new(config, 8).unwrap();
    let own = model.take_over(base, &[]);
    let settings = LowRankSettings { rank: 2, form, alpha: 3.0, dropout: 0.25, seed: 5 };
    model.add_low_rank(settings, |_| true).unwrap();
    let last = if form == LowRankForm::Product { "lora_b" } else { "lora_e" };
    for parameter in model.weights.iter_mut().filter(|p| p.name.ends_with(last)) {
        parameter.data.iter_mut().enumerate().for_each(|(i, x)| *x = 0.1 * (i as f32).sin());
    }
    (model, Base { name: "bases/one".into(), hash: base.hash(), own })
}

fn answers(model: &Model) -> Vec<f32> {
    let mut tape = Tape::new(Arc::new(Cpu::new(1)));
    let mut pass = tape.pass(Mode::Read);
    let ids: Vec<u32> = (0..14).collect();
    let mut state = model.state(2);
    let x = model.forward(&mut pass, &ids, &Sequence::new(7, 2), &mut state).unwrap();
    let mut out = Vec::new();
    model.logits(&mut pass, x, 0..2, &mut out);
    out
}

#[test]
fn a_scale_is_kept_bit_for_bit() {
    for rank in 1..200 {
        for alpha in [0.1, 1.0, 3.0, 7.3, 16.0, 1e-3, 333.3f32] {
            let scale = alpha / rank as f32;
            assert_eq!(
                super::config::alpha(scale, rank as f32) / rank as f32,
                scale,
                "{alpha} / {rank}"
            );
        }
    }
}

fn read_back(adapter: &Adapter) -> Adapter {
    let (config, weights) = adapter.to_bytes();
    Adapter::from_bytes(Path::new(""), config.as_bytes(), &weights).unwrap()
}

fn error<T>(result: Result<T, AdapterError>) -> String {
    let error = result.err().unwrap().to_string();
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

#[test]
fn an_adapter_and_its_base_are_the_adapted_model_bit_for_bit() {
    let one = base(3);
    let (model, origin) = adapted(&one);
    let adapter = Adapter::of(&model, &origin);
    let folder = tempfile::tempdir().unwrap();
    adapter.save(folder.path()).unwrap();
    let read = Adapter::load(folder.path()).unwrap();
    assert_eq!(read.config(), adapter.config());
    assert_eq!(read.base().unwrap(), Base { own: own_names(), ..origin.clone() });
    let again = read.apply(&one).unwrap();
    assert_eq!(again.config(), model.config());
    assert_eq!(again.weights.hash(), model.weights.hash());
    assert_eq!(answers(&again), answers(&model));
    assert_eq!(Adapter::of(&again, &origin).to_bytes(), adapter.to_bytes());
    assert!(adapter.count() < model.weights.count() / 2);

    let mut merged = again;
    merged.merge_low_rank();
    assert_eq!(merged.weights.len(), one.weights.len() + 1);
    let off =
        answers(&merged).iter().zip(answers(&model)).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(off < 1e-5, "{off}");
}

/// With singular values, of which some are zero: in a checkpoint all are there, at the end those
/// that are left, in the library's form.
#[test]
fn an_adapter_with_singular_values_is_the_adapted_model_bit_for_bit() {
    let one = base(3);
    // The sine of 0 is the first of each change's values.
    let (mut model, origin) = adapted_in(&one, LowRankForm::Singular);
    for pruned in [false, true] {
        if pruned {
            let last = *model.weights.singular_changes().last().unwrap();
            model.weights.get_mut(last.e).data.fill(0.0);
            model.prune_low_rank();
        }
        let adapter = read_back(&Adapter::of(&model, &origin));
        let again = adapter.apply(&one).unwrap();
        assert_eq!(again.weights.hash(), model.weights.hash());
        assert_eq!(answers(&again), answers(&model));
        assert_eq!(Adapter::of(&again, &origin).to_bytes(), adapter.to_bytes());
        let mut restored = again.clone();
        restored
            .weights
            .iter_mut()
            .filter(|p| p.name.contains("lora_"))
            .for_each(|p| p.data.fill(1.0));
        adapter.restore(&mut restored).unwrap();
        assert_eq!(restored.weights.hash(), model.weights.hash());

        let rank = if pruned { 1 } else { 2 };
        let changes = adapter.changes();
        assert_eq!(changes.len(), model.weights.singular_changes().len());
        assert!(changes.iter().all(|change| change.1 == rank), "{changes:?}");
        let (config, weights) = adapter.to_bytes();
        let file = checksum::from_bytes(&weights).unwrap();
        let name = |end: &str| format!("base_model.model.blocks.0.attention.qkv.lora_{end}");
        let shape = |end| file.tensor(&name(end)).unwrap().shape().to_vec();
        assert_eq!([shape("A"), shape("B"), shape("E")], [[rank, 16], [32, rank], [rank, 1]]);
        let json: serde_json::Value = serde_json::from_str(&config).unwrap();
        assert_eq!((&json["peft_type"], &json["init_r"]), (&"ADALORA".into(), &2.into()));
        let pattern = &json["rank_pattern"]["blocks.0.attention.qkv.lora_E"];
        let expected = if pruned { serde_json::json!([true, false]) } else { Value::Null };
        assert_eq!(pattern, &expected);
    }
}

fn own_names() -> Vec<String> {
    ["head.bias", "head.weight"].map(str::to_owned).to_vec()
}

#[test]
fn the_names_are_those_of_the_library() {
    let one = base(3);
    let (model, origin) = adapted(&one);
    let (config, weights) = Adapter::of(&model, &origin).to_bytes();
    let file = checksum::from_bytes(&weights).unwrap();
    let mut names = file.names();
    names.sort_unstable();
    let modules = [
        "blocks.0.attention.qkv",
        "blocks.0.feed_forward.down",
        "blocks.0.feed_forward.up",
        "blocks.0.fusion",
        "blocks.0.lstm.weight_hh_l0",
        "blocks.0.lstm.weight_ih_l0",
    ];
    let mut expected = Vec::new();
    for module in modules {
        expected
            .extend(["A", "B"].map(|half| format!("base_model.model.{module}.lora_{half}.weight")));
    }
    // Of an embedding: the library's table is the other way round.
    let embedding =
        ["A", "B"].map(|half| format!("base_model.model.embedding.lora_embedding_{half}"));
    let shapes = embedding.each_ref().map(|name| file.tensor(name).unwrap().shape().to_vec());
    assert_eq!(shapes, [[2, 19], [16, 2]]);
    expected.extend(embedding);
    expected.extend(own_names().iter().map(|name| format!("base_model.model.{name}")));
    assert_eq!(names, expected);
    let json: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!((&json["peft_type"], &json["r"]), (&"LORA".into(), &2.into()));
    assert_eq!((&json["lora_alpha"], &json["lora_dropout"]), (&3.0.into(), &0.25.into()));
    assert_eq!(json["base_model_name_or_path"], "bases/one");
    assert_eq!(json["modules_to_save"], serde_json::json!(["head"]));
    let mut targets: Vec<&str> = json["target_modules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    targets.sort_unstable();
    assert_eq!(targets, [&modules[..], &["embedding"]].concat());
}

#[test]
fn another_base_is_refused_with_both_hashes() {
    let (one, two) = (base(3), base(4));
    let (model, origin) = adapted(&one);
    let adapter = Adapter::of(&model, &origin);
    let message = error(adapter.apply(&two));
    assert!(message.contains(&one.hash()) && message.contains(&two.hash()), "{message}");
    let mut packed = base(3);
    packed.pack();
    assert!(error(adapter.apply(&packed)).contains("packed for reading"));
    assert!(error(adapter.apply(&model)).contains("merge"));
}

#[test]
fn a_base_in_another_folder_is_refused_with_both_folders() {
    let place = tempfile::tempdir().unwrap();
    let [one, two, tuned] = ["one", "two", "tuned"].map(|name| place.path().join(name));
    for folder in [&one, &two, &tuned] {
        fs_err::create_dir(folder).unwrap();
    }
    base(3).save(&one).unwrap();
    base(4).save(&two).unwrap();
    let (model, origin) = adapted(&base(3));
    let name = one.display().to_string();
    Adapter::of(&model, &Base { name, ..origin }).save(&tuned).unwrap();
    let choice = |name: &str| {
        let (name, folder, weight) = (name.into(), tuned.clone(), 1.0);
        AdapterChoice { name, folder, weight }
    };
    let names = |message: String, parts: [&Path; 2]| {
        let named = |part: &&Path| message.contains(&part.display().to_string());
        assert!(parts.iter().all(named), "{message}");
    };
    names(error(load(&two, &[choice("a")])), [&two, &tuned]);
    names(error(load(&two, &[choice("a"), choice("b")])), [&two, &tuned]);
    load(&tuned, &[]).unwrap();
    fs_err::remove_dir_all(&one).unwrap();
    fs_err::rename(&two, &one).unwrap();
    names(error(load(&tuned, &[])), [&one, &tuned]);
}

#[test]
fn what_a_change_adds_is_part_of_the_hash() {
    let one = base(3);
    let mut hashes = vec![one.hash()];
    for alpha in [3.0, 4.0] {
        let mut model = one.clone();
        let form = LowRankForm::Product;
        let settings = LowRankSettings { rank: 2, form, alpha, dropout: 0.0, seed: 5 };
        model.add_low_rank(settings, |_| true).unwrap();
        for parameter in model.weights.iter_mut().filter(|p| p.name.ends_with("lora_b")) {
            parameter.data.fill(0.1);
        }
        hashes.push(model.hash());
        model.merge_low_rank();
        hashes.push(model.hash());
    }
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 5, "the base, two changes and two merged models differ");
}

#[test]
fn damaged_files_are_named() {
    let one = base(3);
    let (model, origin) = adapted(&one);
    let (config, weights) = Adapter::of(&model, &origin).to_bytes();
    let read = |config: &str, weights: &[u8]| {
        Adapter::from_bytes(Path::new("folder"), config.as_bytes(), weights)
    };
    for place in (0..weights.len()).step_by(97) {
        let mut damaged = weights.clone();
        damaged[place] ^= 4;
        let message = error(read(&config, &damaged));
        assert!(message.starts_with("folder/adapter_"), "{message}");
    }
    assert!(error(read(&config, &weights[..100])).contains("adapter_model.safetensors"));
    for (from, to) in [
        ("\"r\": 2", "\"r\": 3"),
        ("\"lora_alpha\": 3.0", "\"lora_alpha\": 4.0"),
        ("\"window\": 4", "\"window\": 5"),
        (&origin.hash[..9], "000000000"),
    ] {
        assert!(config.contains(from), "{from}");
        let message = error(read(&config.replacen(from, to, 1), &weights));
        assert!(message.starts_with("folder/adapter_config.json"), "{message}");
    }
    // The base may be moved.
    read(&config.replacen("bases/one", "elsewhere", 1), &weights).unwrap();
    assert!(error(read("{}", &weights)).contains("adapter_config.json: missing field `peft_type`"));
    let folder = tempfile::tempdir().unwrap();
    assert!(error(Adapter::load(folder.path())).contains("adapter_config.json is missing"));
}

#[test]
fn settings_that_cannot_be_applied_are_named() {
    for (json, key) in [
        (r#"{"peft_type": "IA3"}"#, "peft_type"),
        (r#"{"peft_type": "LORA", "use_dora": true}"#, "use_dora"),
        (r#"{"peft_type": "LORA", "bias": "all"}"#, "bias"),
        (r#"{"peft_type": "LORA", "fan_in_fan_out": true}"#, "fan_in_fan_out"),
        (r#"{"peft_type": "LORA", "r": 0}"#, "`r`"),
        (r#"{"peft_type": "ADALORA", "init_r": 0}"#, "init_r"),
        (r#"{"peft_type": "LORA", "lora_dropout": 1.0}"#, "lora_dropout"),
        (
            r#"{"peft_type": "LORA", "longhand": {"version": 2, "base": "", "model": {}}}"#,
            "version",
        ),
    ] {
        let message = error(Adapter::from_bytes(Path::new(""), json.as_bytes(), &[]));
        assert!(message.contains(key), "{message}");
    }
}

#[test]
fn a_rank_larger_than_a_matrix_is_refused() {
    let mut model = base(3);
    let form = LowRankForm::Singular;
    let settings = LowRankSettings { rank: 17, form, alpha: 3.0, dropout: 0.0, seed: 5 };
    let refused =
        model.add_low_rank(settings, |name| name.contains("qkv")).unwrap_err().to_string();
    assert!(refused.contains("rank 17") && refused.contains("from 1 to 16"), "{refused}");
    assert!(!model.weights.has_low_rank());
    let one = base(3);
    let a = foreign("blocks.0.attention.qkv", [17, 16], [32, 17], None);
    assert!(error(a.apply(&one)).contains("rank 17"));
}

/// An adapter as another program writes it: no checksums, no hash of the base.
fn foreign(module: &str, a: [usize; 2], b: [usize; 2], dtype: Option<Dtype>) -> Adapter {
    let dtype = dtype.unwrap_or(Dtype::F32);
    let value: &[u8] = if dtype == Dtype::F32 { &[0, 0, 0, 0x3f] } else { &[0, 0x3f] };
    let tensors: Vec<_> = [("A", a), ("B", b)]
        .map(|(half, shape)| {
            let name = format!("base_model.model.{module}.lora_{half}.weight");
            (name, shape, value.repeat(shape.iter().product()))
        })
        .into();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (name.clone(), TensorView::new(dtype, shape.to_vec(), bytes).unwrap())
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    let config = br#"{"peft_type": "LORA", "r": 4, "lora_alpha": 6, "target_modules": "all-linear",
        "use_rslora": true, "alpha_pattern": {"qkv": 8}, "loftq_config": {}}"#;
    Adapter::from_bytes(Path::new(""), config, &bytes).unwrap()
}

#[test]
fn adapters_of_other_programs_are_applied() {
    let one = base(3);
    for dtype in [Dtype::F32, Dtype::BF16] {
        for (module, shapes, alpha) in [
            ("blocks.0.attention.qkv", ([4, 16], [32, 4]), 8.0),
            ("blocks.0.lstm.weight_hh_l0", ([4, 12], [48, 4]), 6.0),
        ] {
            let adapter = foreign(module, shapes.0, shapes.1, Some(dtype));
            assert_eq!(adapter.base(), None);
            assert_eq!(adapter.changes(), [(module, 4, [shapes.1[0], shapes.0[1]])]);
            let mut model = adapter.apply(&one).unwrap();
            model.merge_low_rank();
            // α / √r · B·A, of halves: alpha / 2 · 4 · 0.25.
            for (new, old) in model.weights.iter().zip(one.weights.iter()) {
                let change = if super::module(&new.name) == module { alpha / 2.0 } else { 0.0 };
                let off = new.data.iter().zip(&old.data[..]).map(|(a, b)| (a - b - change).abs());
                assert!(off.fold(0.0, f32::max) < 1e-5, "{}", new.name);
            }
        }
    }
    let unknown = foreign("blocks.1.attention.qkv", [4, 16], [32, 4], None);
    assert!(error(unknown.apply(&one)).contains("blocks.1.attention.qkv"));
    let table = foreign("embedding", [4, 16], [19, 4], None);
    assert!(error(table.apply(&one)).contains("`embedding`"));
    let misfit = foreign("blocks.0.attention.qkv", [4, 15], [32, 4], None);
    assert!(error(misfit.apply(&one)).contains("[4, 15]"));
}

/// As the library writes it: bare names, a rank of its own for each matrix, one of them 0, and the
/// scale of the rank that training began with.
#[test]
fn adapters_of_other_programs_with_singular_values_are_applied() {
    let one = base(3);
    let numbers = |count: usize, value: f32| value.to_le_bytes().repeat(count);
    let shapes = [
        ("blocks.0.attention.qkv.lora_A", [1, 16], 0.5),
        ("blocks.0.attention.qkv.lora_B", [32, 1], 0.25),
        ("blocks.0.attention.qkv.lora_E", [1, 1], 3.0),
        ("blocks.0.feed_forward.down.lora_A", [0, 24], 0.0),
        ("blocks.0.feed_forward.down.lora_B", [16, 0], 0.0),
        ("blocks.0.feed_forward.down.lora_E", [0, 1], 0.0),
    ];
    let tensors = shapes.map(|(name, shape, value)| {
        (format!("base_model.model.{name}"), shape, numbers(shape.iter().product(), value))
    });
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (name.clone(), TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap())
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    for (keys, alpha, initial) in [
        (r#""init_r": 3, "lora_alpha": 6, "rank_pattern": {"x.lora_E": [true, false]}"#, 6.0, 3.0),
        (r#""rank_pattern": null"#, 8.0, 12.0),
    ] {
        let config = format!(r#"{{"peft_type": "ADALORA", "target_r": 1, {keys}}}"#);
        let adapter = Adapter::from_bytes(Path::new(""), config.as_bytes(), &bytes).unwrap();
        let mut model = adapter.apply(&one).unwrap();
        model.merge_low_rank();
        for (new, old) in model.weights.iter().zip(one.weights.iter()) {
            let changed = super::module(&new.name) == "blocks.0.attention.qkv";
            let change = if changed { alpha / (initial + 1e-5) * 0.375 } else { 0.0 };
            let off = new.data.iter().zip(&old.data[..]).map(|(a, b)| (a - b - change).abs());
            assert!(off.fold(0.0, f32::max) < 1e-5, "{}", new.name);
        }
    }
}

/// The library adds (B·A)ᵀ to an embedding, at the scale of every change.
#[test]
fn adapters_of_other_programs_for_embeddings_are_applied() {
    let one = base(3);
    let a: Vec<f32> = (0..2 * 19).map(|i| (i as f32).sin()).collect();
    let b: Vec<f32> = (0..16 * 2).map(|i| (i as f32).cos()).collect();
    let bytes = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let (a_bytes, b_bytes) = (bytes(&a), bytes(&b));
    let name = |half: &str| format!("base_model.model.embedding.lora_embedding_{half}");
    let views = [("A", [2, 19], &a_bytes), ("B", [16, 2], &b_bytes)].map(|(half, shape, bytes)| {
        (name(half), TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap())
    });
    let weights = safetensors::serialize(views, None).unwrap();
    let config = br#"{"peft_type": "LORA", "r": 2, "lora_alpha": 3}"#;
    let adapter = Adapter::from_bytes(Path::new(""), config, &weights).unwrap();
    assert_eq!(adapter.changes(), [("embedding", 2, [19, 16])]);
    let mut model = adapter.apply(&one).unwrap();
    let mean = model.mean_embedding();
    model.merge_low_rank();
    for ((mean, merged), at) in mean.iter().zip(model.mean_embedding()).zip(0..) {
        assert!((mean - merged).abs() < 1e-5, "{at}");
    }
    for (new, old) in model.weights.iter().zip(one.weights.iter()) {
        if new.name != "embedding.weight" {
            assert_eq!(new.data[..], old.data[..], "{}", new.name);
            continue;
        }
        for (place, (new, old)) in new.data.iter().zip(&old.data[..]).enumerate() {
            let (id, column) = (place / 16, place % 16);
            let product = (0..2).map(|k| a[k * 19 + id] * b[column * 2 + k]).sum::<f32>();
            assert!((new - old - 1.5 * product).abs() < 1e-5, "{place}");
        }
    }
    // Tied, a change of the embedding would be one of the head.
    let tied = CONFIG.replace("\"language-model\"", "\"language-model\", \"tied\": true");
    let tied = Model::new(Config::from_json(tied.as_bytes()).unwrap(), 3).unwrap();
    assert!(error(adapter.apply(&tied)).contains("not tied"));
}

/// Several adapters are the sum of their changes, whatever their form, and the head of one.
#[test]
fn several_adapters_are_added() {
    let one = base(3);
    let (model, origin) = adapted_in(&one, LowRankForm::Singular);
    let topics = Adapter::of(&model, &origin);
    let tone = foreign("blocks.0.attention.qkv", [4, 16], [32, 4], None);
    let other = foreign("blocks.0.lstm.weight_hh_l0", [4, 12], [48, 4], None);
    let applied = |name, adapter, weight| Applied { name, adapter, weight };
    let all = [
        applied("tone", &tone, 0.5),
        applied("topics", &topics, 1.0),
        applied("other", &other, 1.0),
    ];
    let mut sum = apply(&one, &all).unwrap();
    assert_eq!(sum.config(), model.config());
    sum.merge_low_rank();
    let merged = [(&tone, 0.5), (&topics, 1.0), (&other, 1.0)].map(|(adapter, weight)| {
        let mut model = adapter.apply(&one).unwrap();
        model.merge_low_rank();
        (model, weight)
    });
    for parameter in sum.weights.iter() {
        let of = |model: &Model| {
            let found = model.weights.iter().find(|other| other.name == parameter.name);
            found.map(|found| found.data.to_vec())
        };
        // The head is that of the one that has one.
        let Some(base) = of(&one).filter(|_| !parameter.name.starts_with("head")) else {
            assert_eq!(Some(parameter.data.to_vec()), of(&model), "{}", parameter.name);
            continue;
        };
        for (place, &got) in parameter.data.iter().enumerate() {
            let change =
                |(model, weight): &(Model, f32)| weight * (of(model).unwrap()[place] - base[place]);
            let expected = base[place] + merged.iter().map(change).sum::<f32>();
            assert!((got - expected).abs() < 1e-5, "{}[{place}]", parameter.name);
        }
    }
    // One with its opposite is none.
    let mut none =
        apply(&one, &[applied("one", &tone, 1.0), applied("back", &tone, -1.0)]).unwrap();
    none.merge_low_rank();
    let off = none.weights.iter().zip(one.weights.iter());
    let off = off.flat_map(|(a, b)| a.data.iter().zip(&b.data[..]).map(|(a, b)| (a - b).abs()));
    assert!(off.fold(0.0, f32::max) < 1e-5);
}

#[test]
fn adapters_that_do_not_go_together_are_both_named() {
    let (one, two) = (base(3), base(4));
    let (model, origin) = adapted(&one);
    let (topics, tone) =
        (Adapter::of(&model, &origin), foreign("blocks.0.fusion", [4, 16], [8, 4], None));
    let applied = |name, adapter| Applied { name, adapter, weight: 1.0 };
    let message = error(apply(&one, &[applied("topics", &topics), applied("mood", &topics)]));
    assert!(
        ["`topics`", "`mood`", "`head."].iter().all(|part| message.contains(part)),
        "{message}"
    );
    let message = error(apply(&one, &[applied("tone", &tone), applied("tone", &tone)]));
    assert!(message.contains("`tone`") && message.contains("NAME=DIR"), "{message}");
    let message = error(apply(&two, &[applied("tone", &tone), applied("topics", &topics)]));
    assert!(message.contains("`topics`: ") && message.contains(&one.hash()), "{message}");
    let message = error(apply(&one, &[applied("topics", &topics), applied("tone", &tone)]));
    assert!(message.contains("`tone`: ") && message.contains("blocks.0.fusion"), "{message}");
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join(ADAPTER_CONFIG_FILE), r#"{"peft_type": "LORA"}"#).unwrap();
    assert!(error(Adapter::load(folder.path())).contains("adapter_model.safetensors is missing"));
    fs_err::write(folder.path().join("adapter_model.bin"), "").unwrap();
    assert!(error(Adapter::load(folder.path())).contains("adapter_model.bin is a pickle"));
}

#[test]
fn values_are_restored_into_a_model_that_has_the_changes() {
    let one = base(3);
    let (model, origin) = adapted(&one);
    let adapter = read_back(&Adapter::of(&model, &origin));
    let mut other = adapter.apply(&one).unwrap();
    let names: Vec<String> = other.weights.iter().map(|p| p.name.clone()).collect();
    for parameter in other.weights.iter_mut().skip(names.len() - 12) {
        parameter.data.fill(7.0);
    }
    adapter.restore(&mut other).unwrap();
    assert_eq!(other.weights.hash(), model.weights.hash());
    assert!(matches!(adapter.restore(&mut base(3)), Err(AdapterError::OtherForm)));
}

/// A served adapter takes the memory of what it changes, and answers with the bits of a model of its own.
#[test]
fn what_an_adapter_leaves_is_held_once_beside_its_base() {
    let mut one = base(3);
    let mut model = one.clone();
    let form = LowRankForm::Product;
    let settings = LowRankSettings { rank: 2, form, alpha: 3.0, dropout: 0.0, seed: 5 };
    let changed = model.add_low_rank(settings, |name| name.contains("weight_hh")).unwrap();
    for parameter in model.weights.iter_mut().filter(|p| p.name.ends_with("lora_b")) {
        parameter.data.fill(0.1);
    }
    let mut alone = model.clone();
    alone.pack();
    one.pack();
    model.pack_beside(&one);
    assert_eq!(answers(&model), answers(&alone));
    assert_eq!(model.hash(), alone.hash());
    for (held, own) in one.weights.iter().zip(model.weights.iter()) {
        let (Some(held), Some(packed)) = (&held.packed, &own.packed) else { continue };
        assert_eq!(Arc::ptr_eq(held, packed), !changed.contains(&own.name), "{}", own.name);
    }
}
