//! Trains a `bpe` tokeniser on a text and encodes the text, on a number of threads; prints seconds,
//! tokens and peak memory.
//!
//!     cargo run --release --example tokenize_speed -- TEXT [THREADS]
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

use longhand_text::tokenizer::TrainingSettings;
use longhand_text::{Corpus, CorpusOptions, Tokenizer, TokenizerKind};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path: PathBuf = arguments.next().ok_or("give a text")?.into();
    let threads: Option<NonZeroUsize> = arguments.next().map(|n| n.parse()).transpose()?;
    let corpus = Corpus::open(&[path], CorpusOptions::default())?;
    let settings = TrainingSettings { kind: TokenizerKind::Bpe, vocabulary: None, threads };
    let began = Instant::now();
    let tokenizer = Tokenizer::train_with(settings, corpus.texts(), &mut |_| {})?;
    let trained = began.elapsed().as_secs_f64();
    let began = Instant::now();
    let mut tokens = 0;
    for text in corpus.texts() {
        tokens += tokenizer.encode(&text?)?.len();
    }
    let encoded = began.elapsed().as_secs_f64();
    let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    let line = format!("train {trained:.2} s, encode {encoded:.2} s, {tokens} tokens, {peak}\n");
    std::io::Write::write_all(&mut std::io::stdout(), line.as_bytes())?;
    Ok(())
}
