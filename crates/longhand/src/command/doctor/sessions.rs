//! The sessions that a server keeps in a folder: how many there are, and which are not whole.

use std::path::Path;

use longhand_serve::sessions::{Report, SessionError, Sessions};

use super::check::Check;
use super::machine::size;
use crate::command::serve::SESSIONS_FILE;

/// The name of the check.
const NAME: &str = "sessions";

/// Reads every session of a folder, and changes nothing.
pub(crate) fn examine(folder: &Path) -> Check {
    if !folder.is_dir() {
        return Check::wrong(
            NAME,
            format!("there is no folder {}", folder.display()),
            "Name the folder that a server has as --sessions.",
        );
    }
    let file = folder.join(SESSIONS_FILE);
    let name = file.display();
    if !file.is_file() {
        let advice = "A server with this folder as --sessions makes it; if there was one, name its \
                      folder.";
        return Check::note(NAME, format!("there is no {name}"), advice);
    }
    match Sessions::examine(&file) {
        Ok(report) => told(&report),
        Err(SessionError::Damaged { what, .. }) => Check::wrong(
            NAME,
            format!("{name} is no whole database: {what}"),
            "Put a copy from before in its place; without one a server puts the file aside and begins \
             another.",
        ),
        Err(error) => Check::note(
            NAME,
            format!("{name} was not read: {error}"),
            "End the server that has it, or start one that puts it right and end that in order, and \
             look again.",
        ),
    }
}

fn told(report: &Report) -> Check {
    let plural = if report.sessions == 1 { "" } else { "s" };
    let found = format!("{} session{plural}, {}", report.sessions, size(report.bytes));
    match &report.damaged[..] {
        [] => Check::well(NAME, format!("{found}, all whole")),
        [first, ..] => Check::wrong(
            NAME,
            format!("{found}, {} damaged, of them first {first}", report.damaged.len()),
            "A server serves the others: have it erase these (DELETE /v1/sessions/NAME), or put a copy \
             from before in the place of the file.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use longhand_serve::sessions::{Owner, SessionsSettings};

    use super::super::check::Verdict;
    use super::*;

    #[test]
    fn a_file_is_counted_and_what_cannot_be_read_is_told() {
        let place = tempfile::tempdir().unwrap();
        let look = || examine(place.path());
        let nowhere = examine(&place.path().join("nowhere"));
        assert_eq!(nowhere.verdict, Verdict::Wrong);
        assert!(nowhere.found.contains("there is no folder"), "{}", nowhere.found);
        let missing = look();
        assert_eq!(missing.verdict, Verdict::Note);
        assert!(missing.found.contains("there is no"), "{}", missing.found);
        let file = place.path().join(SESSIONS_FILE);
        let (sessions, _) = Sessions::open(&file, SessionsSettings::default()).unwrap();
        sessions.put_document(&Owner::new("a").unwrap(), "kind", "id", &[7; 1000], None).unwrap();
        let busy = look();
        assert_eq!(busy.verdict, Verdict::Note);
        assert!(busy.found.contains("another process"), "{}", busy.found);
        drop(sessions);
        let well = look();
        assert_eq!(
            (well.verdict, well.found.as_str()),
            (Verdict::Well, "0 sessions, 1.0 KiB, all whole")
        );
        fs_err::write(&file, [7; 10_000]).unwrap();
        assert_eq!(look().verdict, Verdict::Wrong);
        let damaged = vec!["the session `s` of `a`: why".to_owned()];
        let wrong = told(&Report { sessions: 2, bytes: 2048, damaged, compacted: None });
        assert_eq!(wrong.verdict, Verdict::Wrong);
        assert!(
            wrong.found.contains("2 sessions, 2.0 KiB, 1 damaged") && wrong.found.contains("`s`")
        );
    }
}
