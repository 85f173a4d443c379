//! An open datastore: its files, checked once and then read by position.

use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use fs_err::File;
use longhand_model::file;
use longhand_text::shard::read_exact_at;

use super::header::{
    DATASTORE_FILE, DatastoreHeader, FileFacts, INDEX_FILE, KEYS_FILE, Owner, VALUES_FILE,
};
use super::index::Index;
use super::mixture::Mixture;
use crate::datastore_error::DatastoreError;

/// Bytes that are hashed at a time.
const BLOCK: usize = 1 << 20;

/// A datastore that is open for reading from any thread.
#[derive(Debug)]
pub struct Datastore {
    folder: PathBuf,
    header: DatastoreHeader,
    index: Index,
    keys: File,
    values: File,
}

impl Datastore {
    /// Opens a datastore of this model and tokeniser, and compares every file with its hash.
    ///
    /// # Errors
    /// [`DatastoreError::Missing`] for a folder without a datastore, [`DatastoreError::Model`] and
    /// [`DatastoreError::Tokenizer`] for one of another owner, [`DatastoreError::Damaged`] and
    /// [`DatastoreError::Form`] for a file that differs from what was written.
    pub fn open(folder: &Path, owner: &Owner) -> Result<Self, DatastoreError> {
        let path = folder.join(DATASTORE_FILE);
        let json = match fs_err::read(&path) {
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                return Err(DatastoreError::Missing(folder.into()));
            }
            other => other?,
        };
        let header = DatastoreHeader::from_json(&path, &json)?;
        header.check_owner(folder, owner)?;
        let checked = |name: &str| {
            let path = folder.join(name);
            let mut file = match File::open(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return Err(DatastoreError::Form { path, what: "it is missing".into() });
                }
                other => other?,
            };
            match header.files.get(name) {
                Some(facts) if facts_of(&mut file)? == *facts => Ok(file),
                _ => Err(DatastoreError::Damaged(path)),
            }
        };
        checked(INDEX_FILE)?;
        let (keys, values) = (checked(KEYS_FILE)?, checked(VALUES_FILE)?);
        let path = folder.join(INDEX_FILE);
        let index = Index::from_bytes(&path, &fs_err::read(&path)?, header.sizes())?;
        Ok(Self { folder: folder.into(), header, index, keys, values })
    }

    /// Refuses another model or tokeniser than its own.
    ///
    /// # Errors
    /// [`DatastoreError::Model`] and [`DatastoreError::Tokenizer`] name both hashes.
    pub fn check_owner(&self, owner: &Owner) -> Result<(), DatastoreError> {
        self.header.check_owner(&self.folder, owner)
    }

    /// Its sizes and settings.
    pub fn header(&self) -> &DatastoreHeader {
        &self.header
    }

    /// Writes how its votes are mixed wherever it is opened from now on, and gives the header that
    /// says so. What is open already goes on as it was.
    ///
    /// # Errors
    /// As [`Mixture::check`], and if the file cannot be written.
    pub fn write_mixture(
        &self,
        mixture: Mixture,
        tuned: bool,
    ) -> Result<DatastoreHeader, DatastoreError> {
        mixture.check(self.header.entries)?;
        let header = DatastoreHeader { mixture, tuned, ..self.header.clone() };
        file::write(&self.folder.join(DATASTORE_FILE), &header.clone().to_json())?;
        Ok(header)
    }

    pub(super) fn index(&self) -> &Index {
        &self.index
    }

    /// Reads keys and values of some entries.
    pub(super) fn read(
        &self,
        entries: std::ops::Range<u64>,
        keys: &mut Vec<u8>,
        values: &mut Vec<u8>,
    ) -> Result<(), DatastoreError> {
        let count = (entries.end - entries.start) as usize;
        let row = 2 * self.header.width;
        for (file, to, row) in [(&self.keys, keys, row), (&self.values, values, 4)] {
            let begin = to.len();
            to.resize(begin + count * row, 0);
            read_exact_at(file, &mut to[begin..], entries.start * row as u64)?;
        }
        Ok(())
    }
}

/// Length and hash of a whole file.
pub(super) fn facts_of(file: &mut File) -> Result<FileFacts, DatastoreError> {
    file.seek(SeekFrom::Start(0))?;
    let mut hasher = blake3::Hasher::new();
    let mut block = vec![0; BLOCK];
    let mut bytes = 0;
    loop {
        match file.read(&mut block) {
            Ok(0) => break,
            Ok(read) => {
                hasher.update(&block[..read]);
                bytes += read as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(FileFacts { bytes, blake3: hasher.finalize().to_hex().to_string() })
}
