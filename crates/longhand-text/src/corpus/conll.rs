//! Columns of the CoNLL shared tasks: one token a line, a blank line after each sentence.
//!
//! - Cells are parted by tabs where the first token's line has one, else by runs of spaces and tabs.
//! - A line whose first cell is `-DOCSTART-` begins a document.
//! - `# global.columns = A B …` names the columns, as in CoNLL-U Plus.
//! - A line that begins with `#` is a comment, unless it has as many cells as the first token's line
//!   and no `=` in its third: `#` is a word too.

use std::fmt;
use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;
use std::str::FromStr;

use super::fault::LineFault;
use super::source::Source;
use crate::error::TextError;
use crate::quote::{listed, quoted};

/// A column of a CoNLL file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConllColumn {
    /// By its name in `# global.columns` or in the first line.
    Name(String),
    /// By its place: from 0 on the left, or from −1 on the right.
    Index(i64),
}

/// How a CoNLL file is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConllOptions {
    /// Whether the first line names the columns, unless `# global.columns` does (default: false).
    pub header: bool,
    /// Whether sentences may differ in their number of columns, as in files of semantic roles, which
    /// have a column for each predicate (default: false).
    pub varying: bool,
    /// Whether the first column numbers the tokens, as in CoNLL-U (default: false). A line of a
    /// multiword token, such as `3-4`, or of an empty node, such as `5.1`, is then no token.
    pub numbered: bool,
    /// Replace invalid UTF-8 by U+FFFD instead of stopping (default: false).
    pub lossy: bool,
}

/// A file of tokens in columns. It keeps every line, so that it can be written again.
#[derive(Clone, Debug)]
pub struct Conll {
    name: String,
    lines: Lines,
    tabs: bool,
    /// Names of the columns, if the file has any.
    names: Vec<String>,
    /// The line that names the columns.
    naming: Option<usize>,
    /// Cells in each line, or in the lines of the sentence that has the fewest.
    columns: usize,
    /// The line of each token.
    tokens: Vec<usize>,
    sentences: Vec<Sentence>,
}

/// The tokens between two blank lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// Its tokens, among all tokens of the file.
    pub tokens: Range<usize>,
    /// Its document: the number of `-DOCSTART-` lines before it.
    pub document: usize,
}

/// A text and the bytes of each line without its line break.
#[derive(Clone, Debug)]
struct Lines {
    text: String,
    ranges: Vec<Range<usize>>,
}

/// The first cell of a line between documents.
const DOCUMENT_START: &str = "-DOCSTART-";
/// The key of the comment that names the columns.
const COLUMNS_KEY: &str = "global.columns";
const SPACES: [char; 2] = [' ', '\t'];

impl Conll {
    /// Reads a file, or with `-` the standard input, compressed or not.
    ///
    /// # Errors
    /// A file that is missing, not text or without a token. [`LineFault::Ragged`] for a line with
    /// more or fewer cells than the first token's.
    pub fn read(path: &Path, options: ConllOptions) -> Result<Self, TextError> {
        Self::of(&Source::open(path)?, options)
    }

    /// Reads bytes as a file; `name` is for messages.
    ///
    /// # Errors
    /// As [`Conll::read`], apart from a missing file.
    pub fn parse(name: &str, bytes: Vec<u8>, options: ConllOptions) -> Result<Self, TextError> {
        Self::of(&Source::memory(name, bytes), options)
    }

    /// Reads a block of lines that may hold no token, such as comments alone.
    ///
    /// # Errors
    /// A line with more or fewer cells than the first token's; `first_line` is the number of the
    /// block's first line, from 1.
    pub fn block(
        name: &str,
        text: &str,
        first_line: u64,
        options: ConllOptions,
    ) -> Result<Self, TextError> {
        Self::of_text(name, text.to_owned(), options).map_err(|error| match error {
            TextError::Line { name, line, fault } => {
                TextError::Line { name, line: first_line + line - 1, fault }
            }
            error => error,
        })
    }

    /// The name of the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The names of the columns; empty where the file does not name them.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The text between two cells of a line.
    pub fn separator(&self) -> &'static str {
        if self.tabs { "\t" } else { " " }
    }

    /// The sentences; a file has at least one.
    pub fn sentences(&self) -> &[Sentence] {
        &self.sentences
    }

    /// Tokens of all sentences.
    pub fn tokens(&self) -> usize {
        self.tokens.len()
    }

    /// The place of a column, from 0.
    ///
    /// # Errors
    /// [`TextError::Column`] if the file has no such column.
    pub fn place(&self, column: &ConllColumn) -> Result<usize, TextError> {
        let place = match column {
            ConllColumn::Name(name) => self.names.iter().position(|own| own == name),
            ConllColumn::Index(index) => {
                let from_left = if *index < 0 { index + self.columns as i64 } else { *index };
                usize::try_from(from_left).ok().filter(|&place| place < self.columns)
            }
        };
        place.ok_or_else(|| TextError::Column {
            name: self.name.clone(),
            column: column.to_string(),
            found: match self.names.is_empty() {
                true => format!("numbered 0 to {}", self.columns.saturating_sub(1)),
                false => listed(self.names.iter().map(String::as_str)),
            },
        })
    }

    /// The cells of a column in a sentence, empty for a place that the file lacks.
    pub fn cells(&self, sentence: &Sentence, place: usize) -> impl Iterator<Item = &str> {
        let tokens = self.tokens.get(sentence.tokens.clone()).unwrap_or_default();
        tokens
            .iter()
            .map(move |&line| cells(self.lines.get(line), self.tabs).nth(place).unwrap_or_default())
    }

    /// The cells of a token's line, empty for a token that the file lacks.
    pub fn row(&self, token: usize) -> Vec<&str> {
        let line = self.tokens.get(token);
        line.map_or_else(Vec::new, |&line| cells(self.lines.get(line), self.tabs).collect())
    }

    /// The number of a token's line, from 1.
    pub fn line(&self, token: usize) -> u64 {
        self.tokens.get(token).map_or(0, |&line| line as u64 + 1)
    }

    /// Writes every line of the file, with one more column: `values` has one for each token, and `_`
    /// is written where it is too short. Where the file names its columns, the new one is `name`.
    ///
    /// # Errors
    /// Whatever error `out` reports while it is written.
    pub fn write_with<'a>(
        &self,
        name: &str,
        values: impl IntoIterator<Item = &'a str>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let mut values = values.into_iter();
        let mut tokens = self.tokens.iter().copied().peekable();
        let separator = self.separator();
        for number in 0..self.lines.ranges.len() {
            let (line, ending) = self.lines.with_ending(number);
            let is_token = tokens.next_if_eq(&number).is_some();
            let is_comment = self.naming == Some(number) && line.starts_with('#');
            if is_token || (self.naming == Some(number) && !is_comment) {
                let value = if is_token { values.next().unwrap_or("_") } else { name };
                let line = if self.tabs { line } else { line.trim_end_matches(SPACES) };
                write!(out, "{line}{separator}{value}{ending}")?;
            } else if is_comment {
                write!(out, "{} {name}{ending}", line.trim_end_matches(SPACES))?;
            } else {
                write!(out, "{line}{ending}")?;
            }
        }
        Ok(())
    }

    fn of(source: &Source, options: ConllOptions) -> Result<Self, TextError> {
        let mut text = String::new();
        let mut reader = source.text(options.lossy)?;
        while let Some(block) = reader.next_block()? {
            text.push_str(&block);
        }
        let file = Self::of_text(source.name(), text, options)?;
        if file.tokens.is_empty() { Err(TextError::NoExamples(file.name)) } else { Ok(file) }
    }

    fn of_text(name: &str, text: String, options: ConllOptions) -> Result<Self, TextError> {
        let lines = Lines::of(text);
        let first = (0..lines.ranges.len())
            .map(|number| lines.get(number))
            .find(|line| !is_blank(line) && !line.starts_with('#') && !is_document_start(line));
        // A file of nothing but `#`, which may be a word.
        let first = first.or_else(|| lines.text.lines().find(|line| line.starts_with('#')));
        let tabs = first.is_some_and(|line| line.contains('\t'));
        let columns = first.map_or(0, |line| cells(line, tabs).count());
        let mut file = Self {
            name: name.to_owned(),
            lines,
            tabs,
            names: Vec::new(),
            naming: None,
            columns,
            tokens: Vec::new(),
            sentences: Vec::new(),
        };
        file.find_sentences(options)?;
        Ok(file)
    }

    fn find_sentences(&mut self, options: ConllOptions) -> Result<(), TextError> {
        let ConllOptions { header, varying, numbered, .. } = options;
        let (mut start, mut document) = (0, 0);
        // Cells in the lines of the present sentence.
        let mut expected = self.columns;
        for number in 0..self.lines.ranges.len() {
            let line = self.lines.get(number);
            let document_start = is_document_start(line);
            if is_blank(line) || document_start {
                self.end_sentence(&mut start, document);
                document += usize::from(document_start);
                continue;
            }
            if self.is_comment(line) {
                if let Some(names) = column_names(line).filter(|_| self.naming.is_none()) {
                    self.names = names;
                    self.naming = Some(number);
                }
                continue;
            }
            if numbered && cells(line, self.tabs).next().is_some_and(is_no_word) {
                continue;
            }
            let found = cells(line, self.tabs).count();
            if varying && start == self.tokens.len() {
                expected = found;
                self.columns = self.columns.min(found);
            }
            if found != expected {
                let fault = LineFault::Ragged { found, expected };
                let (name, line) = (self.name.clone(), number as u64 + 1);
                return Err(TextError::Line { name, line, fault });
            }
            if header && self.naming.is_none() && self.tokens.is_empty() {
                self.names = cells(line, self.tabs).map(str::to_owned).collect();
                self.naming = Some(number);
                continue;
            }
            self.tokens.push(number);
        }
        self.end_sentence(&mut start, document);
        Ok(())
    }

    fn end_sentence(&mut self, start: &mut usize, document: usize) {
        let end = self.tokens.len();
        if *start < end {
            self.sentences.push(Sentence { tokens: *start..end, document });
            *start = end;
        }
    }

    fn is_comment(&self, line: &str) -> bool {
        let mut own = cells(line, self.tabs);
        line.starts_with('#')
            && (cells(line, self.tabs).count() != self.columns || own.nth(2) == Some("="))
    }
}

impl Lines {
    fn of(text: String) -> Self {
        let mut at = 0;
        let range = |line: &str| {
            let start = at;
            at += line.len();
            start..start + line.trim_end_matches(['\n', '\r']).len()
        };
        let ranges = text.split_inclusive('\n').map(range).collect();
        Self { text, ranges }
    }

    fn get(&self, number: usize) -> &str {
        &self.text[self.ranges[number].clone()]
    }

    /// A line and its line break, which the last line may lack.
    fn with_ending(&self, number: usize) -> (&str, &str) {
        let end = self.ranges.get(number + 1).map_or(self.text.len(), |next| next.start);
        (self.get(number), &self.text[self.ranges[number].end..end])
    }
}

impl fmt::Display for ConllColumn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => formatter.write_str(&quoted(name)),
            Self::Index(index) => write!(formatter, "{index}"),
        }
    }
}

impl FromStr for ConllColumn {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.parse().map_or_else(|_| Self::Name(text.to_owned()), Self::Index))
    }
}

/// The cells of a line. White space of other scripts belongs to a cell.
fn cells(line: &str, tabs: bool) -> impl Iterator<Item = &str> {
    // A run of separators is one, except between tabs, where a cell may be empty.
    let separators = if tabs { &SPACES[1..] } else { &SPACES[..] };
    line.split(separators).filter(move |cell| tabs || !cell.is_empty())
}

fn is_blank(line: &str) -> bool {
    line.trim_matches(SPACES).is_empty()
}

/// Whether a number of CoNLL-U is that of a multiword token or of an empty node.
fn is_no_word(number: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    number.split_once(['-', '.']).is_some_and(|(a, b)| is_number(a) && is_number(b))
}

fn is_document_start(line: &str) -> bool {
    line.split(SPACES).next() == Some(DOCUMENT_START)
}

/// The names in a comment `# global.columns = A B …`.
fn column_names(comment: &str) -> Option<Vec<String>> {
    let (key, names) = comment.strip_prefix('#')?.split_once('=')?;
    (key.trim() == COLUMNS_KEY).then(|| names.split_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    const ENGLISH: &str = "-DOCSTART- -X- O\n\n\
        EU NNP I-ORG\nrejects VBZ O\n\n\n  \n# # O\n1.8 CD O\n\n\
        -DOCSTART- -X- O\n\n# sent_id = 3\nPeter NNP I-PER";

    fn parse(text: &str, header: bool) -> Result<Conll, TextError> {
        Conll::parse(
            "it",
            text.as_bytes().to_vec(),
            ConllOptions { header, ..ConllOptions::default() },
        )
    }

    fn column(file: &Conll, column: &str) -> Vec<Vec<String>> {
        let place = file.place(&column.parse().unwrap()).unwrap();
        let of = |sentence| file.cells(sentence, place).map(str::to_owned).collect();
        file.sentences().iter().map(of).collect()
    }

    fn written(file: &Conll, name: &str, values: &[&str]) -> String {
        let mut out = Vec::new();
        file.write_with(name, values.iter().copied(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn sentences_and_documents_are_parted() {
        let file = parse(ENGLISH, false).unwrap();
        assert_eq!(column(&file, "0"), [vec!["EU", "rejects"], vec!["#", "1.8"], vec!["Peter"]]);
        assert_eq!(column(&file, "-1"), [vec!["I-ORG", "O"], vec!["O", "O"], vec!["I-PER"]]);
        assert_eq!(column(&file, "-3"), column(&file, "0"));
        let documents: Vec<usize> = file.sentences().iter().map(|s| s.document).collect();
        assert_eq!(documents, [1, 1, 2]);
        assert_eq!((file.tokens(), file.line(0), file.line(4)), (5, 3, 14));
    }

    #[test]
    fn sentences_may_differ_in_their_columns_and_some_lines_are_no_words() {
        let text = "1\tgo\tgo.01\tV\n1.1\thas\t\t\n2-3\tdon't\t\t\n\n1\tYes\t_\n";
        let options = ConllOptions { varying: true, numbered: true, ..ConllOptions::default() };
        let read = |options| Conll::parse("it", text.as_bytes().to_vec(), options);
        let file = read(options).unwrap();
        assert_eq!(column(&file, "1"), [["go"], ["Yes"]]);
        assert_eq!(column(&file, "2"), [["go.01"], ["_"]]);
        // The columns that every sentence has.
        assert!(file.place(&"3".parse().unwrap()).is_err());
        let out = written(&file, "role", &["V", "_"]);
        assert_eq!(out.lines().nth(1), Some("1.1\thas\t\t"));
        assert_eq!(out.lines().last(), Some("1\tYes\t_\t_"));
        assert_eq!(read(ConllOptions { numbered: false, ..options }).unwrap().tokens(), 4);
        let error = read(ConllOptions { varying: false, ..options }).unwrap_err().to_string();
        assert!(error.contains("line 5"), "{error}");
    }

    #[test]
    fn columns_have_names() {
        let plus = "# global.columns = ID FORM TAG\n# text = a b\n1\ta\tX\n2\tb c\t\n";
        let file = parse(plus, true).unwrap();
        assert_eq!(column(&file, "FORM"), [["a", "b c"]]);
        assert_eq!(column(&file, "TAG"), [["X", ""]]);
        let header = parse("word tag\na X\n\nb Y\n", true).unwrap();
        assert_eq!(column(&header, "tag"), [["X"], ["Y"]]);
        assert_eq!(header.names(), ["word", "tag"]);
        assert_eq!(header.row(1), ["b", "Y"]);
        let nameless = parse("word tag\na X\n", false).unwrap();
        assert_eq!(nameless.row(0), ["word", "tag"]);
        assert!(nameless.names().is_empty() && nameless.row(2).is_empty());
        let error = header.place(&"pos".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("it has no column \"pos\"") && error.contains("\"tag\""), "{error}");
        for outside in ["3", "-4", "9223372036854775807", "-9223372036854775808"] {
            let file = parse(ENGLISH, false).unwrap();
            let error = file.place(&outside.parse().unwrap()).unwrap_err().to_string();
            assert!(error.contains("numbered 0 to 2"), "{error}");
        }
    }

    #[test]
    fn a_ragged_line_is_named() {
        for (text, line, words) in [
            ("a b c\n\nd e\n", 3, "2 column(s), but the first token has 3"),
            ("a\tb\na\tb\tc\n", 2, "3 column(s), but the first token has 2"),
            ("a\tb\na b\n", 2, "1 column(s), but the first token has 2"),
            ("# c\n# c\na\n\nb c\n", 5, "2 column(s), but the first token has 1"),
        ] {
            let error = parse(text, false).unwrap_err().to_string();
            assert!(error.starts_with(&format!("it, line {line}: it has {words}")), "{error}");
        }
        for empty in ["", "\n\n", "-DOCSTART- O\n", "word tag\n"] {
            let error = parse(empty, true).unwrap_err();
            assert!(matches!(error, TextError::NoExamples(_)), "{empty:?}: {error}");
        }
    }

    #[test]
    fn a_predicted_column_is_added() {
        let file = parse(ENGLISH, false).unwrap();
        let expected = ENGLISH
            .replace("EU NNP I-ORG", "EU NNP I-ORG B-ORG")
            .replace("VBZ O", "VBZ O O")
            .replace("# # O", "# # O O")
            .replace("CD O", "CD O O")
            .replace("Peter NNP I-PER", "Peter NNP I-PER B-PER");
        assert_eq!(written(&file, "out", &["B-ORG", "O", "O", "O", "B-PER"]), expected);
        let windows = parse("# global.columns = A B\r\na\tX\r\n\r\nb\t\r\n", true).unwrap();
        let expected = "# global.columns = A B C\r\na\tX\t1\r\n\r\nb\t\t2\r\n";
        assert_eq!(written(&windows, "C", &["1", "2"]), expected);
        let header = parse("A B \na X  \n", true).unwrap();
        assert_eq!(written(&header, "C", &[]), "A B C\na X _\n");
    }

    #[test]
    fn a_block_may_hold_no_token() {
        let comment = Conll::block("it", "# text = a\n", 7, ConllOptions::default()).unwrap();
        assert_eq!((comment.sentences(), comment.tokens()), (&[][..], 0));
        assert_eq!(written(&comment, "x", &[]), "# text = a\n");
        let error =
            Conll::block("it", "a b\nc\n", 7, ConllOptions::default()).unwrap_err().to_string();
        assert!(error.starts_with("it, line 8:"), "{error}");
        assert!(
            Conll::block("it", "", 1, ConllOptions::default())
                .unwrap()
                .place(&ConllColumn::Index(0))
                .is_err()
        );
    }

    #[test]
    fn compressed_files_are_read() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(ENGLISH.as_bytes()).unwrap();
        let bytes = encoder.finish().unwrap();
        let file = Conll::parse("it", bytes, ConllOptions::default()).unwrap();
        assert_eq!(file.tokens(), 5);
    }

    #[test]
    fn chinese_white_space_is_a_token() {
        let file = parse("\u{3000} O\n中 B-LOC\n", false).unwrap();
        assert_eq!(column(&file, "0"), [["\u{3000}", "中"]]);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_as_one_more_column(
            // A first line that is no comment says what the columns are.
            text in "a[ \t]b\n([#a中=][ \t][#a=b](\r?\n|\n\n)|-DOCSTART- O\n|# a = b\n){0,12}",
            header in any::<bool>(),
        ) {
            if let Ok(file) = parse(&text, header) {
                let values = vec!["v"; file.tokens()];
                let again = parse(&written(&file, "v", &values), header).unwrap();
                prop_assert_eq!(again.sentences(), file.sentences());
                prop_assert_eq!(column(&again, "0"), column(&file, "0"));
                let expected: Vec<Vec<&str>> =
                    file.sentences().iter().map(|s| vec!["v"; s.tokens.len()]).collect();
                prop_assert_eq!(column(&again, "-1"), expected);
            }
        }
    }
}
