//! ARPA files, the text format of n-gram models that other programs read and write (Doug Paul's, as
//! SRILM's `ngram-format(5)` describes it): log10 p, the words, log10 of the backoff.
//!
//! A token stands there as the vocabulary spells it. The start of a document is `<s>`; the token that
//! ends a document, or of the `word` kind a line, is `</s>`, and the unknown token `<unk>`. White space
//! within a token is written as `<U+0020>`.

use std::collections::HashMap;
use std::io::{self, BufRead, Write};

use longhand_text::Tokenizer;
use longhand_text::tokenizer::END;

use crate::error::NgramError;
use crate::key::Packing;
use crate::model::{Level, NEVER, Ngram};

/// The words of ARPA files that are no tokens' spellings.
const START_MARK: &str = "<s>";
const END_MARK: &str = "</s>";
const UNKNOWN_MARK: &str = "<unk>";
/// ln 10: an ARPA file has logarithms to the base 10.
const LN_10: f64 = std::f64::consts::LN_10;

/// How a vocabulary's tokens are written: the words of an ARPA file by id, and `<s>` behind them.
#[derive(Debug)]
pub struct ArpaWords {
    words: Vec<String>,
    ids: HashMap<String, u32>,
    has_end: bool,
}

impl ArpaWords {
    /// The words of a tokeniser.
    ///
    /// # Errors
    /// [`NgramError::SameWord`] if two tokens would be written alike.
    pub fn new(tokenizer: &Tokenizer) -> Result<Self, NgramError> {
        let end = tokenizer.document_end_id().or_else(|| tokenizer.id(END));
        let word = |id: u32| match id {
            id if Some(id) == end => END_MARK.into(),
            id if Some(id) == tokenizer.unknown_id() => UNKNOWN_MARK.into(),
            id => escaped(tokenizer.token(id).unwrap_or_default()),
        };
        let words: Vec<String> =
            (0..tokenizer.vocab_size() as u32).map(word).chain([START_MARK.into()]).collect();
        let mut ids = HashMap::with_capacity(words.len());
        for (id, word) in (0..).zip(&words) {
            if ids.insert(word.clone(), id).is_some() {
                return Err(NgramError::SameWord(word.clone()));
            }
        }
        Ok(Self { words, ids, has_end: end.is_some() })
    }

    /// The word of an id; empty for one that the vocabulary lacks.
    pub fn word(&self, id: u32) -> &str {
        self.words.get(id as usize).map_or("", String::as_str)
    }

    /// V: tokens of the vocabulary.
    fn vocabulary(&self) -> usize {
        self.words.len() - 1
    }
}

/// The words of an ARPA file in its order, without `<s>`, `</s>` and `<unk>`: a vocabulary for a file
/// whose own is not known.
///
/// # Errors
/// [`NgramError::Arpa`] for a file without 1-grams, or with a line among them that is none; the
/// errors of the reader.
pub fn arpa_vocabulary(input: impl BufRead) -> Result<Vec<String>, NgramError> {
    let mut lines = Lines { input, line: String::new(), number: 0 };
    while lines.next()? != "\\1-grams:" {}
    let mut words = Vec::new();
    loop {
        let line = lines.next()?;
        if line.starts_with('\\') {
            return Ok(words);
        }
        match line.split_ascii_whitespace().nth(1) {
            Some(START_MARK | END_MARK | UNKNOWN_MARK) => {}
            Some(word) => words.push(word.to_owned()),
            None => return Err(lines.wrong("a logarithm and a word belong here")),
        }
    }
}

/// A token without white space, which parts the words of a line.
fn escaped(token: &str) -> String {
    let mut word = String::with_capacity(token.len());
    for character in token.chars() {
        if character.is_whitespace() || character.is_control() {
            word += &format!("<U+{:04X}>", u32::from(character));
        } else {
            word.push(character);
        }
    }
    word
}

impl Ngram {
    /// Writes the model as an ARPA file. A vocabulary without a token for the end has `</s>` there,
    /// which other programs ask for, with probability 10^-99.
    ///
    /// # Errors
    /// The error of the writer.
    pub fn write_arpa(&self, words: &ArpaWords, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "\\data\\")?;
        let further = usize::from(!words.has_end);
        for (k, count) in self.counts().enumerate() {
            let count = if k == 0 { count + further } else { count };
            writeln!(out, "ngram {}={count}", k + 1)?;
        }
        for k in 0..self.order() {
            writeln!(out, "\n\\{}-grams:", k + 1)?;
            if k == 0 && further == 1 {
                writeln!(out, "-99\t{END_MARK}")?;
            }
            self.write_level(k, words, out)?;
        }
        writeln!(out, "\n\\end\\")
    }

    /// Writes the n-grams of k + 1 words.
    fn write_level(&self, k: usize, words: &ArpaWords, out: &mut impl Write) -> io::Result<()> {
        let level = &self.levels[k];
        // The n-grams of 1, 2, … words that the one at hand begins with; all only move forward.
        let mut path = vec![0; k + 1];
        for node in 0..level.len() {
            path[k] = node;
            for shorter in (0..k).rev() {
                let children = &self.levels[shorter].children;
                while children[path[shorter] + 1] as usize <= path[shorter + 1] {
                    path[shorter] += 1;
                }
            }
            write!(out, "{}", log10(level.log_probabilities[node]).min(0.0))?;
            for (depth, &node) in path.iter().enumerate() {
                let word = if depth == 0 { node } else { self.levels[depth].words[node] as usize };
                write!(out, "{}{}", if depth == 0 { '\t' } else { ' ' }, words.words[word])?;
            }
            match level.backoffs.get(node) {
                Some(&backoff) if backoff != 0.0 => writeln!(out, "\t{}", log10(backoff))?,
                _ => writeln!(out)?,
            }
        }
        Ok(())
    }

    /// Reads an ARPA file over the vocabulary of `words`. Tokens that it lacks are never predicted.
    ///
    /// # Errors
    /// [`NgramError::Arpa`] names the line and what is wrong with it; the errors of the reader.
    pub fn read_arpa(words: &ArpaWords, input: impl BufRead) -> Result<Self, NgramError> {
        Lines { input, line: String::new(), number: 0 }.model(words)
    }
}

/// From nats to the file's logarithm, as short as an `f32` can be written.
fn log10(nats: f32) -> f32 {
    (f64::from(nats) / LN_10) as f32
}

/// An ARPA file, line by line.
struct Lines<R> {
    input: R,
    line: String,
    number: u64,
}

/// One n-gram: its key, and its two logarithms in nats.
type Entry = (u128, f32, f32);

impl<R: BufRead> Lines<R> {
    /// Reads the whole file.
    fn model(&mut self, words: &ArpaWords) -> Result<Ngram, NgramError> {
        while self.next()? != "\\data\\" {}
        let mut counts = Vec::new();
        let mut line = self.next()?.to_owned();
        while let Some(count) = line.strip_prefix("ngram ") {
            let expected = format!("{}=", counts.len() + 1);
            let count = count.trim().strip_prefix(&expected).and_then(|n| n.trim().parse().ok());
            counts.push(count.ok_or_else(|| self.wrong("a count of n-grams belongs here"))?);
            line = self.next()?.to_owned();
        }
        let packing = Packing::new(words.vocabulary(), counts.len())?;
        let (vocabulary, levels, discounts) = (words.vocabulary(), Vec::new(), Vec::new());
        let mut model = Ngram { vocabulary, levels, discounts };
        for (k, &count) in counts.iter().enumerate() {
            if line != format!("\\{}-grams:", k + 1) {
                return Err(self.wrong(format!("the {}-grams belong here", k + 1)));
            }
            let entries = self.entries(words, packing, k + 1, count)?;
            line = self.next()?.to_owned();
            self.add(&mut model, packing, entries)?;
        }
        if line != "\\end\\" {
            return Err(self.wrong("\\end\\ belongs here"));
        }
        if let Some(highest) = model.levels.last_mut() {
            // They are no contexts.
            (highest.backoffs, highest.children) = (Vec::new(), Vec::new());
        }
        Ok(model)
    }

    /// The n-grams of k words, sorted.
    fn entries(
        &mut self,
        words: &ArpaWords,
        packing: Packing,
        k: usize,
        count: u64,
    ) -> Result<Vec<Entry>, NgramError> {
        let mut entries = Vec::new();
        for _ in 0..count {
            let line = self.next()?;
            entries.extend(parse(line, words, packing, k).map_err(|reason| self.wrong(reason))?);
        }
        entries.sort_unstable_by_key(|entry| entry.0);
        match entries.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            true => Err(self.wrong(format!("one of the {k}-grams above is there twice"))),
            false => Ok(entries),
        }
    }

    /// Adds the n-grams of the next length to a model.
    fn add(
        &self,
        model: &mut Ngram,
        packing: Packing,
        entries: Vec<Entry>,
    ) -> Result<(), NgramError> {
        let length = model.levels.len();
        let contexts = model.levels.last().map_or(0, Level::len);
        let (mut level, mut children) = (Level::default(), Vec::new());
        if length == 0 {
            level.log_probabilities = vec![NEVER; model.vocabulary + 1];
            level.backoffs = vec![0.0; model.vocabulary + 1];
        }
        let mut path = Vec::new();
        for (key, log_probability, backoff) in entries {
            let (context, word) = packing.split(key);
            if length == 0 {
                let start = word == model.start();
                level.log_probabilities[word as usize] =
                    if start { NEVER } else { log_probability };
                level.backoffs[word as usize] = backoff;
                continue;
            }
            packing.words(context, length, &mut path);
            let Some(node) = model.node(&path) else {
                let text = "an n-gram above begins with words that are no shorter n-gram";
                return Err(self.wrong(text));
            };
            if children.len() <= node {
                children.resize(node + 1, level.words.len() as u32);
            }
            level.words.push(word);
            level.log_probabilities.push(log_probability);
            level.backoffs.push(backoff);
        }
        if level.words.len() > u32::MAX as usize {
            return Err(NgramError::TooMany(length + 1));
        }
        children.resize(contexts + 1, level.words.len() as u32);
        if let Some(last) = model.levels.last_mut() {
            last.children = children;
        }
        model.levels.push(level);
        Ok(())
    }

    /// The next line that is not empty, without the white space around it.
    fn next(&mut self) -> Result<&str, NgramError> {
        loop {
            self.line.clear();
            self.number += 1;
            if self.input.read_line(&mut self.line)? == 0 {
                return Err(self.wrong("the file ends here, before its \\end\\"));
            }
            if !self.line.trim().is_empty() {
                return Ok(self.line.trim());
            }
        }
    }

    fn wrong(&self, reason: impl Into<String>) -> NgramError {
        NgramError::Arpa { line: self.number, reason: reason.into() }
    }
}

/// An n-gram of k words; none for the end mark of a vocabulary without one.
fn parse(
    line: &str,
    words: &ArpaWords,
    packing: Packing,
    k: usize,
) -> Result<Option<Entry>, String> {
    // Words have no ASCII white space; any other is a part of them.
    let mut fields = line.split_ascii_whitespace();
    let log_probability = nats(fields.next())?.filter(|&value| value <= 0.0);
    let log_probability = log_probability.ok_or("a logarithm that is at most 0 belongs first")?;
    let mut key = 0;
    for place in 0..k {
        let word = fields.next().ok_or_else(|| format!("{k} words belong here"))?;
        let id = match words.ids.get(word) {
            Some(&id) => id,
            None if k == 1 && word == END_MARK && !words.has_end => return Ok(None),
            None => return Err(format!("the word {word} is no token of the vocabulary")),
        };
        if id as usize == words.vocabulary() && place > 0 {
            return Err(format!("{START_MARK} stands behind another word"));
        }
        key = packing.append(key, id);
    }
    let backoff = nats(fields.next())?.unwrap_or(0.0);
    match fields.next() {
        Some(_) => Err(format!("there is more here than {k} words and two logarithms")),
        None => Ok(Some((key, log_probability, backoff))),
    }
}

/// A logarithm of the file in nats; none where there is no field.
fn nats(field: Option<&str>) -> Result<Option<f32>, String> {
    let Some(field) = field else { return Ok(None) };
    let value = field.parse::<f64>().ok().map(|log10| (log10 * LN_10) as f32);
    match value.filter(|value| value.is_finite()) {
        Some(value) => Ok(Some(value)),
        None => Err(format!("{field} is no logarithm")),
    }
}
