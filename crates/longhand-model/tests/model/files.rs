//! Model folders: what is saved is what is loaded, and everything else gets one clear sentence.

use longhand_model::{Config, FileError, Model, Preset, WeightsError};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use tempfile::TempDir;

fn saved() -> (TempDir, Model) {
    let folder = TempDir::new().unwrap();
    let model = Model::new(Preset::TanhLstm.config(9), 5).unwrap();
    model.save(folder.path()).unwrap();
    (folder, model)
}

fn sentence(folder: &TempDir) -> String {
    match Model::load(folder.path()) {
        Ok(_) => panic!("a broken model was loaded"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn every_preset_comes_back_as_it_was() {
    for preset in Preset::ALL.into_iter().filter(|preset| {
        // The two largest hold hundreds of megabytes and no layer that the others lack.
        !matches!(preset, Preset::LonghandBase | Preset::LonghandLarge)
    }) {
        let folder = TempDir::new().unwrap();
        let model = Model::new(preset.config(11), 5).unwrap();
        model.save(folder.path()).unwrap();
        let copy = Model::load(folder.path()).unwrap();
        assert_eq!(copy.config(), model.config(), "{preset}");
        assert_eq!(copy.weights.hash(), model.weights.hash(), "{preset}");
        assert_eq!(preset.name().parse::<Preset>().unwrap(), preset);
    }
    let other = Model::new(Preset::TanhLstm.config(9), 6).unwrap();
    assert_ne!(saved().1.weights.hash(), other.weights.hash());
}

#[test]
fn presets_have_the_sizes_their_names_say() {
    let count = |preset: Preset| Model::new(preset.config(66), 1).unwrap().weights.count() as f64;
    for (preset, millions) in [
        (Preset::LonghandNano, 1.1),
        (Preset::Lstm, 1.1),
        (Preset::Transformer, 1.1),
        (Preset::LonghandSmall, 10.0),
        (Preset::LonghandBase, 50.0),
        (Preset::LonghandLarge, 125.0),
    ] {
        let got = count(preset) / 1e6;
        assert!((got / millions - 1.0).abs() < 0.2, "{preset} has {got} million parameters");
    }
}

#[test]
fn missing_files_are_named() {
    for file in ["config.json", "model.safetensors"] {
        let (folder, _) = saved();
        fs_err::remove_file(folder.path().join(file)).unwrap();
        let said = sentence(&folder);
        assert!(said.contains(file) && said.contains("missing"), "{said}");
    }
}

#[test]
fn damaged_configurations_are_refused() {
    let (folder, model) = saved();
    let path = folder.path().join("config.json");
    let good = model.config().to_json();
    for (from, to, expected) in [
        ("\"width\"", "\"breadth\"", "breadth"),
        ("\"type\": \"lstm\"", "\"type\": \"gru\"", "gru"),
        ("\"hidden\": 256", "\"hidden\": 0", "must be from 1"),
        ("\"hidden\": 256", "\"hidden\": 99999999999", "must be from 1"),
        ("\"hidden\": 256", "\"hidden\": -1", "cannot be read"),
        ("\"vocab_size\": 9", "\"vocab_size\": 1048577", "must be from 1"),
        ("\"format\": 2", "\"format\": 7", "format 7"),
        ("\"block\": 0.1", "\"block\": 1.0", "less than 1"),
        ("{", "", "cannot be read"),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from}");
        fs_err::write(&path, bad).unwrap();
        let said = sentence(&folder);
        assert!(said.contains(expected) && said.contains("config.json"), "{to}: {said}");
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let refused = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut value: serde_json::Value =
            serde_json::from_str(&Preset::LonghandNano.config(9).to_json()).unwrap();
        change(&mut value);
        let config = Config::from_json(value.to_string().as_bytes());
        config.and_then(|config| Model::check(&config)).unwrap_err().to_string()
    };
    let said = refused(&|v| v["blocks"][0]["working"]["kv_heads"] = 3.into());
    assert!(said.contains("block 0") && said.contains("evenly"), "{said}");
    let said = refused(&|v| v["blocks"][1]["working"]["head_width"] = 39.into());
    assert!(said.contains("even head_width"), "{said}");
    let said = refused(&|v| {
        v["blocks"][1]["working"]["head_width"] = 39.into();
        v["blocks"][1]["working"]["rotary"] = false.into();
        v["kv_cache"] = "bf16".into();
    });
    assert!(said.contains("`kv_cache` in bf16") && said.contains("39"), "{said}");
    let said = refused(&|v| v["kv_cache"] = "int8".into());
    assert!(said.contains("unknown precision `int8`"), "{said}");
    let said = refused(&|v| v["blocks"][0]["long"]["heads"] = 4.into());
    assert!(said.contains("unknown field `heads`"), "{said}");
    let said = refused(&|v| v["blocks"][0]["fusion"] = "none".into());
    assert!(said.contains("need a fusion"), "{said}");
    let said = refused(&|v| {
        v["blocks"][0]["fusion"] = "sum".into();
        v["blocks"][0]["long"]["hidden"] = 32.into();
    });
    assert!(said.contains("160 and 32"), "{said}");
    let said = refused(&|v| v["blocks"] = serde_json::json!([{}]));
    assert!(said.contains("no memory"), "{said}");
    let said = refused(&|v| v["blocks"] = serde_json::json!([]));
    assert!(said.contains("number of blocks"), "{said}");
    let said = refused(&|v| v["blocks"][0]["long"]["bidirectional"] = true.into());
    assert!(said.contains("must not see"), "{said}");
    let said = refused(&|v| {
        v["blocks"][0].as_object_mut().unwrap().remove("long");
        v["blocks"][1]["long"]["type"] = "mlstm".into();
        v["dropout"]["recurrent"] = 0.5.into();
    });
    assert!(said.contains("`dropout.recurrent`"), "{said}");
}

#[test]
fn keys_that_a_choice_does_not_have_are_refused() {
    for (name, key) in [("none", "count"), ("sinusoidal", "count"), ("learned", "size")] {
        let mut value: serde_json::Value =
            serde_json::from_str(&Preset::LonghandNano.config(9).to_json()).unwrap();
        value["positions"] = serde_json::json!({ "type": name, key: 5 });
        let error = Config::from_json(value.to_string().as_bytes()).unwrap_err().to_string();
        assert!(error.contains(&format!("unknown field `{key}`")), "{name}: {error}");
    }
}

#[test]
fn models_that_no_machine_holds_are_refused_whatever_makes_them_large() {
    let refused = |rest: &str| {
        let json = format!(r#"{{"model_type": "longhand", "format": 2, {rest}}}"#);
        let config = Config::from_json(json.as_bytes()).unwrap();
        let said = Model::check(&config).unwrap_err().to_string();
        // Whatever makes a model says the same.
        assert_eq!(Model::new(config.clone(), 1).err().unwrap().to_string(), said);
        let folder = TempDir::new().unwrap();
        fs_err::write(folder.path().join("config.json"), config.to_json()).unwrap();
        fs_err::write(folder.path().join("model.safetensors"), "").unwrap();
        assert!(sentence(&folder).ends_with(&said), "{}", sentence(&folder));
        said
    };
    let said = refused(
        r#""width": 1048576, "vocab_size": 1048576, "heads": [{"type": "language-model"}],
        "blocks": [{"long": {"type": "lstm", "hidden": 1}}]"#,
    );
    assert!(said.contains("parameters"), "{said}");
    // The head over a wide last block, for tokens and for classes.
    let wide = r#""width": 1, "blocks": [{
        "long": {"type": "lstm", "hidden": 16384}, "fusion": "none", "residual": false }]"#;
    for sizes in [
        r#""vocab_size": 1048576, "heads": [{"type": "language-model"}]"#,
        r#""vocab_size": 1, "heads": [{"type": "classifier", "classes": 1048576}]"#,
    ] {
        let said = refused(&format!("{wide}, {sizes}"));
        assert!(said.contains("parameters"), "{said}");
    }
    // A fusion over a wide memory.
    let said = refused(
        r#""width": 16384, "vocab_size": 1, "heads": [{"type": "classifier", "classes": 2}],
        "blocks": [{"working": {"type": "attention", "heads": 4096, "kv_heads": 1,
                                "head_width": 4096, "window": 1}}]"#,
    );
    assert!(said.contains("parameters"), "{said}");
    // A window that no memory holds, and a matrix of one.
    for block in [
        r#""working": {"type": "attention", "heads": 64, "kv_heads": 64, "head_width": 64,
                       "window": 1048576}"#,
        r#""long": {"type": "mlstm", "hidden": 65536}"#,
    ] {
        let said = refused(&format!(
            r#""width": 1, "vocab_size": 1, "heads": [{{"type": "language-model"}}],
            "blocks": [{{{block}}}]"#
        ));
        assert!(said.contains("the state of each stream"), "{said}");
    }
}

#[test]
fn damaged_weights_are_refused() {
    let (folder, model) = saved();
    let path = folder.path().join("model.safetensors");
    let good = fs_err::read(&path).unwrap();
    for length in [0, 1, 7, 8, 9, 100, good.len() / 2, good.len() - 1] {
        fs_err::write(&path, &good[..length]).unwrap();
        let said = sentence(&folder);
        assert!(said.contains("not a whole safetensors file"), "{length}: {said}");
    }
    // Headers that promise more than there is.
    for header in [u64::MAX, 1 << 40, good.len() as u64, 3] {
        let mut bad = good.clone();
        bad[..8].copy_from_slice(&header.to_le_bytes());
        fs_err::write(&path, bad).unwrap();
        assert!(sentence(&folder).contains("not a whole safetensors file"), "{header}");
    }
    let last = |file: &[u8]| file.len() - 4;
    // As another program writes the file: without checksums.
    let tensors = SafeTensors::deserialize(&good).unwrap();
    let foreign = safetensors::serialize(tensors.tensors(), None).unwrap();
    for (bits, name) in [(f32::NAN, "NaN"), (f32::INFINITY, "infinity")] {
        let mut bad = good.clone();
        bad[last(&good)..].copy_from_slice(&bits.to_le_bytes());
        let error = Model::from_bytes(model.config().clone(), &bad).err();
        assert!(matches!(error, Some(WeightsError::Damaged(_))), "{name}: {error:?}");
        let mut bad = foreign.clone();
        bad[last(&foreign)..].copy_from_slice(&bits.to_le_bytes());
        let error = Model::from_bytes(model.config().clone(), &bad).err();
        assert!(matches!(error, Some(WeightsError::NotFinite { .. })), "{name}: {error:?}");
    }
    assert!(Model::from_bytes(model.config().clone(), &foreign).is_ok());
}

#[test]
fn weights_of_another_configuration_are_refused() {
    let bytes = Model::new(Preset::TanhLstm.config(9), 5).unwrap().to_bytes();
    let refuse = |config: Config| match Model::from_bytes(config, &bytes) {
        Ok(_) => panic!("foreign weights were read"),
        Err(error) => error,
    };
    let shape = refuse(Preset::TanhLstm.config(10));
    assert!(matches!(shape, WeightsError::Shape { .. }), "{shape}");
    let missing = refuse(Preset::LonghandNano.config(9));
    assert!(matches!(missing, WeightsError::Missing(_) | WeightsError::Shape { .. }), "{missing}");
}

#[test]
fn tensors_that_the_model_does_not_know_are_refused() {
    let model = Model::new(Preset::TanhLstm.config(9), 5).unwrap();
    let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = model
        .weights
        .iter()
        .map(|p| {
            let bytes = p.data.iter().flat_map(|x| x.to_le_bytes()).collect();
            (p.name.clone(), Dtype::F32, p.shape.clone(), bytes)
        })
        .collect();
    let refuse = |tensors: &[(String, Dtype, Vec<usize>, Vec<u8>)]| {
        let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
            (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap())
        });
        let bytes = safetensors::serialize(views, None).unwrap();
        Model::from_bytes(model.config().clone(), &bytes).err()
    };
    assert_eq!(refuse(&tensors), None);
    let extra = ("head.scale".to_owned(), Dtype::F32, vec![1], vec![0; 4]);
    tensors.push(extra);
    assert_eq!(refuse(&tensors), Some(WeightsError::Unknown("head.scale".into())));
    tensors.pop();
    let (_, dtype, _, bytes) = &mut tensors[0];
    *dtype = Dtype::F16;
    bytes.truncate(bytes.len() / 2);
    let half = refuse(&tensors);
    assert!(matches!(&half, Some(WeightsError::Format { got, .. }) if got == "F16"), "{half:?}");
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let model = Model::new(Preset::TanhLstm.config(9), 5).unwrap();
    // /dev/null is no folder, and /dev/full takes no byte: neither needs special rights.
    let error = model.save(std::path::Path::new("/dev/null")).unwrap_err();
    assert!(
        matches!(error, FileError::Io(_)) && error.to_string().contains("/dev/null"),
        "{error}"
    );
}
