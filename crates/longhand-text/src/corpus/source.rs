//! Files, streams and bytes in memory, and their bytes as checked text.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::TableFormat;
use crate::error::TextError;
use crate::utf8::Utf8Decoder;

/// A file, a stream spooled into a temporary file, or bytes in memory.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    name: String,
    origin: Origin,
    /// The table that the name tells; none for plain text.
    format: Option<TableFormat>,
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

/// The bytes of a source, decompressed.
pub(crate) struct Bytes {
    pub(crate) reader: Box<dyn Read + Send>,
    /// Whether they were compressed, so that their errors are the decompressor's.
    pub(crate) compressed: bool,
}

impl Source {
    /// A file, or `-` for the standard input. What is no regular file, such as a pipe, is read at
    /// once into a temporary file.
    pub(crate) fn open(path: &Path) -> Result<Self, TextError> {
        if path == Path::new("-") {
            let name = "the standard input";
            let origin = spooled(name, &mut io::stdin().lock())?;
            return Ok(Self { name: name.into(), origin, format: None, in_folder: false });
        }
        let kind = match fs_err::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(TextError::Missing(path.to_owned()));
            }
            metadata => metadata?.file_type(),
        };
        if kind.is_dir() {
            return Err(TextError::Folder(path.to_owned()));
        }
        let (name, format) = (path.display().to_string(), TableFormat::of_path(path));
        let origin = if kind.is_file() {
            Origin::File(path.to_owned())
        } else {
            spooled(&name, &mut fs_err::File::open(path)?)?
        };
        Ok(Self { name, origin, format, in_folder: false })
    }

    pub(crate) fn memory(name: &str, bytes: Vec<u8>) -> Self {
        let origin = Origin::Memory(bytes.into());
        Self { name: name.to_owned(), origin, format: None, in_folder: false }
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

    pub(crate) fn format(&self) -> Option<TableFormat> {
        self.format
    }

    pub(crate) fn may_be_empty(&self) -> bool {
        self.in_folder
    }

    /// The bytes as they are stored.
    fn stored(&self) -> Result<Box<dyn Read + Send>, TextError> {
        Ok(match &self.origin {
            Origin::File(path) => Box::new(fs_err::File::open(path)?),
            Origin::Spooled(path) => Box::new(fs_err::File::open(&**path)?),
            Origin::Memory(bytes) => Box::new(io::Cursor::new(bytes.clone())),
        })
    }

    /// Takes the stored bytes into a hash.
    pub(crate) fn hash_into(&self, hasher: &mut blake3::Hasher) -> Result<(), TextError> {
        let mut bytes = self.stored()?;
        let mut block = vec![0; BLOCK];
        loop {
            match read_up_to(&mut bytes, &mut block)? {
                0 => return Ok(()),
                read => hasher.update(&block[..read]),
            };
        }
    }

    /// The bytes, decompressed where they begin as gzip or Zstandard does.
    pub(crate) fn bytes(&self) -> Result<Bytes, TextError> {
        let mut stored = BufReader::with_capacity(1 << 16, self.stored()?);
        let head = stored.fill_buf()?;
        if head.starts_with(&[0x1f, 0x8b]) {
            let reader = Box::new(flate2::bufread::MultiGzDecoder::new(stored));
            return Ok(Bytes { reader, compressed: true });
        }
        // A Zstandard frame, or one that is to be skipped, as `pzstd` writes before each.
        let skipped = matches!(head, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]);
        if skipped || head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            let decoder = zstd::Decoder::with_buffer(stored).map_err(|error| {
                TextError::Compression { name: self.name.clone(), reason: error.to_string() }
            })?;
            return Ok(Bytes { reader: Box::new(decoder), compressed: true });
        }
        Ok(Bytes { reader: Box::new(stored), compressed: false })
    }

    /// The stored bytes, to be read in any order.
    pub(crate) fn seekable(&self) -> Result<SeekableBytes, TextError> {
        // Parquet's reader takes a plain file, and what it reports is told with the name.
        let open = |path: &Path| Ok(SeekableBytes::File(fs_err::File::open(path)?.into_parts().0));
        match &self.origin {
            Origin::File(path) => open(path),
            Origin::Spooled(path) => open(path),
            Origin::Memory(bytes) => Ok(SeekableBytes::Memory(bytes.clone())),
        }
    }

    /// The text, checked as it is read.
    pub(crate) fn text(&self, lossy: bool) -> Result<TextReader, TextError> {
        Ok(TextReader {
            name: self.name.clone(),
            bytes: self.bytes()?,
            decoder: Utf8Decoder::new(self.name.clone(), lossy),
            ended: false,
            block: io::Cursor::new(String::new()),
        })
    }
}

/// The bytes of a file, decompressed where they begin as gzip or Zstandard does.
///
/// # Errors
/// [`TextError::Missing`], [`TextError::Folder`] or [`TextError::Io`] for a file that cannot be opened,
/// [`TextError::Compression`] for one that only begins as a compressed one.
pub fn open_bytes(path: &Path) -> Result<Box<dyn Read + Send>, TextError> {
    Ok(Source::open(path)?.bytes()?.reader)
}

/// Reads a stream to its end, into a file that is gone when the program ends.
fn spooled(name: &str, stream: &mut impl Read) -> Result<Origin, TextError> {
    let mut file = tempfile::NamedTempFile::new()?;
    io::copy(stream, &mut file).map_err(|error| {
        io::Error::new(error.kind(), format!("failed to read {name} to its end: {error}"))
    })?;
    Ok(Origin::Spooled(Arc::new(file.into_temp_path())))
}

/// Adds the files of a path given by the user.
pub(crate) fn expand(path: &Path, sources: &mut Vec<Source>) -> Result<(), TextError> {
    if !path.is_dir() {
        sources.push(Source::open(path)?);
        return Ok(());
    }
    let before = sources.len();
    walk(path, &mut HashSet::new(), sources)?;
    if sources.len() == before {
        return Err(TextError::EmptyFolder(path.to_owned()));
    }
    Ok(())
}

/// Adds the files of a folder that has not been walked before: symbolic links may lead back to it.
fn walk(
    folder: &Path,
    walked: &mut HashSet<PathBuf>,
    sources: &mut Vec<Source>,
) -> Result<(), TextError> {
    if !walked.insert(fs_err::canonicalize(folder)?) {
        return Ok(());
    }
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
            walk(&path, walked, sources)?;
        } else if path.is_file() || !path.exists() {
            sources.push(Source { in_folder: true, ..Source::open(&path)? });
        }
    }
    Ok(())
}

/// Bytes read as UTF-8 text. As a [`Read`], it hands out checked bytes only, and its errors carry
/// a [`TextError`] that [`unwrap_error`] takes out again.
pub(crate) struct TextReader {
    name: String,
    bytes: Bytes,
    decoder: Utf8Decoder,
    ended: bool,
    block: io::Cursor<String>,
}

/// Bytes read at once.
const BLOCK: usize = 1 << 18;

impl TextReader {
    /// The next stretch of text, or none at the end.
    pub(crate) fn next_block(&mut self) -> Result<Option<String>, TextError> {
        let mut block = vec![0; BLOCK];
        while !self.ended {
            let read = read_up_to(&mut self.bytes.reader, &mut block);
            let read = read.map_err(|error| match self.bytes.compressed {
                true => {
                    TextError::Compression { name: self.name.clone(), reason: error.to_string() }
                }
                false => TextError::Io(error),
            })?;
            self.ended = read < BLOCK;
            let mut text = self.decoder.push(&block[..read])?;
            if self.ended {
                text += &self.decoder.finish()?;
            }
            if !text.is_empty() {
                return Ok(Some(text));
            }
        }
        Ok(None)
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
