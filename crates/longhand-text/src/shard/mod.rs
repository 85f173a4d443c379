//! Token shards: the ids of a corpus in one file that may exceed memory.
//!
//! Layout: the magic bytes, the length of the JSON header as `u32`, the header, zeros up to
//! [`DATA_OFFSET`]; then the tokens as `u16` (where the vocabulary fits) or `u32`; then the
//! documents' starts as `u64`. All little-endian.
//!
//! The file is read by position and not by a memory map. A map is `unsafe` for a reason: another
//! process that shortens the file turns a read into a crash. Reading by position gives an error
//! instead, goes through the same page cache, needs no alignment, and costs one system call for
//! each stretch of a stream, which is nothing beside a training step.

use std::io::{self, BufWriter, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use fs_err::File;
use serde::{Deserialize, Serialize};

use crate::error::TextError;
use crate::file;
use crate::tokenizer::Tokenizer;

pub(crate) mod fault;
#[cfg(test)]
mod tests;

pub use fault::{ShardFault, VERSION};

/// The first bytes of every shard.
pub const MAGIC: [u8; 8] = *b"LHTOKENS";
/// Where the tokens begin.
pub const DATA_OFFSET: u64 = 4096;

/// The number format of the tokens in a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenType {
    /// Two bytes for each token.
    U16,
    /// Four bytes for each token.
    U32,
}

impl TokenType {
    /// The smallest type for a vocabulary.
    pub fn for_vocabulary(vocabulary: usize) -> Self {
        if vocabulary <= 1 << 16 { Self::U16 } else { Self::U32 }
    }

    /// Bytes of a token.
    pub fn size(self) -> u64 {
        match self {
            Self::U16 => 2,
            Self::U32 => 4,
        }
    }
}

/// The header of a shard: what its content is, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardHeader {
    /// The version, [`VERSION`] in every shard that is read.
    pub version: u32,
    /// The format of the tokens.
    pub dtype: TokenType,
    /// The number of tokens.
    pub count: u64,
    /// The number of documents.
    pub documents: u64,
    /// Size of the vocabulary; every id is below it.
    pub vocabulary: usize,
    /// Hash of the tokeniser, [`Tokenizer::hash`].
    pub tokenizer: String,
    /// Hash of what the text follows from, [`crate::Corpus::hash`].
    pub source: String,
    /// Bytes of the text, decompressed.
    pub bytes: u64,
    /// Bytes of the text without the first token of each document, which nothing predicts.
    pub scored_bytes: u64,
    /// The BLAKE3 hash, in hexadecimal, of the tokens and the documents' starts as stored.
    pub blake3: String,
}

impl ShardHeader {
    /// Reads and checks the first [`DATA_OFFSET`] bytes of a shard of `file_length` bytes in all.
    ///
    /// # Errors
    /// A fault of the header, or a length that is not the file's.
    pub fn parse(head: &[u8], file_length: u64) -> Result<Self, ShardFault> {
        let head = head.get(..DATA_OFFSET as usize).ok_or(ShardFault::Short)?;
        let rest = head.strip_prefix(&MAGIC).ok_or(ShardFault::Magic)?;
        let (length, rest) = rest.split_first_chunk::<4>().ok_or(ShardFault::Short)?;
        let json = rest.get(..u32::from_le_bytes(*length) as usize);
        let json = json.ok_or(ShardFault::LongHeader)?;
        // The version first: another one has other keys.
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = serde_json::from_slice(json)?;
        if version != VERSION {
            return Err(ShardFault::Version(version));
        }
        let header: Self = serde_json::from_slice(json)?;
        if header.vocabulary == 0 || header.vocabulary as u64 > 1 << 32 {
            return Err(ShardFault::Vocabulary(header.vocabulary));
        }
        let (tokens, documents, expected) = (header.count, header.documents, header.length());
        if expected != Some(file_length) {
            return Err(ShardFault::Length { found: file_length, tokens, documents, expected });
        }
        if documents > tokens {
            return Err(ShardFault::Documents { documents, tokens });
        }
        Ok(header)
    }

    /// Bytes of the whole file, or none where that overflows.
    fn length(&self) -> Option<u64> {
        self.count
            .checked_mul(self.dtype.size())?
            .checked_add(self.documents.checked_mul(8)?)?
            .checked_add(DATA_OFFSET)
    }
}

/// A shard, open for reading from any thread.
#[derive(Debug)]
pub struct Shard {
    file: File,
    name: String,
    header: ShardHeader,
    documents: Vec<u64>,
}

impl Shard {
    /// Opens a shard and checks its header, its length and its documents' starts.
    ///
    /// # Errors
    /// [`TextError::Io`] if the file cannot be read, [`TextError::Shard`] if it is not a shard
    /// as [`ShardWriter`] writes it.
    pub fn open(path: &Path) -> Result<Self, TextError> {
        let name = path.display().to_string();
        let fail = |fault| TextError::Shard { name: name.clone(), fault };
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut head = vec![0; length.min(DATA_OFFSET) as usize];
        read_exact_at(&file, &mut head, 0)?;
        let header = ShardHeader::parse(&head, length).map_err(fail)?;
        // The length of the file has just vouched for this many bytes.
        let mut bytes = vec![0; header.documents as usize * 8];
        read_exact_at(&file, &mut bytes, DATA_OFFSET + header.count * header.dtype.size())?;
        let documents: Vec<u64> =
            bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
        check_documents(&documents, header.count).map_err(fail)?;
        Ok(Self { file, name, header, documents })
    }

    /// Reads the whole shard, and compares its content with the hash in its header.
    ///
    /// # Errors
    /// [`TextError::Io`] if the file cannot be read, [`TextError::Shard`] if its content is
    /// not what was written.
    pub fn verify(&self) -> Result<(), TextError> {
        let end = DATA_OFFSET + self.header.count * self.header.dtype.size();
        let end = end + self.header.documents * 8;
        let mut hasher = blake3::Hasher::new();
        let mut block = vec![0; 1 << 18];
        let mut at = DATA_OFFSET;
        while at < end {
            let size = (end - at).min(block.len() as u64) as usize;
            read_exact_at(&self.file, &mut block[..size], at)?;
            hasher.update(&block[..size]);
            at += size as u64;
        }
        if hasher.finalize().to_hex().as_str() == self.header.blake3 {
            return Ok(());
        }
        Err(TextError::Shard { name: self.name.clone(), fault: ShardFault::Damaged })
    }

    /// The header of the file.
    pub fn header(&self) -> &ShardHeader {
        &self.header
    }

    /// Where documents begin, rising from 0.
    pub fn documents(&self) -> &[u64] {
        &self.documents
    }

    /// The number of tokens.
    pub fn len(&self) -> u64 {
        self.header.count
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.header.count == 0
    }

    /// Copies the ids from `start` on into `ids`.
    ///
    /// # Errors
    /// [`TextError::TokenRange`] for a range beyond the end, [`TextError::Io`] if a read fails,
    /// [`TextError::Shard`] for an id beyond the vocabulary.
    pub fn copy(&self, start: u64, ids: &mut [u32]) -> Result<(), TextError> {
        let end = start.saturating_add(ids.len() as u64);
        if end > self.header.count {
            return Err(TextError::TokenRange { start, end, tokens: self.header.count });
        }
        let size = self.header.dtype.size();
        let mut offset = DATA_OFFSET + start * size;
        let mut block = [0; BLOCK];
        for ids in ids.chunks_mut(BLOCK / size as usize) {
            let bytes = &mut block[..ids.len() * size as usize];
            read_exact_at(&self.file, bytes, offset)?;
            offset += bytes.len() as u64;
            match self.header.dtype {
                TokenType::U16 => {
                    for (id, bytes) in ids.iter_mut().zip(bytes.as_chunks::<2>().0) {
                        *id = u32::from(u16::from_le_bytes(*bytes));
                    }
                }
                TokenType::U32 => {
                    for (id, bytes) in ids.iter_mut().zip(bytes.as_chunks::<4>().0) {
                        *id = u32::from_le_bytes(*bytes);
                    }
                }
            }
            if let Some(&id) = ids.iter().find(|&&id| id as usize >= self.header.vocabulary) {
                let fault = ShardFault::Id { id, vocabulary: self.header.vocabulary };
                return Err(TextError::Shard { name: self.name.clone(), fault });
            }
        }
        Ok(())
    }
}

/// Writes a shard as its tokens come; its path has no file before [`ShardWriter::finish`].
pub struct ShardWriter {
    path: PathBuf,
    file: BufWriter<tempfile::NamedTempFile>,
    header: ShardHeader,
    documents: Vec<u64>,
    hasher: blake3::Hasher,
    /// Scratch: ids as they are stored.
    stored: Vec<u8>,
}

impl ShardWriter {
    /// Begins a shard of a tokeniser's ids.
    ///
    /// # Errors
    /// [`TextError::Io`] if the file cannot be created.
    pub fn create(path: &Path, tokenizer: &Tokenizer) -> Result<Self, TextError> {
        let mut file = BufWriter::with_capacity(1 << 16, file::beside(path)?);
        file.write_all(&[0; DATA_OFFSET as usize])?;
        let vocabulary = tokenizer.vocab_size();
        let header = ShardHeader {
            version: VERSION,
            dtype: TokenType::for_vocabulary(vocabulary),
            count: 0,
            documents: 0,
            vocabulary,
            tokenizer: tokenizer.hash().to_owned(),
            source: String::new(),
            bytes: 0,
            scored_bytes: 0,
            blake3: String::new(),
        };
        let (documents, hasher, stored) = (Vec::new(), blake3::Hasher::new(), Vec::new());
        Ok(Self { path: path.to_owned(), file, header, documents, hasher, stored })
    }

    /// Tokens written so far.
    pub fn len(&self) -> u64 {
        self.header.count
    }

    /// Whether no token has been written.
    pub fn is_empty(&self) -> bool {
        self.header.count == 0
    }

    /// The next token begins a document.
    pub fn start_document(&mut self) {
        if self.documents.last() != Some(&self.header.count) {
            self.documents.push(self.header.count);
        }
    }

    /// Appends tokens to the shard.
    ///
    /// # Errors
    /// [`TextError::TokenId`] for an id beyond the vocabulary, [`TextError::Io`] if the
    /// file cannot be written.
    pub fn push(&mut self, ids: &[u32]) -> Result<(), TextError> {
        self.stored.clear();
        for &id in ids {
            if id as usize >= self.header.vocabulary {
                return Err(TextError::TokenId { id, vocabulary: self.header.vocabulary });
            }
            match self.header.dtype {
                TokenType::U16 => self.stored.extend((id as u16).to_le_bytes()),
                TokenType::U32 => self.stored.extend(id.to_le_bytes()),
            }
        }
        self.hasher.update(&self.stored);
        self.file.write_all(&self.stored)?;
        self.header.count += ids.len() as u64;
        Ok(())
    }

    /// Ends the shard with the facts of its text, see [`ShardHeader`], and gives the
    /// file its final name.
    ///
    /// # Errors
    /// [`TextError::Io`] if the file cannot be written.
    pub fn finish(mut self, source: &str, bytes: u64, scored_bytes: u64) -> Result<(), TextError> {
        self.documents.retain(|&start| start < self.header.count);
        if self.header.count > 0 && self.documents.first() != Some(&0) {
            self.documents.insert(0, 0);
        }
        for start in &self.documents {
            self.hasher.update(&start.to_le_bytes());
            self.file.write_all(&start.to_le_bytes())?;
        }
        self.header.documents = self.documents.len() as u64;
        self.header.source = source.to_owned();
        self.header.bytes = bytes;
        self.header.scored_bytes = scored_bytes;
        self.header.blake3 = self.hasher.finalize().to_hex().to_string();
        let json = serde_json::to_vec(&self.header).map_err(io::Error::other)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&MAGIC)?;
        self.file.write_all(&(json.len() as u32).to_le_bytes())?;
        self.file.write_all(&json)?;
        let file = self.file.into_inner().map_err(|error| error.into_error())?;
        file::put(file, &self.path)
    }
}

/// Checks a whole shard given as bytes, every id and the hash included, and gives its header.
///
/// # Errors
/// As [`Shard::open`], [`Shard::copy`] and [`Shard::verify`].
pub fn validate(bytes: &[u8]) -> Result<ShardHeader, TextError> {
    checked(bytes).map_err(|fault| TextError::Shard { name: "the shard".into(), fault })
}

/// The hash of a shard's content: its tokens and its documents' starts as stored.
pub fn content_hash(content: &[u8]) -> String {
    blake3::hash(content).to_hex().to_string()
}

fn checked(bytes: &[u8]) -> Result<ShardHeader, ShardFault> {
    let header = ShardHeader::parse(bytes, bytes.len() as u64)?;
    let data = &bytes[DATA_OFFSET as usize..];
    let (tokens, documents) = data.split_at((header.count * header.dtype.size()) as usize);
    let documents: Vec<u64> =
        documents.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
    check_documents(&documents, header.count)?;
    let beyond = |id: &u32| *id as usize >= header.vocabulary;
    let wrong = match header.dtype {
        TokenType::U16 => {
            let mut ids = tokens.as_chunks::<2>().0.iter().map(|id| u16::from_le_bytes(*id).into());
            ids.find(beyond)
        }
        TokenType::U32 => {
            tokens.as_chunks::<4>().0.iter().map(|id| u32::from_le_bytes(*id)).find(beyond)
        }
    };
    if let Some(id) = wrong {
        return Err(ShardFault::Id { id, vocabulary: header.vocabulary });
    }
    if content_hash(data) != header.blake3 {
        return Err(ShardFault::Damaged);
    }
    Ok(header)
}

/// Bytes read at once; they live on the stack.
const BLOCK: usize = 8192;

fn check_documents(documents: &[u64], count: u64) -> Result<(), ShardFault> {
    let first = documents.first().copied();
    if first.is_none() != (count == 0) || first.is_some_and(|first| first != 0) {
        return Err(ShardFault::Starts("its first document does not start at its first token"));
    }
    if documents.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err(ShardFault::Starts("its documents' starts do not rise"));
    }
    if documents.last().is_some_and(|&last| last >= count) {
        return Err(ShardFault::Starts("a document starts beyond its last token"));
    }
    Ok(())
}

/// Fills `buffer` with a file's bytes from `offset` on, without moving the file's own position.
///
/// # Errors
/// If the file cannot be read or ends before the buffer is full; the message names the file.
pub fn read_exact_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match read_at(file, buffer, offset) {
            Ok(0) => {
                let name = file.path().display();
                let reason = format!("{name} ends before byte {offset}: it has been shortened");
                return Err(io::Error::new(ErrorKind::UnexpectedEof, reason));
            }
            Ok(read) => {
                buffer = &mut buffer[read..];
                offset += read as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    fs_err::os::unix::fs::FileExt::read_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    fs_err::os::windows::fs::FileExt::seek_read(file, buffer, offset)
}
