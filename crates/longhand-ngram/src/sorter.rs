//! Sorting keys that may exceed memory: sorted runs in temporary files, merged as they are read.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::error::NgramError;

/// Collects keys with counts.
pub(crate) struct Sorter {
    folder: PathBuf,
    buffer: Vec<(u128, u64)>,
    /// Entries of the buffer; 32 bytes each.
    limit: usize,
    runs: Vec<File>,
}

/// The keys in rising order, each once, with the sum of its counts.
pub(crate) struct Sorted {
    folder: PathBuf,
    sources: Vec<Source>,
    /// The next key of each source, the least first.
    heads: BinaryHeap<Reverse<(u128, usize, u64)>>,
}

enum Source {
    Memory(std::vec::IntoIter<(u128, u64)>),
    File(BufReader<File>),
}

impl Sorter {
    /// A sorter that holds `limit` entries in memory, and the others in files of `folder` without a
    /// name, which end with the process.
    pub(crate) fn new(folder: &Path, limit: usize) -> Self {
        Self { folder: folder.into(), buffer: Vec::new(), limit: limit.max(2), runs: Vec::new() }
    }

    pub(crate) fn push(&mut self, key: u128, count: u64) -> Result<(), NgramError> {
        if self.buffer.len() == self.limit {
            self.compact();
            // Where most keys differ, equal ones are joined in the files alone.
            if self.buffer.len() > self.limit / 2 {
                let folder = self.folder.clone();
                self.spill().map_err(|source| NgramError::Sort { folder, source })?;
            }
        }
        self.buffer.push((key, count));
        Ok(())
    }

    /// Ends the collection.
    pub(crate) fn finish(mut self) -> Result<Sorted, NgramError> {
        self.compact();
        let Self { folder, buffer, runs, .. } = self;
        let mut sources = vec![Source::Memory(buffer.into_iter())];
        for mut run in runs {
            let rewound = run.rewind();
            rewound.map_err(|source| NgramError::Sort { folder: folder.clone(), source })?;
            sources.push(Source::File(BufReader::with_capacity(1 << 16, run)));
        }
        let mut sorted = Sorted { folder, sources, heads: BinaryHeap::new() };
        (0..sorted.sources.len()).try_for_each(|source| sorted.advance(source))?;
        Ok(sorted)
    }

    /// Sorts the buffer and joins equal keys.
    fn compact(&mut self) {
        self.buffer.sort_unstable_by_key(|entry| entry.0);
        self.buffer.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 += next.1;
            }
            same
        });
    }

    /// Writes the sorted buffer as a run.
    fn spill(&mut self) -> std::io::Result<()> {
        let mut file = BufWriter::with_capacity(1 << 16, tempfile::tempfile_in(&self.folder)?);
        for (key, count) in self.buffer.drain(..) {
            file.write_all(&key.to_le_bytes())?;
            file.write_all(&count.to_le_bytes())?;
        }
        self.runs.push(file.into_inner().map_err(std::io::IntoInnerError::into_error)?);
        Ok(())
    }
}

impl Sorted {
    /// The next key with its count; none at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(u128, u64)>, NgramError> {
        let Some(Reverse((key, source, mut sum))) = self.heads.pop() else { return Ok(None) };
        self.advance(source)?;
        while let Some(&Reverse((other, source, count))) = self.heads.peek()
            && other == key
        {
            self.heads.pop();
            sum += count;
            self.advance(source)?;
        }
        Ok(Some((key, sum)))
    }

    /// Brings the next entry of a source among the heads.
    fn advance(&mut self, source: usize) -> Result<(), NgramError> {
        let entry = match &mut self.sources[source] {
            Source::Memory(entries) => Ok(entries.next()),
            Source::File(file) => read(file),
        };
        let folder = &self.folder;
        let entry = entry.map_err(|source| NgramError::Sort { folder: folder.clone(), source })?;
        self.heads.extend(entry.map(|(key, count)| Reverse((key, source, count))));
        Ok(())
    }
}

/// The next entry of a run; none at its end.
fn read(run: &mut BufReader<File>) -> std::io::Result<Option<(u128, u64)>> {
    if run.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let (mut key, mut count) = ([0; 16], [0; 8]);
    run.read_exact(&mut key)?;
    run.read_exact(&mut count)?;
    Ok(Some((u128::from_le_bytes(key), u64::from_le_bytes(count))))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn runs_in_files_give_what_memory_gives() {
        let folder = tempfile::tempdir().unwrap();
        let keys: Vec<u128> = (0..999u128).map(|i| i * i % 211).collect();
        let mut expected = BTreeMap::new();
        keys.iter().for_each(|&key| *expected.entry(key).or_insert(0) += 2);
        // 106 keys: they fit into half of the larger limits.
        for limit in [1, 7, 250, 5000] {
            let mut sorter = Sorter::new(folder.path(), limit);
            keys.iter().for_each(|&key| sorter.push(key, 2).unwrap());
            assert_eq!(sorter.runs.is_empty(), limit >= 250, "{limit}");
            let mut sorted = sorter.finish().unwrap();
            let mut got = Vec::new();
            while let Some(entry) = sorted.next().unwrap() {
                got.push(entry);
            }
            assert!(got.iter().copied().eq(expected.clone()), "{limit}");
        }
    }
}
