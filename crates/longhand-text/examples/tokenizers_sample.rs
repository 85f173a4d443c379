//! Writes a folder that `scripts/check_tokenizers.py` reads: for each kind of tokeniser its
//! `tokenizer.json`, texts, and the ids, their places and the decoded text that Longhand makes of
//! them. Each kind comes twice: as it is trained, and with special tokens, whose names the texts
//! spell; `.marked` holds the ids where these names stand for the tokens.
//!
//!     cargo run --example tokenizers_sample -- FOLDER [TEXT]
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use longhand_text::{
    Corpus, CorpusOptions, Encoding, SpecialTokens, TextError, Tokenizer, TokenizerKind,
};

const TRAINING: &str = include_str!("tokenizers_sample.txt");

/// Texts that differ from the training text in every way that has led tokenisers apart.
const AWKWARD: [&str; 15] = [
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
    "a\r\n\r\nb \r\nc\t\n d\u{a0}\n\ne",
    "hide <mask> here<sep>and <mask>there, <mask<mask>> and <sep ><pad>",
    "<mask>\n<sep> \u{301}<mask>中<sep>\r\n",
];

/// Special tokens, one of which begins another.
const SPECIAL: [&str; 4] =
    [SpecialTokens::PADDING, SpecialTokens::MASK, SpecialTokens::SEPARATOR, "<mask>>"];

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
        write(&folder.join(kind.name()), &tokenizer, &texts)?;
        let special = tokenizer.with_special_tokens(&SPECIAL)?;
        write(&folder.join(format!("{kind}-special")), &special, &texts)?;
    }
    Ok(())
}

/// Writes the folder of one tokeniser.
fn write(
    folder: &Path,
    tokenizer: &Tokenizer,
    texts: &[String],
) -> Result<(), Box<dyn std::error::Error>> {
    fs_err::create_dir_all(folder)?;
    tokenizer.save(&folder.join("tokenizer.json"))?;
    for (number, text) in texts.iter().enumerate() {
        let file = |ending: &str| folder.join(format!("{number:02}.{ending}"));
        let Encoding { ids, offsets } = tokenizer.encode_with_offsets(text)?;
        let places: Vec<_> =
            offsets.iter().map(|place| (place.characters.start, place.characters.end)).collect();
        let marked = tokenizer.encode_with_special_tokens(text)?.ids;
        fs_err::write(file("txt"), text)?;
        fs_err::write(file("decoded"), tokenizer.decode(&marked)?)?;
        fs_err::write(file("ids"), serde_json::to_string(&ids)?)?;
        fs_err::write(file("places"), serde_json::to_string(&places)?)?;
        fs_err::write(file("marked"), serde_json::to_string(&marked)?)?;
    }
    Ok(())
}
