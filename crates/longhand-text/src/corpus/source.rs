//! Where text lies, and its bytes as checked UTF-8.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::TextError;

/// A file, the standard input spooled into a temporary file, or bytes in memory.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    name: String,
    origin: Origin,
    /// Found in a folder: an empty one is passed over, where a named one is an error.
    in_folder: bool,
}

#[derive(Clone, Debug)]
enum Origin {
    File(PathBuf),
    Spooled(Arc<tempfile::TempPath>),
    Memory(Arc<[u8]>),
}

/// Bytes that can be sought, as Parquet needs.
pub(crate) enum SeekableBytes {
    File(std::fs::File),
    Memory(Arc<[u8]>),
}

impl Source {
    pub(crate) fn file(path: &Path) -> Result<Self, TextError> {
        if !path.exists() {
            return Err(TextError::Missing(path.to_owned()));
        }
        Ok(Self {
            name: path.display().to_string(),
            origin: Origin::File(path.to_owned()),
            in_folder: false,
        })
    }

    pub(crate) fn memory(name: &str, bytes: Vec<u8>) -> Self {
        Self { name: name.to_owned(), origin: Origin::Memory(bytes.into()), in_folder: false }
    }

    fn standard_input() -> Result<Self, TextError> {
        let mut file = tempfile::NamedTempFile::new()?;
        io::copy(&mut io::stdin().lock(), &mut file)?;
        Ok(Self {
            name: "the standard input".into(),
            origin: Origin::Spooled(Arc::new(file.into_temp_path())),
            in_folder: false,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn path(&self) -> Option<&Path> {
        match &self.origin {
            Origin::File(path) => Some(path),
            Origin::Spooled(_) | Origin::Memory(_) => None,
        }
    }

    pub(crate) fn may_be_empty(&self) -> bool {
        self.in_folder
    }

    /// The bytes, decompressed where they begin as gzip or Zstandard does.
    pub(crate) fn bytes(&self) -> Result<Box<dyn Read + Send>, TextError> {
        let raw: Box<dyn Read + Send> = match &self.origin {
            Origin::File(path) => Box::new(fs_err::File::open(path)?),
            Origin::Spooled(path) => Box::new(fs_err::File::open(&**path)?),
            Origin::Memory(bytes) => Box::new(io::Cursor::new(bytes.clone())),
        };
        let mut raw = BufReader::with_capacity(1 << 16, raw);
        let head = raw.fill_buf()?;
        if head.starts_with(&[0x1f, 0x8b]) {
            return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(raw)));
        }
        if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            let decoder = zstd::Decoder::with_buffer(raw).map_err(|error| {
                TextError::Compression { name: self.name.clone(), reason: error.to_string() }
            })?;
            return Ok(Box::new(decoder));
        }
        Ok(Box::new(raw))
    }

    /// The bytes as they lie.
    pub(crate) fn seekable(&self) -> Result<SeekableBytes, TextError> {
        Ok(match &self.origin {
            Origin::File(path) => SeekableBytes::File(fs_err::File::open(path)?.into_parts().0),
            Origin::Spooled(path) => {
                SeekableBytes::File(fs_err::File::open(&**path)?.into_parts().0)
            }
            Origin::Memory(bytes) => SeekableBytes::Memory(bytes.clone()),
        })
    }

    /// The text, checked as it is read.
    pub(crate) fn text(&self, lossy: bool) -> Result<TextReader, TextError> {
        let compressed = self.is_compressed()?;
        Ok(TextReader {
            name: self.name.clone(),
            bytes: self.bytes()?,
            compressed,
            lossy,
            pending: Vec::new(),
            offset: 0,
            ended: false,
            block: io::Cursor::new(String::new()),
        })
    }

    fn is_compressed(&self) -> Result<bool, TextError> {
        let mut head = [0; 4];
        let read = match &mut self.seekable()? {
            SeekableBytes::File(file) => {
                file.seek(SeekFrom::Start(0))?;
                read_up_to(file, &mut head)?
            }
            SeekableBytes::Memory(bytes) => read_up_to(&mut &bytes[..], &mut head)?,
        };
        let head = &head[..read];
        Ok(head.starts_with(&[0x1f, 0x8b]) || head == [0x28, 0xb5, 0x2f, 0xfd])
    }
}

/// Adds what a path given by the user stands for.
pub(crate) fn expand(path: &Path, sources: &mut Vec<Source>) -> Result<(), TextError> {
    if path == Path::new("-") {
        sources.push(Source::standard_input()?);
        return Ok(());
    }
    let source = Source::file(path)?;
    if !path.is_dir() {
        sources.push(source);
        return Ok(());
    }
    let before = sources.len();
    walk(path, 0, sources)?;
    if sources.len() == before {
        return Err(TextError::EmptyFolder(path.to_owned()));
    }
    Ok(())
}

/// Folders within folders that are followed; a symbolic link to a parent ends here.
const DEEPEST: usize = 32;

fn walk(folder: &Path, depth: usize, sources: &mut Vec<Source>) -> Result<(), TextError> {
    let mut entries = Vec::new();
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            entries.push(entry.path());
        }
    }
    entries.sort_unstable();
    for path in entries {
        if path.is_dir() {
            if depth < DEEPEST {
                walk(&path, depth + 1, sources)?;
            }
        } else {
            sources.push(Source { in_folder: true, ..Source::file(&path)? });
        }
    }
    Ok(())
}

/// Bytes read as UTF-8 text. As a [`Read`], it hands out checked bytes only, and its errors carry
/// a [`TextError`] that [`unwrap_error`] takes out again.
pub(crate) struct TextReader {
    name: String,
    bytes: Box<dyn Read + Send>,
    compressed: bool,
    lossy: bool,
    /// Bytes of a character that the last read cut in two.
    pending: Vec<u8>,
    /// Bytes before the pending ones.
    offset: u64,
    ended: bool,
    block: io::Cursor<String>,
}

/// Bytes read at once.
const BLOCK: usize = 1 << 18;

impl TextReader {
    /// The next stretch of text, or none at the end.
    pub(crate) fn next_block(&mut self) -> Result<Option<String>, TextError> {
        while !self.ended {
            let start = self.pending.len();
            self.pending.resize(start + BLOCK, 0);
            let read = read_up_to(&mut self.bytes, &mut self.pending[start..]);
            let read = read.map_err(|error| match self.compressed {
                true => {
                    TextError::Compression { name: self.name.clone(), reason: error.to_string() }
                }
                false => TextError::Io(error),
            })?;
            self.pending.truncate(start + read);
            self.ended = read < BLOCK;
            if let Some(zero) = self.pending.iter().position(|&byte| byte == 0) {
                return Err(TextError::Binary {
                    name: self.name.clone(),
                    offset: self.offset + zero as u64,
                });
            }
            let text = self.take_valid()?;
            if !text.is_empty() {
                return Ok(Some(text));
            }
        }
        Ok(None)
    }

    /// Takes the pending bytes as text, all but an unfinished character at the end of a block.
    fn take_valid(&mut self) -> Result<String, TextError> {
        let first = self.offset == 0;
        let mut text = String::with_capacity(self.pending.len());
        let mut rest = &self.pending[..];
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, invalid) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    rest = invalid;
                    if error.error_len().is_none() && !self.ended {
                        break;
                    }
                    if !self.lossy {
                        let taken = (self.pending.len() - rest.len()) as u64;
                        return Err(TextError::InvalidUtf8 {
                            name: self.name.clone(),
                            offset: self.offset + taken,
                        });
                    }
                    text.push('\u{fffd}');
                    rest = &rest[error.error_len().unwrap_or(rest.len())..];
                }
            }
        }
        let taken = self.pending.len() - rest.len();
        self.offset += taken as u64;
        self.pending.drain(..taken);
        // A byte order mark is no text.
        if first && text.starts_with('\u{feff}') {
            text.drain(..'\u{feff}'.len_utf8());
        }
        Ok(text)
    }
}

impl Read for TextReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = &self.block.get_ref().as_bytes()[self.block.position() as usize..];
        if left.is_empty() {
            match self.next_block() {
                Ok(Some(text)) => self.block = io::Cursor::new(text),
                Ok(None) => return Ok(0),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        let position = self.block.position() as usize;
        let left = &self.block.get_ref().as_bytes()[position..];
        let count = left.len().min(buffer.len());
        buffer[..count].copy_from_slice(&left[..count]);
        self.block.set_position((position + count) as u64);
        Ok(count)
    }
}

/// The [`TextError`] that a [`TextReader`] put into an I/O error, or the I/O error itself.
pub(crate) fn unwrap_error(error: io::Error) -> TextError {
    match error.downcast::<TextError>() {
        Ok(error) => error,
        Err(error) => TextError::Io(error),
    }
}

fn read_up_to(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
