use longhand_model::Preset;
use longhand_model::config::{Cell, LongMemory};
use longhand_train::Budget;
use longhand_train::settings::OptimizerSettings;

use super::*;

#[test]
fn a_task_has_the_defaults_of_examples_for_keys_that_the_recipe_leaves_out() {
    let task = "[task]\ntype = 'classify'\n";
    let parse = |text: &str| Recipe::parse(text, "r.toml").unwrap().training;
    assert_eq!(parse(task), Settings::for_examples());
    assert!(matches!(parse("").optimizer, OptimizerSettings::Muon(_)));
    let given = parse(&format!("{task}[training]\nbudget = {{ epochs = 3 }}\naverage = 0.9"));
    let expected =
        Settings { budget: Budget::Epochs(3.0), average: 0.9, ..Settings::for_examples() };
    assert_eq!(given, expected);
    let error = Recipe::parse(&format!("{task}[training]\naverages = 1"), "r.toml").unwrap_err();
    assert!(error.to_string().contains("line 4"), "{error}");
}

#[test]
fn what_is_refused_is_told_with_the_keys_that_are_known() {
    for (text, words) in [
        ("[task]\ntype = 'classify'\nlabels = 3", "no key `labels`: the keys are label_column, "),
        ("[task]\ntype = 'span'\ncharacters = 3", "no key `characters`: the keys are "),
        ("[training]\nbatch_size = 3", "line 2: there is no key `batch_size`: the keys are "),
        ("[task]\ntype = 'compose'", "`compose` is none of classify, "),
        ("[training]\nbatch = 'few'", "\"few\" is given, but it must be a whole"),
        ("[model.overrides]\nwidths = 3", "there is no key `widths`: the keys are "),
    ] {
        let error = Recipe::parse(text, "r.toml").unwrap_err().to_string();
        assert!(error.contains(words) && !error.contains("expected"), "{error}");
    }
}

#[test]
fn everything_may_be_left_out_and_nothing_unknown_is_taken() {
    assert_eq!(Recipe::parse("", "r").unwrap(), Recipe::default());
    for text in [
        "datas = 1",
        "[data]\nfile = 'x'",
        "[tokenizer]\nsize = 3",
        "[tokenizer]\nkind = 'letters'",
        "[model]\npreset = 'nano'",
        "[model.overrides]\nwidths = 3",
        "[model.overrides]\nwidth = 0",
        "[training]\nbatch_size = 3",
        "[training]\nbatch = 0",
        "[training]\nbudget = { hours = 3 }",
        "[data]\nvalid_fraction = 1.5",
        "[data]\nshare = 0.0",
        "[data]\nshare = 1.5",
        "[data]\nfolds = 0\n[task]\ntype = 'classify'",
        "[data]\nfolds = 1\n[task]\ntype = 'classify'",
        "[data]\nfolds = 3\nfold = 4\n[task]\ntype = 'classify'",
        "[data]\nfolds = 3\ntest = ['a']\n[task]\ntype = 'classify'",
        "[data]\nfold = 1\n[task]\ntype = 'classify'",
        "[data]\nfolds = 3",
        "[data]\nsample_bytes = 1000000000000000",
        "[data]\nformat = 'xml'",
        "[expected]\nloss = { below = 3 }",
        "[task]\ntype = 'compose'",
        "[task]\ntype = 'classify'\nlabels = 3",
        "[task]\ntype = 'classify'\nlongest = 0",
        "[model.base]\npath = 'm'\n[ngram]\norder = 3",
        "members = 3",
        "members = 0\n[task]\ntype = 'classify'",
        "members = 65\n[task]\ntype = 'classify'",
        "members = 3\nmember = 4\n[task]\ntype = 'classify'",
        "member = 1\n[task]\ntype = 'classify'",
        "members = 3\n[task]\ntype = 'classify'\n[baseline]\ntype = 'nb-lr'",
        "members = 3\n[task]\ntype = 'classify'\n[tuning]\nmethod = 'lora'",
        "members = 3\n[task]\ntype = 'classify'\n[rehearsal]\nweight = 1.0",
        "[self_training]\nunlabelled = ['u']",
        "[self_training]\nunlabelled = ['u']\n[task]\ntype = 'tag'",
        "[self_training]\nrounds = 3\n[task]\ntype = 'classify'",
        "[self_training]\nunlabelled = ['u']\nrounds = 1\n[task]\ntype = 'classify'",
        "[self_training]\nunlabelled = ['u']\nthreshold = 1.0\n[task]\ntype = 'classify'",
        "[self_training]\nunlabelled = ['u']\n[data]\nfolds = 3\n[task]\ntype = 'classify'",
        "[self_training]\nunlabelled = ['u']\n[task]\ntype = 'classify'\n[baseline]\ntype = 'majority'",
        "[model.vectors]\npath = 'v'",
        "[training]\nadversarial = { epsilon = 1.0 }",
        "[training]\nadversarial = { weight = 1.0 }\n[task]\ntype = 'classify'",
        "[tuning]\nmethod = 'half'",
        "[tuning]\nranks = 3",
        "[tuning]\nrank = 0",
        "[tuning]\ndropout = 1.0",
        "[rehearsal]\nweight = 0.0",
        "[rehearsal]\nbatch = 0",
        "[rehearsal]\nwords = 3",
        "[data]\ntrain = ['a']\n[data.sha256]\nb = '00'",
        "[training]\nthreads = 1000000",
        "not toml",
    ] {
        let error = Recipe::parse(text, "r.toml").unwrap_err().to_string();
        assert_eq!(error.lines().count(), 1, "{text:?}: {error}");
        assert!(error.starts_with("r.toml is not a usable recipe: "), "{text:?}: {error}");
    }
    let error = Recipe::parse("\n\n[training]\nbach = 3", "r.toml").unwrap_err().to_string();
    assert!(error.contains("r.toml") && error.contains("line 4"), "{error}");
    assert!(error.contains("bach"), "{error}");
}

#[test]
fn a_preset_takes_overrides_and_a_configuration_stands_alone() {
    let text = "[model]\npreset = 'lstm'\n[model.overrides]\nwidth = 32\n\
                dropout = { input = 0.5 }\nhead = { type = 'language-model', tied = true }\n\
                blocks = [{ long = { cell = 'lstm', hidden = 32 }, fusion = 'none', \
                residual = false }]";
    let recipe = Recipe::parse(text, "r").unwrap();
    let config = recipe.model.config(50).unwrap();
    assert_eq!((config.vocab_size, config.width, config.blocks.len()), (50, 32, 1));
    let preset = Preset::Lstm.config(50);
    assert_eq!(config.dropout.input, 0.5);
    assert_eq!(config.dropout.block, preset.dropout.block);
    let whole = serde_json::from_str::<Map<String, Value>>(&config.to_json()).unwrap();
    let alone = ModelSettings { config: Some(whole), ..ModelSettings::default() };
    assert_eq!(alone.config(50).unwrap(), config);
}

#[test]
fn overrides_may_have_the_keys_of_format_1() {
    let text = "[model]\npreset = 'lstm'\n[model.overrides]\nhead = { tied = true }\n\
                blocks = [{ long = { cell = 'lstm', hidden = 256, heads = 1 } }]";
    let config = Recipe::parse(text, "r").unwrap().model.config(50).unwrap();
    assert_eq!(config.head(), Some(&HeadKind::LanguageModel { tied: true, bias: true }));
    assert_eq!(config.blocks[0].long, Some(LongMemory::new(Cell::Lstm, 256)));
}

/// Fault R4: training a classifier's head on text panicked.
#[test]
fn a_head_must_fit_what_is_learnt() {
    let head = "[model]\npreset = 'stacked-lstm-classifier'\n";
    let error = Recipe::parse(head, "r").unwrap().check_head().unwrap_err();
    assert!(matches!(&error, RecipeError::NoLanguageModel(name) if name.contains("stacked")));
    let with_task = format!("{head}[task]\ntype = 'classify'\n");
    Recipe::parse(&with_task, "r").unwrap().check_head().unwrap();
    Recipe::default().check_head().unwrap();
    let other = "[model.overrides]\nheads = [{ type = 'tags', tags = 3 }]";
    assert!(Recipe::parse(other, "r").unwrap().check_head().is_err());
}

#[test]
fn data_is_found_under_its_folder_and_verified() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        fs_err::write(folder.path().join(name), text).unwrap();
    };
    write("abc.txt", "abc");
    let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let recipe = |name: &str, hash: &str| {
        let text = format!("[data]\ntrain = ['{name}']\n[data.sha256]\n'{name}' = '{hash}'\n");
        write("r.toml", &text);
        let mut recipe = Recipe::load(&folder.path().join("r.toml"), folder.path())?;
        recipe.data.verify().map(|()| recipe)
    };
    let found = recipe("abc.txt", hash).unwrap();
    assert_eq!(found.data.train, [folder.path().join("abc.txt")]);
    assert!(matches!(recipe("abc.txt", &"0".repeat(64)), Err(RecipeError::Hash { .. })));
    assert!(matches!(recipe("no.txt", hash), Err(RecipeError::Missing { .. })));
}

#[test]
fn other_files_need_none_of_the_recipes() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("own.txt");
    fs_err::write(&own, "abc").unwrap();
    let text = format!(
        "[data]\ntrain = ['a.txt']\nvalid = ['b.txt']\n[data.sha256]\n'a.txt' = '{}'",
        "0".repeat(64)
    );
    let mut data = Recipe::parse(&text, "r").unwrap().data;
    assert!(matches!(data.verify(), Err(RecipeError::Missing { .. })));
    data.learn_from(vec![own]);
    data.verify().unwrap();
    assert!(data.valid.is_empty() && data.sha256.is_empty());
}

/// The recipes that are shipped, read as they are.
#[test]
fn shipped_recipes_are_recipes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
    let mut count = 0;
    for entry in fs_err::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs_err::read_to_string(&path).unwrap();
        let recipe = Recipe::parse(&text, &path.display().to_string()).unwrap();
        assert!(!recipe.description.is_empty());
        let data = &recipe.data;
        let mut files = [&data.train, &data.valid, &data.test].into_iter().flatten();
        assert!(files.all(|file| data.sha256.contains_key(file)), "{}", path.display());
        count += 1;
    }
    assert!(count >= 3);
}
