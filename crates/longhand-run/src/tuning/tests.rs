use longhand_model::Preset;
use longhand_model::config::{HeadConfig, HeadKind};

use super::*;

fn model() -> Model {
    Model::new(Preset::LonghandNano.config(40), 3).unwrap()
}

fn base(own: &[&str]) -> Option<Base> {
    let own = own.iter().map(|name| name.to_string()).collect();
    Some(Base { name: "base".into(), hash: "00".into(), own })
}

fn trained(model: &Model, groups: &[GroupSettings]) -> Vec<String> {
    let last = |name: &str| {
        let mut groups = groups.iter().rev();
        groups.find(|group| group.parameters.iter().any(|p| matches(p, name)))
    };
    let names = model.weights.iter().map(|parameter| parameter.name.clone());
    names.filter(|name| last(name).is_none_or(|group| group.trainable)).collect()
}

#[test]
fn each_method_trains_its_parameters() {
    let settings = Settings::for_examples();
    let own = ["head.weight"];
    let apply = |tuning: &Tuning| {
        let mut model = model();
        let tuned = tuning.apply(&mut model, base(&own), &settings).unwrap();
        (trained(&model, &tuned.settings.groups), tuned, model)
    };
    let (names, tuned, model) = apply(&Tuning::default());
    assert_eq!((names.len(), tuned.base), (model.weights.len(), None));
    assert_eq!(tuned.settings, settings);
    let frozen = Tuning { method: Method::Frozen, ..Tuning::default() };
    assert_eq!(apply(&frozen).0, own);
    let lora = Tuning { method: Method::Lora, rank: 4, ..Tuning::default() };
    let (names, tuned, model) = apply(&lora);
    assert!(names.iter().all(|name| name.contains(".lora_") || name == own[0]), "{names:?}");
    for part in ["attention.qkv", "weight_hh", "weight_ih", "feed_forward.up", "fusion"] {
        assert!(names.iter().any(|name| name.contains(part)), "{part}");
    }
    assert!(tuned.base.is_some() && model.weights.has_low_rank());
    let adalora = Tuning { method: Method::AdaLora, ..lora.clone() };
    let (names, tuned, model) = apply(&adalora);
    assert!(names.iter().all(|name| name.contains(".lora_") || name == own[0]), "{names:?}");
    assert!(names.iter().any(|name| name.ends_with(".lora_e")), "{names:?}");
    assert_eq!(tuned.settings.ranks.map(|ranks| ranks.mean), Some(4));
    let changes = model.weights.singular_changes();
    assert!(changes.iter().all(|change| model.weights.get(change.e).shape == [6, 1]));
    let targets = vec!["*.attention.*".into()];
    let (names, ..) = apply(&Tuning { targets, ..lora });
    assert!(names.iter().all(|name| name.contains("attention") || name == own[0]));
}

#[test]
fn adapter_layers_are_trained_with_the_norms_and_the_head() {
    let settings = Settings::for_examples();
    let tuning = Tuning { method: Method::Adapter, adapter_width: 5, ..Tuning::default() };
    let config = tuning.config(model().config().clone()).unwrap();
    assert_eq!(config.adapters, Some(5));
    let refused = tuning.config(config.clone()).unwrap_err().to_string();
    assert!(refused.contains("of width 5"), "{refused}");
    let mut tuned = Model::new(config, 3).unwrap();
    let own = tuned.take_over(&model(), &[]);
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    let Tuned { settings, base } = tuning.apply(&mut tuned, base(&own), &settings).unwrap();
    let names = trained(&tuned, &settings.groups);
    let expected =
        |name: &str| ["adapter.", "norm.", "head."].iter().any(|part| name.contains(part));
    assert!(names.iter().all(|name| expected(name)), "{names:?}");
    let all = tuned.weights.iter().filter(|parameter| expected(&parameter.name)).count();
    assert_eq!((names.len(), base.unwrap().own.len()), (all, all));
}

#[test]
fn gradual_unfreezing_goes_down_with_each_epoch() {
    let settings = Settings { budget: Budget::Epochs(20.0), ..Settings::for_examples() };
    let gradual = Tuning { unfreeze: Unfreeze::Gradual, ..Tuning::default() };
    let mut model = model();
    let blocks = model.config().blocks.len();
    let tuned = gradual.apply(&mut model, base(&["head.weight"]), &settings).unwrap().settings;
    assert_eq!(tuned.groups.len(), blocks + 1);
    for (place, group) in tuned.groups.iter().enumerate() {
        assert!((group.from - (place + 1) as f64 / 20.0).abs() < 1e-9);
        assert!((group.rate - 2.6f32.powi(-(place as i32 + 1))).abs() < 1e-6);
    }
    assert_eq!(tuned.groups[0].parameters, [format!("blocks.{}.*", blocks - 1)]);
    assert_eq!(tuned.groups[blocks].parameters, ["embedding.weight"]);
    assert!(matches!(tuned.schedule, Schedule::SlantedTriangular(_)));
    tuned.check().unwrap();
    let few = Settings { budget: Budget::Epochs(2.0), ..settings };
    let few = gradual.apply(&mut model, base(&[]), &few).unwrap().settings;
    few.check().unwrap();
    assert!(few.groups.iter().all(|group| group.from < 1.0));
}

#[test]
fn another_method_takes_over_what_it_has_a_use_for() {
    let adalora = RankSettings { initial: Some(9), ..RankSettings::default() };
    let first = Tuning { method: Method::AdaLora, rank: 3, adalora, ..Tuning::default() };
    let chosen = |method| {
        let mut tuning = first.clone();
        tuning.choose(method);
        assert_eq!(tuning.unused(), None);
        tuning
    };
    assert_eq!(chosen(Method::AdaLora), first);
    let usual = Tuning { method: Method::Lora, rank: 3, ..Tuning::default() };
    assert_eq!(chosen(Method::Lora), usual);
    assert_eq!(chosen(Method::Full), Tuning::default());
}

#[test]
fn what_cannot_be_tuned_is_named() {
    let error = |tuning: Tuning, base: Option<Base>, settings: &Settings| {
        let error = tuning.apply(&mut model(), base, settings).err().unwrap().to_string();
        assert_eq!(error.lines().count(), 1, "{error}");
        error
    };
    let settings = Settings::for_examples();
    let lora = || Tuning { method: Method::Lora, ..Tuning::default() };
    assert!(error(lora(), None, &settings).contains("base model"));
    let groups = vec![GroupSettings::frozen("*")];
    let grouped = Settings { groups, ..settings.clone() };
    assert!(error(lora(), base(&[]), &grouped).contains("training.groups"));
    let initial = |initial| RankSettings { initial, ..RankSettings::default() };
    let method = Method::AdaLora;
    let wide = Tuning { method, adalora: initial(Some(90_000)), ..lora() };
    assert!(error(wide, base(&[]), &settings).contains("rank 90000"));
    let large = Tuning { rank: 100_000, ..lora() };
    assert!(error(large, base(&[]), &settings).contains("rank 100000"));
    let targets = |pattern: &str| vec![pattern.to_owned()];
    let none = Tuning { targets: targets("norm.*"), ..lora() };
    assert!(error(none, base(&[]), &settings).contains("`norm.*`"));
    // Where the head of a language model is its embedding, neither is changed alone.
    let tied = Tuning { targets: targets("embedding.*"), ..lora() };
    let heads = vec![HeadConfig::new(HeadKind::LanguageModel { tied: true, bias: false })];
    let config = Config { heads, ..model().config().clone() };
    let refused = tied.apply(&mut Model::new(config, 3).unwrap(), base(&[]), &settings);
    let refused = refused.err().unwrap().to_string();
    assert!(refused.contains("`embedding.weight`, which is the model's head"), "{refused}");
    tied.apply(&mut model(), base(&[]), &settings).unwrap();
    let gradual = || Tuning { unfreeze: Unfreeze::Gradual, ..Tuning::default() };
    assert!(error(gradual(), base(&[]), &settings).contains("epochs"));
    let unused = Tuning { rank: 3, ..Tuning::default() };
    assert_eq!(
        error(unused, None, &settings),
        "`tuning.rank` is for the method lora or adalora, and the method is full: leave it out"
    );
    let unused = Tuning { adalora: initial(Some(9)), ..lora() };
    assert!(error(unused, base(&[]), &settings).contains("`tuning.adalora` is for the method ad"));
    let both = Tuning { method: Method::Lora, ..gradual() };
    assert!(error(both, base(&[]), &settings).contains("whole model"));
    for (tuning, name) in [
        (Tuning { rank: 0, ..lora() }, "tuning.rank"),
        (Tuning { alpha: f32::NAN, ..lora() }, "tuning.alpha"),
        (Tuning { dropout: 1.0, ..lora() }, "tuning.dropout"),
        (Tuning { adapter_width: 0, ..lora() }, "tuning.adapter_width"),
        (
            Tuning { adalora: initial(Some(3)), method: Method::AdaLora, ..lora() },
            "adalora.initial",
        ),
    ] {
        assert!(error(tuning, base(&[]), &settings).contains(name));
    }
}
