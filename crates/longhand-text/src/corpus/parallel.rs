//! Parallel text: line n of one file and line n of another one belong together, such as a
//! sentence and its translation.

use std::io::{BufRead, BufReader};
use std::path::Path;

use super::source::{Source, unwrap_error};
use crate::error::TextError;

/// The lines of two files with the same number of lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parallel {
    /// Line n of the sources and line n of the targets, without white space around them; at least
    /// one pair. Either may be empty.
    pub pairs: Vec<(String, String)>,
}

impl Parallel {
    /// Reads two files, compressed or not; `-` is the standard input.
    ///
    /// # Errors
    /// A file that is missing or not text; [`TextError::Unequal`] where one file has more lines;
    /// [`TextError::NoExamples`] for files without lines.
    pub fn read(sources: &Path, targets: &Path, lossy: bool) -> Result<Self, TextError> {
        Self::of(&Source::open(sources)?, &Source::open(targets)?, lossy)
    }

    /// Reads the bytes of two files, which have these names in messages.
    ///
    /// # Errors
    /// As [`Parallel::read`], apart from missing files.
    pub fn parse(
        (source_name, sources): (&str, Vec<u8>),
        (target_name, targets): (&str, Vec<u8>),
        lossy: bool,
    ) -> Result<Self, TextError> {
        let source = Source::memory(source_name, sources);
        Self::of(&source, &Source::memory(target_name, targets), lossy)
    }

    fn of(source: &Source, target: &Source, lossy: bool) -> Result<Self, TextError> {
        let lines =
            |source: &Source| Ok::<_, TextError>(BufReader::new(source.text(lossy)?).lines());
        let (mut sources, mut targets) = (lines(source)?, lines(target)?);
        let mut read = Self::default();
        for line in 1_u64.. {
            let next = [sources.next().transpose(), targets.next().transpose()];
            let [one, other] = next.map(|line| line.map_err(unwrap_error));
            let (longer, shorter) = match (one?, other?) {
                (None, None) => break,
                (Some(one), Some(other)) => {
                    read.pairs.push((one.trim().to_owned(), other.trim().to_owned()));
                    continue;
                }
                (Some(_), None) => (source, target),
                (None, Some(_)) => (target, source),
            };
            let (longer, shorter) = (longer.name().to_owned(), shorter.name().to_owned());
            return Err(TextError::Unequal { longer, shorter, line });
        }
        if read.pairs.is_empty() {
            return Err(TextError::NoExamples(source.name().to_owned()));
        }
        Ok(read)
    }
}

/// The lines of one file, each a text without white space around it. An empty line is an empty text.
///
/// # Errors
/// A file that is missing or not text.
pub fn read_lines(path: &Path, lossy: bool) -> Result<Vec<String>, TextError> {
    let lines = BufReader::new(Source::open(path)?.text(lossy)?).lines();
    let line = |line: std::io::Result<String>| match line {
        Ok(line) => Ok(line.trim().to_owned()),
        Err(error) => Err(unwrap_error(error)),
    };
    lines.map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(sources: &str, targets: &str) -> Result<Parallel, TextError> {
        let named = |name, text: &str| (name, text.as_bytes().to_vec());
        let ((a, sources), (b, targets)) = (named("a.de", sources), named("b.en", targets));
        Parallel::parse((a, sources), (b, targets), false)
    }

    #[test]
    fn lines_pair_by_their_numbers() {
        let read = parse("ein Haus\r\n\n zwei \ndrei", "a house\nnothing\ntwo\n \n").unwrap();
        let pairs = [("ein Haus", "a house"), ("", "nothing"), ("zwei", "two"), ("drei", "")];
        assert_eq!(read.pairs, pairs.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }

    #[test]
    fn the_first_line_without_a_partner_is_named() {
        let sentence = |a, b| parse(a, b).unwrap_err().to_string();
        assert_eq!(
            sentence("a\nb\nc\n", "a\nb\n"),
            "line 3 of a.de has no partner, as b.en has 2 line(s): give files of as many lines"
        );
        assert_eq!(
            sentence("", "a\n"),
            "line 1 of b.en has no partner, as a.de has 0 line(s): give files of as many lines"
        );
        assert!(sentence("", "").starts_with("a.de is empty"));
    }

    #[test]
    fn files_may_be_compressed() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("a.gz"), folder.path().join("b"));
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Default::default());
        std::io::Write::write_all(&mut encoder, b"x\ny\n").unwrap();
        fs_err::write(&one, encoder.finish().unwrap()).unwrap();
        fs_err::write(&other, "u\nv\n").unwrap();
        let read = Parallel::read(&one, &other, false).unwrap();
        assert_eq!(read.pairs, [("x".into(), "u".into()), ("y".into(), "v".into())]);
        assert_eq!(read_lines(&one, false).unwrap(), ["x", "y"]);
        assert!(Parallel::read(&one, &folder.path().join("c"), false).is_err());
    }
}
