//! A long sequence of ids, in memory or in a shard.

use std::path::Path;

use crate::shard::{Shard, ShardWriter};
use crate::{Corpus, TextError, Tokenizer};

/// Ids of a corpus with the places where its documents begin. Shared between threads as it is.
#[derive(Debug)]
pub struct Tokens {
    storage: Storage,
    documents: Vec<u64>,
    vocabulary: usize,
}

#[derive(Debug)]
enum Storage {
    Memory(Vec<u32>),
    Shard(Shard),
}

impl Tokens {
    /// Ids in memory; documents begin at the given places (0 is one of them, always).
    ///
    /// # Errors
    /// An id that is not below `vocabulary`, or places that do not rise or lie beyond the end.
    pub fn from_ids(
        ids: Vec<u32>,
        mut documents: Vec<u64>,
        vocabulary: usize,
    ) -> Result<Self, TextError> {
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocabulary) {
            return Err(TextError::TokenId { id, vocabulary });
        }
        if documents.first() != Some(&0) && !ids.is_empty() {
            documents.insert(0, 0);
        }
        let rising = documents.windows(2).all(|pair| pair[0] < pair[1]);
        if !rising || documents.last().is_some_and(|&last| last >= ids.len() as u64) {
            return Err(TextError::Setting {
                what: "a document's start",
                value: format!("{:?}", documents.last()),
                allowed: "rising and before the last token",
            });
        }
        Ok(Self { storage: Storage::Memory(ids), documents, vocabulary })
    }

    /// Ids in a shard.
    pub fn from_shard(shard: Shard) -> Self {
        let documents = shard.documents().to_vec();
        let vocabulary = shard.header().vocabulary;
        Self { storage: Storage::Shard(shard), documents, vocabulary }
    }

    /// Encodes a corpus into memory.
    ///
    /// # Errors
    /// Whatever reading and encoding report; [`TextError::TooShort`] below two tokens.
    pub fn encode(
        corpus: &Corpus,
        tokenizer: &Tokenizer,
        progress: &mut dyn FnMut(EncodeProgress),
    ) -> Result<Self, TextError> {
        let mut ids = Vec::new();
        let mut documents = Vec::new();
        encode_corpus(corpus, tokenizer, progress, &mut |starts_document, piece| {
            if starts_document {
                documents.push(ids.len() as u64);
            }
            ids.extend_from_slice(piece);
            Ok(())
        })?;
        if ids.len() < 2 {
            return Err(TextError::TooShort { tokens: ids.len() as u64 });
        }
        // A document may have come to no tokens at all (white space in the `word` kind).
        documents.dedup();
        while documents.last().is_some_and(|&last| last >= ids.len() as u64) {
            documents.pop();
        }
        Self::from_ids(ids, documents, tokenizer.vocab_size())
    }

    /// Encodes a corpus into a shard file, and opens it.
    ///
    /// # Errors
    /// As [`Tokens::encode`], and whatever writing reports.
    pub fn encode_to_shard(
        corpus: &Corpus,
        tokenizer: &Tokenizer,
        path: &Path,
        progress: &mut dyn FnMut(EncodeProgress),
    ) -> Result<Self, TextError> {
        let mut writer = ShardWriter::create(path, tokenizer)?;
        let mut pending_start = false;
        let source = encode_corpus(corpus, tokenizer, progress, &mut |starts_document, piece| {
            pending_start |= starts_document;
            if pending_start && !piece.is_empty() {
                writer.start_document();
                pending_start = false;
            }
            writer.push(piece)
        })?;
        if writer.len() < 2 {
            return Err(TextError::TooShort { tokens: writer.len() });
        }
        writer.finish(&source)?;
        Ok(Self::from_shard(Shard::open(path)?))
    }

    /// Number of tokens.
    pub fn len(&self) -> u64 {
        match &self.storage {
            Storage::Memory(ids) => ids.len() as u64,
            Storage::Shard(shard) => shard.len(),
        }
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of tokens in the vocabulary V; every id is below it.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Where documents begin, rising from 0.
    pub fn documents(&self) -> &[u64] {
        &self.documents
    }

    /// Copies the ids from `start` on into `ids`.
    ///
    /// # Errors
    /// A range beyond the end; a shard that cannot be read or holds an id beyond its vocabulary.
    pub fn copy(&self, start: u64, ids: &mut [u32]) -> Result<(), TextError> {
        match &self.storage {
            Storage::Memory(all) => {
                let end = start.saturating_add(ids.len() as u64);
                let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
                let found = range.and_then(|(start, end)| all.get(start..end));
                let found =
                    found.ok_or(TextError::TokenRange { start, end, tokens: self.len() })?;
                ids.copy_from_slice(found);
                Ok(())
            }
            Storage::Shard(shard) => shard.copy(start, ids),
        }
    }
}

/// Takes ids as they come; told whether a document begins with them.
pub type TokenSink<'a> = dyn FnMut(bool, &[u32]) -> Result<(), TextError> + 'a;

/// How far encoding a corpus has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeProgress {
    /// Bytes of text read so far.
    pub bytes: u64,
    /// Tokens made of them.
    pub tokens: u64,
}

/// Encodes a corpus piece by piece into a sink, which is told whether a document begins.
///
/// Where the tokeniser has a token for a document's end, it stands between two documents. Gives
/// the BLAKE3 hash, in hexadecimal, of the text with its document boundaries.
///
/// # Errors
/// Whatever reading, encoding and the sink report.
pub fn encode_corpus(
    corpus: &Corpus,
    tokenizer: &Tokenizer,
    progress: &mut dyn FnMut(EncodeProgress),
    sink: &mut TokenSink<'_>,
) -> Result<String, TextError> {
    let mut report = EncodeProgress { bytes: 0, tokens: 0 };
    let mut hasher = blake3::Hasher::new();
    for piece in corpus.pieces() {
        let piece = piece?;
        if piece.starts_document && report.bytes > 0 {
            // A byte that no text holds.
            hasher.update(&[0]);
            if let Some(end) = tokenizer.document_end_id() {
                sink(false, &[end])?;
                report.tokens += 1;
            }
        }
        hasher.update(piece.text.as_bytes());
        let ids = tokenizer.encode(&piece.text)?;
        sink(piece.starts_document, &ids)?;
        report.bytes += piece.text.len() as u64;
        report.tokens += ids.len() as u64;
        progress(report);
    }
    Ok(hasher.finalize().to_hex().to_string())
}
