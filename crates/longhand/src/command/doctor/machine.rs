//! What the machine has: processor, threads, memory, disk.

use std::path::Path;

use longhand_kernel::{InstructionSet, Level};

use super::check::Check;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// With less free memory than this beside a model, a server's sessions soon leave memory.
const LITTLE_MEMORY: u64 = 512 * MIB;
/// With less free space than this a run's checkpoints soon fill the disk.
const LITTLE_SPACE: u64 = GIB;

/// The processor, the instruction sets that it was found to have, and the one that is taken.
pub(crate) fn processor() -> Check {
    let names: Vec<&str> = Level::available().map(|level| level.set().name()).collect();
    let chosen = Level::detect();
    let model = processor_name().unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let found = format!(
        "{model}; has {}; takes {}, {} numbers at a time",
        names.join(", "),
        chosen.set().name(),
        chosen.lanes()
    );
    match chosen.set() {
        InstructionSet::Portable => Check::note(
            "processor",
            found,
            "All works, and slowly: take a machine whose processor has AVX2, or a virtual machine \
             that passes it on.",
        ),
        _ => Check::well("processor", found),
    }
}

/// The processor's own name, where the system tells it.
fn processor_name() -> Option<String> {
    let facts = fs_err::read_to_string("/proc/cpuinfo").ok()?;
    let line = facts.lines().find_map(|line| line.strip_prefix("model name"))?;
    Some(line.trim_start_matches([' ', '\t', ':']).to_owned())
}

/// The threads that numbers are computed on.
pub(crate) fn threads(chosen: usize) -> Check {
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    let found = format!("{chosen} of {available} that this process may use");
    match chosen > available {
        true => Check::note(
            "threads",
            found,
            format!(
                "More threads than processors wait for each other: pass --threads {available}."
            ),
        ),
        false => Check::well("threads", found),
    }
}

/// Free memory beside a model of this size in bytes.
pub(crate) fn memory(model: u64) -> Check {
    let Some(free) = free_memory() else {
        return Check::note(
            "memory",
            "this system does not tell",
            format!("See to it that {} for the model and some more are free.", size(model)),
        );
    };
    let found = format!("{} free, {} in the model", size(free), size(model));
    if free < LITTLE_MEMORY {
        return Check::note(
            "memory",
            found,
            "Little is left for sessions and states: end other programs, or quantise the model \
             (`longhand quantize`).",
        );
    }
    Check::well("memory", found)
}

/// Memory that this process can still have: what the machine has left, or its group's limit.
fn free_memory() -> Option<u64> {
    let facts = fs_err::read_to_string("/proc/meminfo").ok()?;
    let line = facts.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    let number = |name: &str| -> Option<u64> {
        let path = format!("/sys/fs/cgroup/{name}");
        fs_err::read_to_string(path).ok()?.trim().parse().ok()
    };
    let group = number("memory.max").zip(number("memory.current"));
    let left = group.map_or(u64::MAX, |(most, used)| most.saturating_sub(used));
    Some((kibibytes * 1024).min(left))
}

/// Whether the folder can be written to, and how much space it has.
pub(crate) fn folder(folder: &Path) -> Check {
    let name = folder.display();
    if !folder.is_dir() {
        return Check::wrong(
            "disk",
            format!("there is no folder {name}"),
            "Make it, or name another.",
        );
    }
    if let Err(error) = tempfile::tempfile_in(folder) {
        return Check::wrong(
            "disk",
            format!("{name} cannot be written to: {error}"),
            "Give this user the right to write there, or name another --folder.",
        );
    }
    match free_space(folder) {
        None => Check::well("disk", format!("{name} can be written to")),
        Some(free) if free < LITTLE_SPACE => Check::note(
            "disk",
            format!("{} free in {name}", size(free)),
            "Free some space: sessions are kept on disk, and a full one takes no new ones.",
        ),
        Some(free) => Check::well("disk", format!("{} free in {name}", size(free))),
    }
}

/// Bytes that an ordinary user may still write.
#[cfg(unix)]
fn free_space(folder: &Path) -> Option<u64> {
    let facts = rustix::fs::statvfs(folder).ok()?;
    facts.f_bavail.checked_mul(facts.f_frsize)
}

#[cfg(not(unix))]
fn free_space(_: &Path) -> Option<u64> {
    None
}

/// Bytes in the largest binary unit of which there is one.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        GIB.. => format!("{:.1} GiB", bytes as f64 / GIB as f64),
        MIB.. => format!("{:.1} MiB", bytes as f64 / MIB as f64),
        _ => format!("{:.1} KiB", bytes as f64 / 1024.0),
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Verdict;
    use super::*;

    #[test]
    fn a_machine_is_described() {
        let check = processor();
        assert!(check.found.contains(Level::detect().set().name()), "{}", check.found);
        assert_eq!(threads(1).verdict, Verdict::Well);
        let many = threads(1 << 14);
        assert_eq!(many.verdict, Verdict::Note);
        assert!(many.advice.unwrap().contains("--threads"));
        assert!(memory(5 << 20).found.contains("5.0 MiB") || cfg!(not(target_os = "linux")));
    }

    #[test]
    fn a_folder_is_written_to_and_a_missing_one_is_wrong() {
        let place = tempfile::tempdir().unwrap();
        assert_ne!(folder(place.path()).verdict, Verdict::Wrong);
        assert_eq!(fs_err::read_dir(place.path()).unwrap().count(), 0);
        let missing = folder(&place.path().join("nowhere"));
        assert_eq!(missing.verdict, Verdict::Wrong);
        assert!(missing.advice.is_some());
    }

    #[test]
    fn sizes_have_their_unit() {
        assert_eq!(
            [512, 3 << 19, 5 << 29].map(size),
            ["0.5 KiB", "1.5 MiB", "2.5 GiB"].map(str::to_owned)
        );
    }
}
