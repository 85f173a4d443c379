//! Word vectors as word2vec, fastText and GloVe write them in text: a word and its numbers a line.
//!
//! - The first line may be a header of two whole numbers: how many words there are, and the width
//!   of a vector.
//! - A word may have spaces in it, as a few of GloVe's have: the numbers are then the last ones of
//!   the line. Such a word is never wanted.
//! - The file is read once, line by line. Every line must have the right number of fields; numbers
//!   are read for wanted words alone, so that a large file costs little more than its lines.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader};
use std::path::Path;

use super::fault::VectorFault;
use super::source::{Source, TextReader, unwrap_error};
use crate::error::TextError;

/// A file of word vectors, of which the first line was read.
pub struct VectorFile {
    name: String,
    reader: BufReader<TextReader>,
    /// The line that was read last, without white space at its end.
    line: String,
    /// Its number, counted from 1.
    number: u64,
    width: usize,
}

/// The vectors of some words.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WordVectors {
    width: usize,
    found: BTreeMap<usize, Found>,
}

#[derive(Clone, Debug, PartialEq)]
struct Found {
    vector: Vec<f32>,
    /// Whether the file has the word as it is, and not in lower case alone.
    exact: bool,
}

/// The places of wanted words.
struct Wanted<'a> {
    exact: HashMap<&'a str, usize>,
    /// Words that are not in lower case, by their lower case.
    lower: HashMap<String, Vec<usize>>,
}

/// Between the fields of a line. Other white space may be part of a word.
const SPACES: [char; 2] = [' ', '\t'];

impl VectorFile {
    /// Opens a file, compressed or not, and reads its first line. With `lossy`, invalid UTF-8 is
    /// replaced instead of refused.
    ///
    /// # Errors
    /// A file that is missing or not text, [`TextError::NoVector`] for an empty one,
    /// [`TextError::Vector`] for a first line without numbers.
    pub fn open(path: &Path, lossy: bool) -> Result<Self, TextError> {
        Self::of(&Source::open(path)?, lossy)
    }

    /// Reads bytes as a file; `name` is for messages.
    ///
    /// # Errors
    /// As [`VectorFile::open`], apart from a missing file.
    pub fn parse(name: &str, bytes: Vec<u8>, lossy: bool) -> Result<Self, TextError> {
        Self::of(&Source::memory(name, bytes), lossy)
    }

    fn of(source: &Source, lossy: bool) -> Result<Self, TextError> {
        let (name, reader) = (source.name().to_owned(), BufReader::new(source.text(lossy)?));
        let mut file = Self { name, reader, line: String::new(), number: 0, width: 0 };
        if !file.advance()? {
            return Err(TextError::NoVector(file.name));
        }
        match header(&file.line) {
            Some(width) => {
                file.width = width;
                file.line.clear();
            }
            None => file.width = fields(&file.line).count().saturating_sub(1),
        }
        if file.width == 0 { Err(file.fault(VectorFault::NoNumbers)) } else { Ok(file) }
    }

    /// Numbers of a vector, at least 1.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Finds the vectors of words in the rest of the file: of each word as it is, or else of its
    /// lower case. Of several lines with one word the first counts.
    ///
    /// # Errors
    /// [`TextError::Vector`] for a line with more or fewer numbers than the first says, or a wanted
    /// word's number that is none; [`TextError::NoVector`] if no word is found; errors of reading.
    pub fn find<'a>(
        mut self,
        words: impl IntoIterator<Item = &'a str>,
    ) -> Result<WordVectors, TextError> {
        let wanted = Wanted::of(words);
        let mut vectors = WordVectors { width: self.width, found: BTreeMap::new() };
        // Without a header, the first line is a word's.
        while !self.line.is_empty() || self.advance()? {
            self.take(&wanted, &mut vectors).map_err(|fault| self.fault(fault))?;
            self.line.clear();
        }
        if vectors.found.is_empty() { Err(TextError::NoVector(self.name)) } else { Ok(vectors) }
    }

    /// Reads the next line that is not blank; false at the end.
    fn advance(&mut self) -> Result<bool, TextError> {
        loop {
            self.line.clear();
            if self.reader.read_line(&mut self.line).map_err(unwrap_error)? == 0 {
                return Ok(false);
            }
            self.number += 1;
            self.line.truncate(self.line.trim_end().len());
            if !self.line.is_empty() {
                return Ok(true);
            }
        }
    }

    /// Keeps the vector of the line, if its word is wanted.
    fn take(&self, wanted: &Wanted<'_>, vectors: &mut WordVectors) -> Result<(), VectorFault> {
        let (word, numbers) = self.line.split_once(SPACES).unwrap_or((&self.line, ""));
        let found = fields(numbers).count();
        if found > self.width && fields(numbers).next().is_some_and(|text| number(text).is_err()) {
            return Ok(());
        }
        if found != self.width {
            return Err(VectorFault::Ragged { found, expected: self.width });
        }
        let exact = wanted.exact.get(word).map(|&place| (place, true));
        let others = wanted.lower.get(word).into_iter().flatten().map(|&place| (place, false));
        for (place, exact) in exact.into_iter().chain(others) {
            if vectors.found.get(&place).is_none_or(|known| exact && !known.exact) {
                let vector = fields(numbers).map(number).collect::<Result<_, _>>()?;
                vectors.found.insert(place, Found { vector, exact });
            }
        }
        Ok(())
    }

    fn fault(&self, fault: VectorFault) -> TextError {
        TextError::Vector { name: self.name.clone(), line: self.number, fault }
    }
}

impl WordVectors {
    /// Numbers of a vector.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The number of words that were found, at least 1.
    pub fn found(&self) -> usize {
        self.found.len()
    }

    /// How many of them were found in lower case alone.
    pub fn found_in_lower_case(&self) -> usize {
        self.found.values().filter(|found| !found.exact).count()
    }

    /// The place of each word that was found, among those that were asked for, and its vector.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &[f32])> {
        self.found.iter().map(|(&place, found)| (place, found.vector.as_slice()))
    }
}

impl<'a> Wanted<'a> {
    fn of(words: impl IntoIterator<Item = &'a str>) -> Self {
        let mut wanted = Self { exact: HashMap::new(), lower: HashMap::new() };
        for (place, word) in words.into_iter().enumerate() {
            wanted.exact.insert(word, place);
            let lower = word.to_lowercase();
            if lower != word {
                wanted.lower.entry(lower).or_default().push(place);
            }
        }
        wanted
    }
}

/// The width of a vector where the line is a header.
fn header(line: &str) -> Option<usize> {
    let numbers = fields(line).take(3).map(|field| field.parse().ok());
    match numbers.collect::<Option<Vec<usize>>>()?[..] {
        [_, width] => Some(width),
        _ => None,
    }
}

fn fields(line: &str) -> impl Iterator<Item = &str> {
    line.split(SPACES).filter(|field| !field.is_empty())
}

fn number(field: &str) -> Result<f32, VectorFault> {
    let number = field.parse().ok().filter(|number: &f32| number.is_finite());
    number.ok_or_else(|| VectorFault::NotANumber(field.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &str, words: &[&str]) -> Result<WordVectors, TextError> {
        VectorFile::parse("v.txt", text.as_bytes().to_vec(), false)?.find(words.iter().copied())
    }

    fn rows(vectors: &WordVectors) -> Vec<(usize, Vec<f32>)> {
        vectors.iter().map(|(place, vector)| (place, vector.to_vec())).collect()
    }

    #[test]
    fn words_are_found_with_and_without_a_header() {
        let lines = "the 1 -2.5 3e-1\nof\t4 5 6 \n\nsea 7 8 9\r\nthe 0 0 0\n";
        let expected = [(0, vec![7.0, 8.0, 9.0]), (2, vec![1.0, -2.5, 0.3])];
        for text in [lines.to_owned(), format!("4 3\n{lines}")] {
            let vectors = find(&text, &["sea", "sky", "the"]).unwrap();
            assert_eq!(rows(&vectors), expected, "{text}");
            assert_eq!((vectors.width(), vectors.found()), (3, 2));
            assert_eq!(vectors.found_in_lower_case(), 0);
        }
        // A single line of a word is no header.
        assert_eq!(rows(&find("7 0.5", &["7"]).unwrap()), [(0, vec![0.5])]);
    }

    #[test]
    fn a_word_is_found_as_it_is_or_else_in_lower_case() {
        let words = ["The", "THE", "Sea", "ÉTÉ"];
        for text in ["sea 1\nthe 2\nThe 3\nété 4\n", "The 3\nété 4\nthe 2\nthe 9\nsea 1\n"] {
            let vectors = find(text, &words).unwrap();
            let values: Vec<f32> = vectors.iter().map(|(_, vector)| vector[0]).collect();
            assert_eq!(values, [3.0, 2.0, 1.0, 4.0], "{text}");
            assert_eq!(vectors.found_in_lower_case(), 3);
        }
    }

    #[test]
    fn a_word_with_spaces_is_passed_over() {
        let vectors = find("sea 1 2\n. . . 3 4\nat me@there 5 6\n. 7 8\n", &[".", "at"]).unwrap();
        assert_eq!(rows(&vectors), [(0, vec![7.0, 8.0])]);
    }

    #[test]
    fn a_compressed_file_is_read_and_a_binary_one_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v.vec.zst");
        fs_err::write(&path, zstd::encode_all(&b"1 2\nsea 1 2\n"[..], 1).unwrap()).unwrap();
        let file = VectorFile::open(&path, false).unwrap();
        assert_eq!(file.width(), 2);
        assert_eq!(file.find(["sea"]).unwrap().found(), 1);
        let binary = VectorFile::parse("v.bin", b"1 2\nsea \0\0\x80\x3f\n".to_vec(), false);
        assert!(binary.err().unwrap().to_string().contains("v.bin is a binary file"));
    }

    #[test]
    fn each_fault_names_its_line() {
        for (text, message) in [
            ("a 1 2\nsea 1\n", "v.txt, line 2: it has 1 number(s), but the first line says 2"),
            ("2 3\na 1 2 3\n\nsea 1 2 3 4\n", "v.txt, line 4: it has 4 number(s), but the first"),
            ("a 1 2\nsea 1 x\n", "v.txt, line 2: \"x\" is not a finite number"),
            ("a 1 2\nsea 1 inf\n", "v.txt, line 2: \"inf\" is not a finite number"),
            ("sea\n", "v.txt, line 1: it says that a vector has no numbers"),
            ("9 0\nsea\n", "v.txt, line 1: it says that a vector has no numbers"),
            ("sky 1\n", "v.txt has no vector of a word that is looked for"),
            ("\n", "v.txt has no vector of a word that is looked for"),
        ] {
            let error = find(text, &["sea"]).unwrap_err().to_string();
            assert!(error.contains(message), "{text:?}: {error}");
        }
    }
}
