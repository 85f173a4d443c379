//! A long sequence of ids, in memory or in a shard.

use std::path::Path;

use crate::corpus::Corpus;
use crate::error::TextError;
use crate::shard::{Shard, ShardWriter};
use crate::tokenizer::Tokenizer;

/// Ids of a corpus with the places where its documents begin. Shared between threads as it is.
#[derive(Debug)]
pub struct Tokens {
    storage: Storage,
    documents: Vec<u64>,
    vocabulary: usize,
    scored_bytes: Option<u64>,
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
    /// [`TextError::TokenId`] for an id that is not below `vocabulary`, [`TextError::Setting`] for
    /// places that do not rise or are beyond the end.
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
        Ok(Self { storage: Storage::Memory(ids), documents, vocabulary, scored_bytes: None })
    }

    /// Ids in a shard.
    pub fn from_shard(shard: Shard) -> Self {
        let documents = shard.documents().to_vec();
        let vocabulary = shard.header().vocabulary;
        let scored_bytes = Some(shard.header().scored_bytes);
        Self { storage: Storage::Shard(shard), documents, vocabulary, scored_bytes }
    }

    /// Encodes a corpus into memory.
    ///
    /// A tokeniser's token for a document's end comes between two documents.
    ///
    /// # Errors
    /// Whatever reading and encoding report; [`TextError::TooShort`] below two tokens.
    pub fn encode(
        corpus: &Corpus,
        tokenizer: &Tokenizer,
        progress: &mut dyn FnMut(EncodeProgress),
    ) -> Result<Self, TextError> {
        Encoder::new(tokenizer, None).run(corpus, progress)
    }

    /// Encodes a corpus into memory, or into a shard once its ids are too many. A shard that is
    /// there already, of the same text and tokeniser, is used as it is.
    ///
    /// # Errors
    /// [`TextError::Io`] if the shard cannot be written, and the errors of [`Tokens::encode`].
    pub fn encode_or_spill(
        corpus: &Corpus,
        tokenizer: &Tokenizer,
        spill: Spill<'_>,
        progress: &mut dyn FnMut(EncodeProgress),
    ) -> Result<Self, TextError> {
        // One that is damaged or of an earlier version is no loss: it is made anew.
        if let Ok(shard) = Shard::open(spill.shard)
            && shard.header().tokenizer == tokenizer.hash()
            && shard.header().source == corpus.hash()?
            && shard.verify().is_ok()
        {
            progress(EncodeProgress { bytes: shard.header().bytes, tokens: shard.len() });
            return Ok(Self::from_shard(shard));
        }
        Encoder::new(tokenizer, Some(spill)).run(corpus, progress)
    }

    /// The shard that holds the ids; none where memory holds them.
    pub fn shard(&self) -> Option<&Shard> {
        match &self.storage {
            Storage::Memory(_) => None,
            Storage::Shard(shard) => Some(shard),
        }
    }

    /// The number of tokens.
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

    /// Bytes of the text whose tokens can be predicted: all but those of the first token of each
    /// document. None for ids that came without a text.
    pub fn scored_bytes(&self) -> Option<u64> {
        self.scored_bytes
    }

    /// How often each id comes, `[V]`.
    ///
    /// # Errors
    /// [`TextError::Io`] or [`TextError::Shard`] for an unreadable shard.
    pub fn counts(&self) -> Result<Vec<u64>, TextError> {
        let mut block = vec![0; (1 << 16).min(self.len()) as usize];
        let (mut at, mut counts) = (0, vec![0; self.vocabulary]);
        while at < self.len() {
            let size = (self.len() - at).min(block.len() as u64) as usize;
            self.copy(at, &mut block[..size])?;
            block[..size].iter().for_each(|&id| counts[id as usize] += 1);
            at += size as u64;
        }
        Ok(counts)
    }

    /// Copies the ids from `start` on into `ids`.
    ///
    /// # Errors
    /// [`TextError::TokenRange`] for a range beyond the end, [`TextError::Io`] or
    /// [`TextError::Shard`] for an unreadable shard.
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
    /// Tokens that the text became.
    pub tokens: u64,
}

/// A corpus on its way to ids.
struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    spill: Option<Spill<'a>>,
    /// The ids, until there are too many.
    ids: Vec<u32>,
    documents: Vec<u64>,
    writer: Option<ShardWriter>,
    /// Whether the next id begins a document. A document may have no ids at all, such as white
    /// space in the `word` kind.
    starts_document: bool,
    /// Bytes of tokens that nothing comes before.
    first_bytes: u64,
}

impl<'a> Encoder<'a> {
    fn new(tokenizer: &'a Tokenizer, spill: Option<Spill<'a>>) -> Self {
        let (ids, documents) = (Vec::new(), Vec::new());
        Self {
            tokenizer,
            spill,
            ids,
            documents,
            writer: None,
            starts_document: false,
            first_bytes: 0,
        }
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
            let ids = self.tokenizer.encode(&piece.text)?;
            if self.starts_document {
                let first = self.tokenizer.first_token_bytes(&piece.text)?;
                self.first_bytes += first as u64;
            }
            self.take(&ids)?;
            report.bytes += piece.text.len() as u64;
            report.tokens = self.len();
            progress(report);
        }
        let tokens = self.len();
        if tokens < 2 {
            return Err(TextError::TooShort { tokens });
        }
        let scored_bytes = report.bytes - self.first_bytes;
        let (Some(writer), Some(spill)) = (self.writer, self.spill) else {
            let vocabulary = self.tokenizer.vocab_size();
            let tokens = Tokens::from_ids(self.ids, self.documents, vocabulary)?;
            return Ok(Tokens { scored_bytes: Some(scored_bytes), ..tokens });
        };
        writer.finish(&corpus.hash()?, report.bytes, scored_bytes)?;
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
