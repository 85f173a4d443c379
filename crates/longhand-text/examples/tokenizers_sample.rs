//! Writes a folder that `scripts/check_tokenizers.py` reads: for each kind of tokeniser its
//! `tokenizer.json`, texts, and the ids and the decoded text that Longhand makes of them.
//!
//!     cargo run --example tokenizers_sample -- FOLDER [TEXT]

use std::path::PathBuf;

use longhand_text::{Corpus, CorpusOptions, TextError, Tokenizer, TokenizerKind};

const TRAINING: &str = include_str!("tokenizers_sample.txt");

/// Texts that differ from the training text in every way that has led tokenisers apart.
const AWKWARD: [&str; 12] = [
    "",
    "\n",
    " \n\n \t \r\n\n\n x",
    "a b  c   d\n\ne",
    "no line break at the end",
    "one\u{a0}two\u{3000}three\u{2028}four\u{85}five",
    "literal <eos> and <unk> and x<eos>y and <0x41> ▁ ##ing",
    "combining e\u{301}, family 👨‍👩‍👧, flags 🇨🇳, unknown ㊙ꙮ𐍈",
    "牀前明月光，疑是地上霜。舉頭望明月，低頭思故鄉。",
    "\u{1}\u{7f}\u{200b}\u{feff} control",
    "don't we'll THEY'RE 3.14 1,000 v2.0-rc",
    "<eos> <eos>\n<eos>",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let folder = arguments.next().ok_or("give the folder to write into")?;
    let mut training = TRAINING.to_owned();
    let mut texts: Vec<String> = AWKWARD.map(str::to_owned).into();
    for path in arguments {
        let corpus = Corpus::open(&[path], CorpusOptions::default())?;
        let text = corpus.texts().collect::<Result<String, TextError>>()?;
        training.push_str(&text);
        texts.push(text);
    }
    texts.push(TRAINING.to_owned());
    for kind in TokenizerKind::ALL {
        let corpus = std::iter::once(Ok(training.clone()));
        let tokenizer = Tokenizer::train(kind, None, corpus, &mut |_| {})?;
        let own = folder.join(kind.name());
        fs_err::create_dir_all(&own)?;
        tokenizer.save(&own.join("tokenizer.json"))?;
        for (number, text) in texts.iter().enumerate() {
            let ids = tokenizer.encode(text)?;
            let decoded = tokenizer.decode(&ids)?;
            fs_err::write(own.join(format!("{number:02}.txt")), text)?;
            fs_err::write(own.join(format!("{number:02}.ids")), serde_json::to_string(&ids)?)?;
            fs_err::write(own.join(format!("{number:02}.decoded")), decoded)?;
        }
    }
    Ok(())
}
