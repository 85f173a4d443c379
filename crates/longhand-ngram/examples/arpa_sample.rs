//! Writes a folder that `scripts/check_arpa.py` reads: for each kind of tokeniser an n-gram model as
//! an ARPA file, and the words of a text, each with its log10 p after all before it by Longhand.
//!
//!     cargo run --example arpa_sample -- FOLDER
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use longhand_ngram::{ArpaWords, count};
use longhand_text::sample::{self, Language};
use longhand_text::{Corpus, Tokenizer, TokenizerKind, Tokens};

const ORDER: usize = 4;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from).ok_or("give the folder to write")?;
    fs_err::create_dir_all(&folder)?;
    let stories = |language, seed| -> String {
        let stories = sample::stories_in(language, seed, 20).into_iter();
        stories.map(|story| story.text + "\n").collect()
    };
    let [learnt, read] =
        [1, 2].map(|seed| stories(Language::English, seed) + &stories(Language::Chinese, seed));
    for kind in TokenizerKind::ALL {
        let texts = std::iter::once(Ok(learnt.clone()));
        let tokenizer = match kind {
            TokenizerKind::Byte => Tokenizer::byte()?,
            kind => Tokenizer::train(kind, None, texts, &mut |_| {})?,
        };
        let corpus = Corpus::from_text("the sample", learnt.clone());
        let tokens = Tokens::encode(&corpus, &tokenizer, &mut |_| {})?;
        let model = count(&tokens, ORDER, &folder, &AtomicBool::new(false))?;
        let words = ArpaWords::new(&tokenizer)?;
        let mut arpa = Vec::new();
        model.write_arpa(&words, &mut arpa)?;
        fs_err::write(folder.join(format!("{kind}.arpa")), arpa)?;
        let ids = tokenizer.encode(&read)?;
        let mut scores = String::new();
        for (at, &id) in ids.iter().enumerate() {
            let start = (at < ORDER).then(|| model.start());
            let context: Vec<u32> =
                start.into_iter().chain(ids[at.saturating_sub(ORDER)..at].to_vec()).collect();
            let nats = f64::from(model.log_probability(&context, id));
            writeln!(scores, "{} {}", words.word(id), nats / std::f64::consts::LN_10)?;
        }
        fs_err::write(folder.join(format!("{kind}.scores")), scores)?;
    }
    Ok(())
}
