//! Files that grow, as `tail -F` follows them.

use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use same_file::Handle;

use super::split::{BLOCK, Line, Splitter, Take, WINDOW, is_full};
use crate::interrupt::STOP;
use crate::talk::say;

/// The pause between two looks at files that have not grown.
const PAUSE: Duration = Duration::from_millis(100);

/// Files that are followed.
pub(super) struct Tails {
    tails: Vec<Tail>,
}

/// A file that is followed by its name: another one that takes its place is read from its beginning.
struct Tail {
    path: PathBuf,
    name: Arc<str>,
    lossy: bool,
    open: Option<Open>,
    /// Whether it was told that the file is missing.
    told: bool,
}

struct Open {
    file: fs_err::File,
    /// Which file the name meant when it was opened.
    handle: Handle,
    /// Bytes that are read.
    position: u64,
    splitter: Splitter,
}

impl Tails {
    /// Opens files. What is in them is passed over unless `from_start`.
    pub(super) fn open(paths: &[PathBuf], lossy: bool, from_start: bool) -> Result<Self> {
        let tails = paths.iter().map(|path| {
            let name = path.display().to_string().into();
            let mut tail = Tail { path: path.clone(), name, lossy, open: None, told: false };
            tail.reopen()?;
            if let Some(open) = tail.open.as_mut().filter(|_| !from_start) {
                open.pass_over()?;
            }
            Ok(tail)
        });
        Ok(Self { tails: tails.collect::<Result<_>>()? })
    }

    /// Gives lines as they are appended, until Ctrl-C.
    pub(super) fn each_window(&mut self, take: &mut Take<'_>) -> Result<()> {
        let mut lines = Vec::with_capacity(WINDOW);
        while !STOP.load(Ordering::Relaxed) {
            let mut waits = true;
            for tail in &mut self.tails {
                let fault = tail.read(&mut lines);
                if !lines.is_empty() {
                    take(Some(&tail.name), &lines)?;
                    lines.clear();
                    waits = false;
                }
                fault?;
            }
            if waits {
                std::thread::sleep(PAUSE);
            }
        }
        Ok(())
    }
}

impl Tail {
    /// Takes the lines that have ended since, as many as fit into a window.
    fn read(&mut self, lines: &mut Vec<Line>) -> Result<()> {
        let Some(open) = &mut self.open else { return self.reopen() };
        open.read(lines)?;
        if is_full(lines) {
            return Ok(());
        }
        // The file has been read to its end. Is it still the one of that name, and as long?
        let replaced = match Handle::from_path(&self.path) {
            Ok(now) => now != open.handle,
            Err(error) if error.kind() == ErrorKind::NotFound => true,
            Err(error) => {
                return Err(error).with_context(|| format!("{} cannot be read", self.name));
            }
        };
        if replaced {
            // What was written between the two looks is not lost.
            open.read(lines)?;
            if is_full(lines) {
                return Ok(());
            }
            open.splitter.finish(lines);
            open.splitter.fault()?;
            self.open = None;
            return self.reopen();
        }
        if open.file.metadata()?.len() < open.position {
            say!("{} was truncated: reading it from its beginning", self.name);
            open.splitter.finish(lines);
            open.splitter.fault()?;
            open.file.seek(SeekFrom::Start(0))?;
            (open.position, open.splitter) = (0, Splitter::new(&self.name, self.lossy));
        }
        Ok(())
    }

    /// Opens the file that has the name now, if there is one.
    fn reopen(&mut self) -> Result<()> {
        let file = match fs_err::File::open(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if !std::mem::replace(&mut self.told, true) {
                    say!("there is no {}: waiting for it", self.name);
                }
                return Ok(());
            }
            file => file?,
        };
        if file.metadata()?.is_dir() {
            anyhow::bail!("{} is a folder: name files to follow", self.name);
        }
        self.told = false;
        let handle = handle(&file, &self.path)?;
        let splitter = Splitter::new(&self.name, self.lossy);
        self.open = Some(Open { file, handle, position: 0, splitter });
        Ok(())
    }
}

fn handle(file: &fs_err::File, path: &Path) -> Result<Handle> {
    let named = || format!("{} cannot be read", path.display());
    let copy = file.file().try_clone().with_context(named)?;
    Handle::from_file(copy).with_context(named)
}

impl Open {
    /// Reads to the end of the file, or until a window is full.
    fn read(&mut self, lines: &mut Vec<Line>) -> Result<()> {
        let mut block = vec![0; BLOCK];
        while !is_full(lines) {
            match self.file.read(&mut block) {
                Ok(0) => break,
                Ok(count) => {
                    self.position += count as u64;
                    self.splitter.push(&block[..count], lines);
                    self.splitter.fault()?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Counts the lines that are there.
    fn pass_over(&mut self) -> Result<()> {
        let mut block = vec![0; BLOCK];
        loop {
            match self.file.read(&mut block) {
                Ok(0) => return Ok(()),
                Ok(count) => {
                    self.position += count as u64;
                    self.splitter.skip(&block[..count]);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn append(path: &Path, text: &str) {
        let mut options = fs_err::OpenOptions::new();
        let mut file = options.append(true).create(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn read(tail: &mut Tail) -> Vec<(u64, String)> {
        let mut lines = Vec::new();
        // A look that finds another file reads the old one to its end, the next one reads the new.
        for _ in 0..2 {
            tail.read(&mut lines).unwrap();
        }
        lines.into_iter().map(|line| (line.number, line.text)).collect()
    }

    fn line(number: u64, text: &str) -> (u64, String) {
        (number, text.to_owned())
    }

    #[test]
    fn appended_lines_truncation_and_rotation_are_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        append(&path, "old\nold\n");
        let mut tails = Tails::open(std::slice::from_ref(&path), false, false).unwrap();
        let tail = &mut tails.tails[0];
        assert_eq!(read(tail), []);
        append(&path, "three\nfo");
        assert_eq!(read(tail), [line(3, "three")]);
        append(&path, "ur\n");
        assert_eq!(read(tail), [line(4, "four")]);

        fs_err::write(&path, "new\n").unwrap();
        assert_eq!(read(tail), [line(1, "new")]);

        // A rotation: the old file gets its last lines after the new one is there.
        append(&path, "two\n");
        fs_err::rename(&path, folder.path().join("a.log.1")).unwrap();
        append(&path, "first\nsecond\n");
        append(&folder.path().join("a.log.1"), "three\nunfinished");
        let expected = [
            line(2, "two"),
            line(3, "three"),
            line(4, "unfinished"),
            line(1, "first"),
            line(2, "second"),
        ];
        assert_eq!(read(tail), expected);

        // It goes and comes again.
        fs_err::remove_file(&path).unwrap();
        assert_eq!(read(tail), []);
        assert_eq!(read(tail), []);
        append(&path, "again\n");
        assert_eq!(read(tail), [line(1, "again")]);
    }

    #[test]
    fn lines_that_are_there_are_read_where_that_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        append(&path, "one\ntwo\n");
        let mut tails = Tails::open(std::slice::from_ref(&path), false, true).unwrap();
        assert_eq!(read(&mut tails.tails[0]), [line(1, "one"), line(2, "two")]);
        let folder = Tails::open(&[folder.path().to_owned()], false, true);
        assert!(folder.is_err_and(|error| error.to_string().contains("is a folder")));
    }
}
