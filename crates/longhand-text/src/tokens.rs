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
    /// Where the tokeniser has a token for a document's end, it stands between two documents.
    ///
    /// # Errors
    /// Whatever reading and encoding report; [`TextError::TooShort`] below two tokens.
    pub fn encode(
        corpus: &Corpus,
        tokenizer: &Tokenizer,
        progress: &mut dyn FnMut(EncodeProgress),
    ) -> Result<Self, TextError> {
        Encoding::new(tokenizer, None).run(corpus, progress)
    }

    /// Encodes a corpus into memory, or into a shard once its ids are too many. A shard that is
    /// there already, of the same text and tokeniser, is used as it is.
    ///
    /// # Errors
    /// As [`Tokens::encode`], and whatever writing reports.
    pub fn encode_or_spill(
        corpus: &Corpus,
        tokenizer: &Tokenizer,
        spill: Spill<'_>,
        progress: &mut dyn FnMut(EncodeProgress),
    ) -> Result<Self, TextError> {
        // One that cannot be read is no loss: it is made anew.
        if let Ok(shard) = Shard::open(spill.shard)
            && shard.header().tokenizer == tokenizer.hash()
            && shard.header().source == corpus.hash()?
        {
            progress(EncodeProgress { bytes: shard.header().bytes, tokens: shard.len() });
            return Ok(Self::from_shard(shard));
        }
        Encoding::new(tokenizer, Some(spill)).run(corpus, progress)
    }

    /// The shard that the ids lie in; none where they lie in memory.
    pub fn shard(&self) -> Option<&Shard> {
        match &self.storage {
            Storage::Memory(_) => None,
            Storage::Shard(shard) => Some(shard),
        }
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

/// Where ids go that are too many for memory.
#[derive(Clone, Copy, Debug)]
pub struct Spill<'a> {
    /// The shard's file; its folder is made where it is missing.
    pub shard: &'a Path,
    /// The most ids that are kept in memory, four bytes each.
    pub most_in_memory: usize,
}

/// How far encoding a corpus has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncodeProgress {
    /// Bytes of text read so far.
    pub bytes: u64,
    /// Tokens made of them.
    pub tokens: u64,
}

/// A corpus on its way to ids.
struct Encoding<'a> {
    tokenizer: &'a Tokenizer,
    spill: Option<Spill<'a>>,
    /// The ids, until there are too many.
    ids: Vec<u32>,
    documents: Vec<u64>,
    writer: Option<ShardWriter>,
    /// Whether the next id begins a document. One may come to no ids at all (white space in the
    /// `word` kind).
    starts_document: bool,
}

impl<'a> Encoding<'a> {
    fn new(tokenizer: &'a Tokenizer, spill: Option<Spill<'a>>) -> Self {
        let (ids, documents) = (Vec::new(), Vec::new());
        Self { tokenizer, spill, ids, documents, writer: None, starts_document: false }
    }

    fn run(
        mut self,
        corpus: &Corpus,
        progress: &mut dyn FnMut(EncodeProgress),
    ) -> Result<Tokens, TextError> {
        let mut report = EncodeProgress::default();
        for piece in corpus.pieces() {
            let piece = piece?;
            if piece.starts_document && report.bytes > 0 {
                let end = self.tokenizer.document_end_id();
                self.take(end.as_slice())?;
            }
            self.starts_document |= piece.starts_document;
            self.take(&self.tokenizer.encode(&piece.text)?)?;
            report.bytes += piece.text.len() as u64;
            report.tokens = self.len();
            progress(report);
        }
        let tokens = self.len();
        if tokens < 2 {
            return Err(TextError::TooShort { tokens });
        }
        let (Some(writer), Some(spill)) = (self.writer, self.spill) else {
            return Tokens::from_ids(self.ids, self.documents, self.tokenizer.vocab_size());
        };
        writer.finish(&corpus.hash()?, report.bytes)?;
        Ok(Tokens::from_shard(Shard::open(spill.shard)?))
    }

    fn len(&self) -> u64 {
        self.writer.as_ref().map_or(self.ids.len() as u64, ShardWriter::len)
    }

    fn take(&mut self, ids: &[u32]) -> Result<(), TextError> {
        if ids.is_empty() {
            return Ok(());
        }
        if self.writer.is_none()
            && let Some(Spill { shard, most_in_memory }) = self.spill
            && self.ids.len() + ids.len() > most_in_memory
        {
            self.writer = Some(self.spilled(shard)?);
        }
        let starts_document = std::mem::take(&mut self.starts_document);
        match &mut self.writer {
            Some(writer) => {
                if starts_document {
                    writer.start_document();
                }
                writer.push(ids)
            }
            None => {
                if starts_document {
                    self.documents.push(self.ids.len() as u64);
                }
                self.ids.extend_from_slice(ids);
                Ok(())
            }
        }
    }

    /// A shard with the ids so far, whose memory is given back.
    fn spilled(&mut self, path: &Path) -> Result<ShardWriter, TextError> {
        if let Some(folder) = path.parent() {
            fs_err::create_dir_all(folder)?;
        }
        let mut writer = ShardWriter::create(path, self.tokenizer)?;
        let ids = std::mem::take(&mut self.ids);
        let documents = std::mem::take(&mut self.documents);
        let ends = documents.iter().skip(1).copied().chain([ids.len() as u64]);
        for (&start, end) in documents.iter().zip(ends) {
            writer.start_document();
            writer.push(&ids[start as usize..end as usize])?;
        }
        Ok(writer)
    }
}
