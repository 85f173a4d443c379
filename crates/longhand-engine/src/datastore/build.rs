//! A datastore from the hidden states and tokens of a text.

use std::collections::BTreeMap;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use fs_err::File;
use longhand_model::Cpu;
use longhand_model::file;
use longhand_model::nearest::{Assigned, assign, decode_keys, encode_keys, k_means, spread};
use longhand_text::shard::read_exact_at;
use tempfile::TempDir;

use super::files::{Datastore, facts_of};
use super::header::{
    DATASTORE_FILE, DatastoreHeader, INDEX_FILE, KEYS_FILE, MOST_ENTRIES, Owner, VALUES_FILE,
};
use super::index::Index;
use super::lock::{LOCK_FILE, Locked, PREFIX, SUFFIX, lock, remove_abandoned};
use super::mixture::Mixture;
use crate::datastore_error::{DatastoreError, VERSION};

/// Keys in the order of the text, until they are parted into lists.
const UNSORTED_KEYS: &str = "unsorted-keys.partial";
const UNSORTED_VALUES: &str = "unsorted-values.partial";

/// Fewer entries than this are one list: all of them are compared with every query.
const LEAST_TO_PART: u64 = 4096;
/// Keys that the centroids are found on, for each of them.
const SAMPLE: usize = 64;
/// The most memory of these keys, in numbers of four bytes.
const MOST_SAMPLED: usize = 1 << 27;
/// Times that each centroid moves to the mean of its keys.
const ROUNDS: usize = 8;
/// Entries that are moved to their lists at once.
const BLOCK: usize = 1 << 15;
/// The usual λ, and temperature as a share of the spread, where no held-out text gives better ones.
const USUAL_LAMBDA: f64 = 0.25;
const USUAL_TEMPERATURE: f64 = 0.25;
/// Lists that are usually looked into.
const USUAL_PROBES: usize = 32;

/// The work behind the reading of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildStep {
    /// Finding centroids on a sample of the keys.
    Centroids,
    /// Finding the list of each key.
    Lists,
    /// Writing the keys list after list.
    Sorting,
    /// Hashing the files that are written.
    Hashing,
}

/// Takes the entries of a datastore, in any number, and writes them to the disk as they come.
///
/// What is written stays beside the datastore's folder under a name that begins with a dot, and is
/// removed unless it is published. Memory grows by four bytes with each entry.
pub struct DatastoreWriter {
    place: Place,
    owner: Owner,
    width: usize,
    entries: u64,
    keys: BufWriter<File>,
    values: BufWriter<File>,
    text: blake3::Hasher,
    bytes: Vec<u8>,
}

/// A whole datastore that is not in its place yet.
pub struct Unpublished {
    place: Place,
    owner: Owner,
}

/// The folder of a datastore, and the one that it is built in.
struct Place {
    folder: PathBuf,
    /// Whether an older datastore in its place is removed.
    replace: bool,
    /// Held while the folder is built. It is dropped before the folder is removed.
    lock: Option<File>,
    building: TempDir,
}

impl DatastoreWriter {
    /// Begins a datastore for the hidden states of a model, of width D. `replace` lets it take the
    /// place of an older one.
    ///
    /// # Errors
    /// [`DatastoreError::Occupied`] for a folder that holds something else, and if
    /// nothing can be written beside it.
    pub fn new(
        folder: &Path,
        replace: bool,
        owner: Owner,
        width: usize,
    ) -> Result<Self, DatastoreError> {
        let place = Place::new(folder, replace)?;
        let keys = BufWriter::with_capacity(1 << 20, File::create(place.path(UNSORTED_KEYS))?);
        let values = BufWriter::with_capacity(1 << 16, File::create(place.path(UNSORTED_VALUES))?);
        let (text, bytes) = (blake3::Hasher::new(), Vec::new());
        Ok(Self { place, owner, width, entries: 0, keys, values, text, bytes })
    }

    /// Refuses a folder that a datastore cannot be put into, before hours of work.
    ///
    /// # Errors
    /// [`DatastoreError::Occupied`] for a folder that holds something else.
    pub fn check_place(folder: &Path, replace: bool) -> Result<(), DatastoreError> {
        check_free(folder, replace)
    }

    /// Appends entries: hidden states `[n, D]` and the tokens `[n]` that followed them.
    ///
    /// # Errors
    /// [`DatastoreError::NotFinite`] for a hidden state that is not finite,
    /// [`DatastoreError::TooMany`], and if nothing can be written.
    pub fn push(&mut self, hidden: &[f32], tokens: &[u32]) -> Result<(), DatastoreError> {
        if !hidden.iter().all(|x| x.is_finite()) {
            return Err(DatastoreError::NotFinite);
        }
        self.entries += tokens.len() as u64;
        if self.entries > MOST_ENTRIES {
            return Err(DatastoreError::TooMany { most: MOST_ENTRIES });
        }
        self.bytes.clear();
        encode_keys(hidden, &mut self.bytes);
        self.keys.write_all(&self.bytes)?;
        self.text.update(&self.bytes);
        self.bytes.clear();
        self.bytes.extend(tokens.iter().flat_map(|token| token.to_le_bytes()));
        self.values.write_all(&self.bytes)?;
        self.text.update(&self.bytes);
        Ok(())
    }

    /// Parts the entries into lists, and writes the datastore. `tell` hears the share of
    /// each step that is done, 0 to 1; the work ends where it answers false.
    ///
    /// # Errors
    /// [`DatastoreError::Empty`] without entries, [`DatastoreError::Stopped`] of `tell`, and if a file
    /// cannot be read or written. Nothing is left then.
    pub fn finish(
        self,
        cpu: &Cpu,
        tell: &mut dyn FnMut(BuildStep, f64) -> bool,
    ) -> Result<Unpublished, DatastoreError> {
        let Self { place, owner, width, entries, mut keys, mut values, text, .. } = self;
        keys.flush()?;
        values.flush()?;
        drop((keys, values));
        if entries == 0 {
            return Err(DatastoreError::Empty);
        }
        let text = text.finalize().to_hex().to_string();
        let unsorted = Unsorted::open(&place, width, entries)?;
        let centroids = unsorted.centroids(cpu, tell)?;
        let lists = centroids.len() / width;
        let (lists_of, spread) = unsorted.assign(cpu, &centroids, tell)?;
        let starts = unsorted.sort(&place, &lists_of, lists, tell)?;
        drop(unsorted);
        for name in [UNSORTED_KEYS, UNSORTED_VALUES] {
            fs_err::remove_file(place.path(name))?;
        }
        let index = Index { centroids, starts };
        let path = place.path(INDEX_FILE);
        let bytes = index.to_bytes(width).map_err(|error| DatastoreError::Form {
            path: path.clone(),
            what: error.to_string(),
        })?;
        file::write(&path, &bytes)?;
        let mut files = BTreeMap::new();
        for (name, done) in [(INDEX_FILE, 0.0), (KEYS_FILE, 0.1), (VALUES_FILE, 0.9)] {
            go_on(tell(BuildStep::Hashing, done))?;
            let mut file = File::open(place.path(name))?;
            file.sync_all()?;
            files.insert(name.to_owned(), facts_of(&mut file)?);
        }
        let mixture = Mixture {
            lambda: USUAL_LAMBDA,
            temperature: (USUAL_TEMPERATURE * spread).max(f64::from(f32::MIN_POSITIVE)),
            neighbours: DatastoreHeader::usual_neighbours(entries),
            probes: USUAL_PROBES.min(lists),
        };
        let Owner { model, tokenizer } = owner.clone();
        let (version, tuned, checksum) = (VERSION, false, String::new());
        let header = DatastoreHeader {
            version,
            model,
            tokenizer,
            text,
            width,
            entries,
            lists,
            spread,
            mixture,
            tuned,
            files,
            checksum,
        };
        file::write(&place.path(DATASTORE_FILE), &header.to_json())?;
        Ok(Unpublished { place, owner })
    }
}

impl Unpublished {
    /// Opens it where it is, to find its mixture before it is published.
    ///
    /// # Errors
    /// As [`Datastore::open`], for files that are damaged already.
    pub fn open(&self) -> Result<Datastore, DatastoreError> {
        Datastore::open(self.place.building.path(), &self.owner)
    }

    /// Puts it in its place, where a reader finds it whole or not at all.
    ///
    /// # Errors
    /// If the folder cannot be renamed.
    pub fn publish(self) -> Result<(), DatastoreError> {
        let Place { folder, replace, lock, building } = self.place;
        check_free(&folder, replace)?;
        if folder.exists() {
            fs_err::remove_dir_all(&folder)?;
        }
        // Elsewhere a folder is not renamed while a file in it is open.
        let lock = if cfg!(unix) { lock } else { None };
        fs_err::rename(building.path(), &folder)?;
        // Nothing is left under the old name to be removed.
        let _ = building.keep();
        // Not before: without its lock it would be anybody's.
        let _ = fs_err::remove_file(folder.join(LOCK_FILE));
        drop(lock);
        Ok(())
    }
}

impl Place {
    fn new(folder: &Path, replace: bool) -> Result<Self, DatastoreError> {
        check_free(folder, replace)?;
        let beside = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
        let beside = beside.unwrap_or(Path::new("."));
        fs_err::create_dir_all(beside)?;
        remove_abandoned(beside);
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX).suffix(SUFFIX);
        // As of any folder that a program makes, less what the user's mask takes away.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
        loop {
            let building = builder.tempdir_in(beside)?;
            let lock = match lock(building.path()) {
                Locked::Held(file) => Some(file),
                Locked::Unknown => None,
                // Another process took it for one that a killed process left.
                Locked::Lost => continue,
            };
            return Ok(Self { folder: folder.into(), replace, lock, building });
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.building.path().join(name)
    }
}

/// Refuses a folder that holds anything, but a datastore that may be replaced.
fn check_free(folder: &Path, replace: bool) -> Result<(), DatastoreError> {
    if !folder.exists() {
        return Ok(());
    }
    let occupied = fs_err::read_dir(folder)?.next().is_some();
    match occupied && !(replace && folder.join(DATASTORE_FILE).is_file()) {
        true => Err(DatastoreError::Occupied(folder.into())),
        false => Ok(()),
    }
}

/// The entries in the order of the text.
struct Unsorted {
    keys: File,
    values: File,
    width: usize,
    entries: u64,
}

impl Unsorted {
    fn open(place: &Place, width: usize, entries: u64) -> Result<Self, DatastoreError> {
        let open = |name| File::open(place.path(name));
        Ok(Self { keys: open(UNSORTED_KEYS)?, values: open(UNSORTED_VALUES)?, width, entries })
    }

    /// C centroids `[C, D]`, found on keys from everywhere in the text. C is about 2·√N, which keeps
    /// the comparison with centroids and that with the keys of some lists in balance.
    fn centroids(
        &self,
        cpu: &Cpu,
        tell: &mut dyn FnMut(BuildStep, f64) -> bool,
    ) -> Result<Vec<f32>, DatastoreError> {
        let Self { width, entries, .. } = *self;
        let lists =
            if entries < LEAST_TO_PART { 1 } else { (2.0 * (entries as f64).sqrt()) as usize };
        let most = (MOST_SAMPLED / width).max(lists);
        let count = (SAMPLE * lists).min(most).min(usize::try_from(entries).unwrap_or(most));
        let row = 2 * width;
        let mut bytes = vec![0; row];
        let mut sample = vec![0.0; count * width];
        for (place, to) in sample.chunks_mut(width).enumerate() {
            let entry = spread(place, count, entries as usize);
            read_exact_at(&self.keys, &mut bytes, entry as u64 * row as u64)?;
            decode_keys(&bytes, to);
        }
        let mut more = true;
        let centroids = k_means(cpu, width, &sample, lists, ROUNDS, &mut |round| {
            more = tell(BuildStep::Centroids, round as f64 / ROUNDS as f64);
            more
        });
        go_on(more)?;
        Ok(centroids)
    }

    /// The list of each entry, and the mean squared distance of keys from their centroids.
    fn assign(
        &self,
        cpu: &Cpu,
        centroids: &[f32],
        tell: &mut dyn FnMut(BuildStep, f64) -> bool,
    ) -> Result<(Vec<u32>, f64), DatastoreError> {
        let width = self.width;
        let mut lists: Vec<u32> = Vec::new();
        let (mut keys, mut rows) = (Vec::new(), Vec::new());
        let mut distances = vec![0.0; BLOCK];
        let mut sum = 0.0;
        for begin in (0..self.entries).step_by(BLOCK) {
            go_on(tell(BuildStep::Lists, begin as f64 / self.entries as f64))?;
            let count = (self.entries - begin).min(BLOCK as u64) as usize;
            keys.resize(count * 2 * width, 0);
            rows.resize(count * width, 0.0);
            read_exact_at(&self.keys, &mut keys, begin * 2 * width as u64)?;
            decode_keys(&keys, &mut rows);
            let first = lists.len();
            lists.resize(first + count, 0);
            let to = Assigned { lists: &mut lists[first..], distances: &mut distances[..count] };
            assign(cpu, width, centroids, &rows, to);
            sum += distances[..count].iter().map(|&x| f64::from(x)).sum::<f64>();
        }
        Ok((lists, sum / self.entries as f64))
    }

    /// Writes the entries list after list, in the order of the text within each; where each list
    /// begins, and the number of entries.
    fn sort(
        &self,
        place: &Place,
        lists_of: &[u32],
        lists: usize,
        tell: &mut dyn FnMut(BuildStep, f64) -> bool,
    ) -> Result<Vec<u64>, DatastoreError> {
        let mut starts = vec![0_u64; lists + 1];
        lists_of.iter().for_each(|&list| starts[list as usize + 1] += 1);
        (0..lists).for_each(|list| starts[list + 1] += starts[list]);
        let mut next = starts[..lists].to_vec();
        let create = |name| File::create(place.path(name));
        let (mut keys, mut values) = (create(KEYS_FILE)?, create(VALUES_FILE)?);
        let mut order: Vec<usize> = Vec::new();
        for (block, own) in lists_of.chunks(BLOCK).enumerate() {
            let begin = (block * BLOCK) as u64;
            go_on(tell(BuildStep::Sorting, begin as f64 / self.entries as f64))?;
            // A stable sort keeps the order of the text.
            order.clear();
            order.extend(0..own.len());
            order.sort_by_key(|&entry| own[entry]);
            move_rows(&self.keys, &mut keys, 2 * self.width, begin, &order, own, &next)?;
            move_rows(&self.values, &mut values, 4, begin, &order, own, &next)?;
            own.iter().for_each(|&list| next[list as usize] += 1);
        }
        Ok(starts)
    }
}

/// Moves a block of rows of `row` bytes, those from number `begin` on, to the next places of their
/// lists, given the rows in the order of their lists.
fn move_rows(
    from: &File,
    to: &mut File,
    row: usize,
    begin: u64,
    order: &[usize],
    lists: &[u32],
    next: &[u64],
) -> Result<(), DatastoreError> {
    let mut bytes = vec![0; lists.len() * row];
    read_exact_at(from, &mut bytes, begin * row as u64)?;
    let mut sorted = Vec::new();
    for own in order.chunk_by(|&a, &b| lists[a] == lists[b]) {
        sorted.clear();
        for &entry in own {
            sorted.extend_from_slice(&bytes[entry * row..(entry + 1) * row]);
        }
        to.seek(SeekFrom::Start(next[lists[own[0]] as usize] * row as u64))?;
        to.write_all(&sorted)?;
    }
    Ok(())
}

fn go_on(more: bool) -> Result<(), DatastoreError> {
    if more { Ok(()) } else { Err(DatastoreError::Stopped) }
}
