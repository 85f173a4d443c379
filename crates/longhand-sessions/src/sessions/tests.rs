use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use longhand_engine::{Engine, SamplerSettings, Snapshot};
use longhand_model::Format;

use super::shelf::key;
use crate::backend::{Batch, Put};
use crate::testing::{Random, any_note, host, ids, name, owner, reader, run, tiny, turn, write};
use crate::{
    Event, HostSettings, Job, JobError, Keep, KeepSession, Quota, SessionError, Sessions,
    SessionsSettings, Sink, Start, Used,
};

fn settings() -> SessionsSettings {
    SessionsSettings::default()
}

/// Sessions `s0`, `s1` … of one turn each, and the bytes of their states.
fn filled(sessions: &Arc<Sessions>, engine: &Arc<Engine>, count: usize) -> Vec<Vec<u8>> {
    let host = host(engine, sessions, None, HostSettings::default());
    (0..count)
        .map(|at| {
            run(&host, turn(&format!("s{at}"), ids(10 + at, at as u64), 3, at as u64)).unwrap();
            sessions.export(&owner("a"), &name(&format!("s{at}"))).unwrap()
        })
        .collect()
}

#[test]
fn sessions_are_listed_forked_renamed_truncated_and_erased() {
    let engine = tiny(Format::F32, 1);
    let sessions = Sessions::in_memory(settings()).unwrap();
    let host = host(&engine, &sessions, None, HostSettings::default());
    let (a, b) = (owner("a"), owner("b"));
    for at in 0..6 {
        run(&host, turn("s", ids(10, at), 2, at)).unwrap();
    }
    let info = sessions.show(&a, &name("s")).unwrap();
    assert_eq!((info.position, info.turns), (72, 6));
    let positions: Vec<u64> = info.checkpoints.iter().map(|it| it.position).collect();
    assert_eq!(positions, [36, 48, 60, 72], "the last four turns");
    let forked = sessions.fork(&a, &name("s"), &name("f"), Some(48)).unwrap();
    assert_eq!((forked.position, forked.turns, forked.checkpoints.len()), (48, 4, 1));
    // Both go on alike from there.
    let back = sessions.truncate(&a, &name("s"), 48).unwrap();
    assert_eq!((back.position, back.turns, back.checkpoints.len()), (48, 4, 2));
    run(&host, turn("s", ids(5, 9), 4, 9)).unwrap();
    run(&host, turn("f", ids(5, 9), 4, 9)).unwrap();
    let export = |it: &str| sessions.export(&a, &name(it)).unwrap();
    assert_eq!(export("s"), export("f"));
    let wrong = sessions.truncate(&a, &name("s"), 49).unwrap_err().to_string();
    assert!(wrong.contains("36, 48, 57"), "{wrong}");
    assert!(matches!(
        sessions.fork(&a, &name("s"), &name("f"), None),
        Err(SessionError::Exists { .. })
    ));
    sessions.rename(&a, &name("f"), &name("g")).unwrap();
    assert_eq!(export("s"), export("g"));
    let names: Vec<String> =
        sessions.list(&a).unwrap().iter().map(|info| info.name.to_string()).collect();
    assert_eq!(names, ["g", "s"]);
    // Another owner has none of them, and may use the same names.
    assert!(sessions.list(&b).unwrap().is_empty());
    for refused in [
        sessions.show(&b, &name("s")).err(),
        sessions.fork(&b, &name("s"), &name("t"), None).err(),
        sessions.rename(&b, &name("s"), &name("t")).err(),
        sessions.truncate(&b, &name("s"), 48).err(),
        sessions.erase(&b, &name("s")).err(),
        sessions.export(&b, &name("s")).err(),
    ] {
        assert!(matches!(refused, Some(SessionError::NotFound { .. })), "{refused:?}");
    }
    sessions.erase(&a, &name("s")).unwrap();
    assert!(matches!(sessions.show(&a, &name("s")), Err(SessionError::NotFound { .. })));
    sessions.erase(&a, &name("g")).unwrap();
    assert_eq!(sessions.used(&a).unwrap(), Used::default());
    assert_eq!(sessions.counters().sessions_hot.get(), 0, "their states are gone from memory");
}

#[test]
fn notes_and_documents_are_kept_with_the_sessions() {
    let engine = tiny(Format::F32, 1);
    let sessions = Sessions::in_memory(settings()).unwrap();
    let host = host(&engine, &sessions, None, HostSettings::default());
    let a = owner("a");
    let mut job = turn("s", ids(10, 1), 2, 1);
    let note = Some(b"the turns".to_vec());
    job.keep = Keep::Session(KeepSession { note, ..KeepSession::new(name("s")) });
    run(&host, job).unwrap();
    run(&host, turn("s", ids(3, 1), 2, 1)).unwrap();
    assert_eq!(sessions.note(&a, &name("s")).unwrap().unwrap(), b"the turns");
    sessions.fork(&a, &name("s"), &name("f"), None).unwrap();
    sessions.set_note(&a, &name("s"), Some(b"others".to_vec())).unwrap();
    assert_eq!(sessions.note(&a, &name("f")).unwrap().unwrap(), b"the turns");
    assert_eq!(sessions.note(&a, &name("s")).unwrap().unwrap(), b"others");
    sessions.set_note(&a, &name("s"), None).unwrap();
    assert_eq!(sessions.note(&a, &name("s")).unwrap(), None);
    let used = sessions.used(&a).unwrap();
    sessions.put_document(&a, "response", "r1", b"{}", None).unwrap();
    sessions.put_document(&a, "response", "r2", b"{1}", Some(Duration::from_secs(60))).unwrap();
    sessions.put_document(&a, "responses", "r3", b"", None).unwrap();
    assert_eq!(sessions.documents(&a, "response").unwrap(), ["r1", "r2"]);
    assert_eq!(sessions.document(&a, "response", "r2").unwrap().unwrap(), b"{1}");
    assert_eq!(sessions.document(&owner("b"), "response", "r2").unwrap(), None);
    sessions.shelf.clock.pass(Duration::from_secs(61));
    assert_eq!(sessions.document(&a, "response", "r2").unwrap(), None);
    assert_eq!(sessions.documents(&a, "response").unwrap(), ["r1"]);
    assert_eq!(sessions.sweep().unwrap(), 1);
    assert!(sessions.erase_document(&a, "response", "r1").unwrap());
    assert!(!sessions.erase_document(&a, "response", "r1").unwrap());
    assert!(sessions.erase_document(&a, "responses", "r3").unwrap());
    assert_eq!(sessions.used(&a).unwrap(), used);
    for (kind, id) in [("a/b", "c"), ("", "c"), ("a", "../c")] {
        assert!(sessions.put_document(&a, kind, id, b"", None).is_err());
    }
}

#[test]
fn a_note_of_what_was_written_comes_with_the_state_in_one_commit() {
    let engine = tiny(Format::F32, 1);
    let sessions = Sessions::in_memory(settings()).unwrap();
    let host = host(&engine, &sessions, None, HostSettings::default());
    let a = owner("a");
    let mut job = turn("s", ids(10, 0), 3, 0);
    let note = Some(b"what was asked".to_vec());
    job.keep = Keep::Session(KeepSession { note, ..KeepSession::new(name("s")) });
    let told = Arc::new(AtomicUsize::new(0));
    let heard = told.clone();
    job.noting = Some(Box::new(move |position: u64| {
        format!("{} of {position}", heard.load(Ordering::Relaxed)).into_bytes()
    }));
    let (send, receive) = channel();
    let sink: Sink = Box::new(move |event| {
        told.fetch_add(usize::from(matches!(event, Event::Token { .. })), Ordering::Relaxed);
        match send.send(event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    });
    let ticket = host.submit(job, sink).unwrap();
    assert!(receive.iter().any(|event| matches!(event, Event::Done(_))));
    drop(ticket);
    assert_eq!(sessions.note(&a, &name("s")).unwrap().unwrap(), b"3 of 13");
    assert_eq!(sessions.counters().commits.get(), 1);
}

#[test]
fn a_session_expires_after_its_last_use() {
    let engine = tiny(Format::F32, 1);
    let sessions = Sessions::in_memory(settings()).unwrap();
    let host = host(&engine, &sessions, None, HostSettings::default());
    let a = owner("a");
    let mut job = turn("s", ids(10, 1), 2, 1);
    let ttl = Some(Duration::from_secs(100));
    job.keep = Keep::Session(KeepSession { ttl, ..KeepSession::new(name("s")) });
    run(&host, job).unwrap();
    run(&host, turn("forever", ids(10, 1), 2, 1)).unwrap();
    let clock = &sessions.shelf.clock;
    clock.pass(Duration::from_secs(99));
    // A turn is a use, and leaves the time to live as it was.
    run(&host, turn("s", ids(3, 1), 2, 1)).unwrap();
    clock.pass(Duration::from_secs(99));
    assert_eq!(sessions.show(&a, &name("s")).unwrap().position, 17);
    clock.pass(Duration::from_secs(2));
    assert!(matches!(sessions.show(&a, &name("s")), Err(SessionError::NotFound { .. })));
    assert_eq!(sessions.list(&a).unwrap().len(), 1);
    // The name is free again, and the old one's bytes are not counted any more.
    run(&host, turn("s", ids(10, 1), 2, 1)).unwrap();
    let used = sessions.used(&a).unwrap();
    let bytes: u64 = sessions.list(&a).unwrap().iter().map(|info| info.bytes).sum();
    assert_eq!(used, Used { sessions: 2, bytes });
    sessions.set_ttl(&a, &name("s"), Some(Duration::from_secs(1))).unwrap();
    clock.pass(Duration::from_secs(2));
    assert_eq!(sessions.sweep().unwrap(), 1);
    assert_eq!(sessions.used(&a).unwrap().sessions, 1);
}

#[test]
fn what_expires_is_known_again_after_a_restart() {
    let engine = tiny(Format::F32, 1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.redb");
    let (a, ttl) = (owner("a"), Some(Duration::from_secs(100)));
    let (sessions, _) = Sessions::open(&path, settings()).unwrap();
    filled(&sessions, &engine, 4);
    for called in ["s0", "s1", "s2"] {
        sessions.set_ttl(&a, &name(called), ttl).unwrap();
    }
    sessions.set_ttl(&a, &name("s1"), None).unwrap();
    sessions.rename(&a, &name("s2"), &name("other")).unwrap();
    sessions.put_document(&a, "kind", "brief", b"x", ttl).unwrap();
    sessions.put_document(&a, "kind", "long", b"x", None).unwrap();
    drop(sessions);
    let (sessions, _) = Sessions::open(&path, settings()).unwrap();
    assert_eq!(sessions.sweep().unwrap(), 0);
    sessions.shelf.clock.pass(Duration::from_secs(101));
    assert_eq!(sessions.shelf.sweep(Some(&owner("b"))).unwrap(), 0);
    // One that somebody has is erased later.
    let held = sessions.shelf.lease(&a, &name("s0")).unwrap();
    assert_eq!(sessions.sweep().unwrap(), 2);
    drop(held);
    assert_eq!(sessions.sweep().unwrap(), 1);
    assert_eq!(sessions.sweep().unwrap(), 0);
    let left: Vec<String> =
        sessions.list(&a).unwrap().iter().map(|info| info.name.to_string()).collect();
    assert_eq!(left, ["s1", "s3"]);
    assert_eq!(sessions.documents(&a, "kind").unwrap(), ["long"]);
}

#[test]
fn a_name_and_a_time_to_live_change_in_one_commit() {
    let engine = tiny(Format::F32, 1);
    let sessions = Sessions::in_memory(settings()).unwrap();
    filled(&sessions, &engine, 1);
    let (a, s, t) = (owner("a"), name("s0"), name("t"));
    let before = sessions.counters().commits.get();
    let commits = || sessions.counters().commits.get() - before;
    let ttl = Some(Some(Duration::from_secs(9)));
    let info = sessions.alter(&a, &s, Some(&t), ttl).unwrap();
    assert_eq!((info.name.as_str(), info.expires), ("t", Some(info.used + 9)));
    assert_eq!(commits(), 1);
    let info = sessions.alter(&a, &t, Some(&t), Some(None)).unwrap();
    assert_eq!((info.name.as_str(), info.expires), ("t", None));
    sessions.alter(&a, &t, Some(&s), None).unwrap();
    assert_eq!(commits(), 3);
    assert_eq!(sessions.alter(&a, &s, None, None).unwrap().name, s);
    assert_eq!(commits(), 3);
    // A session in its own place is there already, if it is there at all.
    for refused in [sessions.fork(&a, &s, &s, None), sessions.rename(&a, &s, &s)] {
        assert!(matches!(refused, Err(SessionError::Exists { .. })), "{refused:?}");
    }
    let unknown = sessions.fork(&a, &t, &t, None);
    assert!(matches!(unknown, Err(SessionError::NotFound { .. })), "{unknown:?}");
}

#[test]
fn a_damaged_session_is_told_once_and_its_states_go_with_it() {
    let engine = tiny(Format::F32, 1);
    let sessions = Sessions::in_memory(settings()).unwrap();
    filled(&sessions, &engine, 3);
    let a = owner("a");
    // The last byte of a record is one of its hash.
    let damage = |called: &str| -> Vec<u128> {
        let record = sessions.shelf.require(&a, &name(called)).unwrap();
        let (key, mut value) = (key(&a, &name(called)), record.to_bytes());
        *value.last_mut().unwrap() ^= 1;
        let mut batch = Batch::new(&a);
        batch.put.push(Put { key, value, expires: None });
        sessions.shelf.commit(batch).unwrap();
        record.blobs().map(|blob| blob.id).collect()
    };
    let states = [damage("s0"), damage("s1")].concat();
    assert!(states.iter().all(|&id| sessions.shelf.backend.blob(&a, id).unwrap().is_some()));
    for told in [2, 0] {
        assert_eq!(sessions.list(&a).unwrap().len(), 1);
        let damaged = sessions.newly_damaged();
        assert_eq!(damaged.len(), told, "{damaged:?}");
        let named = |it: &String| it.starts_with("the session `s") && it.contains("of `a`: ");
        assert!(damaged.iter().all(named), "{damaged:?}");
    }
    sessions.erase(&a, &name("s0")).unwrap();
    let host = host(&engine, &sessions, None, HostSettings::default());
    let mut job = write(ids(3, 1), 2, 1);
    job.keep = Keep::Session(KeepSession { replace: true, ..KeepSession::new(name("s1")) });
    run(&host, job).unwrap();
    assert!(states.iter().all(|&id| sessions.shelf.backend.blob(&a, id).unwrap().is_none()));
    assert_eq!(sessions.list(&a).unwrap().len(), 2);
    assert!(sessions.check().unwrap().is_empty());
}

#[test]
fn an_owner_keeps_no_more_than_allowed() {
    let engine = tiny(Format::F32, 1);
    let limits = SessionsSettings { sessions_per_owner: 2, ..settings() };
    let sessions = Sessions::in_memory(limits.clone()).unwrap();
    let host_ = host(&engine, &sessions, None, HostSettings::default());
    for at in 0..2 {
        run(&host_, turn(&format!("s{at}"), ids(10, 1), 2, 1)).unwrap();
    }
    let third = run(&host_, turn("s2", ids(10, 1), 2, 1));
    assert!(matches!(third, Err(JobError::Session(SessionError::Quota { limit: 2, .. }))));
    // One that has expired makes room without a sweep.
    let ttl = Some(Duration::from_secs(1000));
    let brief = Sessions::in_memory(SessionsSettings { ttl, ..limits }).unwrap();
    let short = host(&engine, &brief, None, HostSettings::default());
    for name in ["x", "y"] {
        run(&short, turn(name, ids(5, 1), 2, 1)).unwrap();
    }
    assert!(run(&short, turn("z", ids(5, 1), 2, 1)).is_err());
    brief.shelf.clock.pass(Duration::from_secs(1001));
    run(&short, turn("z", ids(5, 1), 2, 1)).unwrap();
    assert_eq!(brief.used(&owner("a")).unwrap().sessions, 1);
    let a = owner("a");
    let forked = sessions.fork(&a, &name("s0"), &name("s2"), None);
    assert!(matches!(forked, Err(SessionError::Quota { .. })));
    run(&host_, turn("s0", ids(10, 1), 2, 1)).unwrap();
    let mut other = turn("s0", ids(10, 1), 2, 1);
    other.owner = owner("b");
    run(&host_, other).unwrap();
    let bytes_per_owner = sessions.show(&a, &name("s0")).unwrap().bytes;
    let sessions = Sessions::in_memory(SessionsSettings { bytes_per_owner, ..settings() }).unwrap();
    let host = host(&engine, &sessions, None, HostSettings::default());
    run(&host, turn("s0", ids(10, 1), 2, 1)).unwrap();
    let before = sessions.export(&a, &name("s0")).unwrap();
    let mut refused = 0;
    for at in 0..3 {
        let ran = run(&host, turn("s0", ids(10, 1), 2, at));
        refused += usize::from(matches!(ran, Err(JobError::Session(SessionError::Quota { .. }))));
    }
    assert!(refused >= 1);
    assert!(sessions.export(&a, &name("s0")).unwrap().len() >= before.len() / 2);
    assert!(Sessions::in_memory(SessionsSettings { checkpoints: 0, ..settings() }).is_err());
}

/// A whole prompt whose session only spares work, without the state cache.
fn hinted(session: &str, seed: u64) -> Job {
    let mut job = write(ids(10, seed), 2, seed);
    job.start = Start::Prefix { name: name(session) };
    job.keep = Keep::Session(KeepSession { hint: true, ..KeepSession::new(name(session)) });
    job.cache = false;
    job
}

/// The same of another owner.
fn of_owner(id: &str, job: Job) -> Job {
    Job { owner: owner(id), ..job }
}

fn names(sessions: &Sessions, of: &str) -> Vec<String> {
    sessions.list(&owner(of)).unwrap().iter().map(|info| info.name.to_string()).collect()
}

#[test]
fn hints_make_room_the_longest_unused_first_and_fail_no_job() {
    let engine = tiny(Format::F32, 1);
    let limits = SessionsSettings { sessions_per_owner: 3, ..settings() };
    let sessions = Sessions::in_memory(limits).unwrap();
    let host = host(&engine, &sessions, None, HostSettings::default());
    for hint in ["h0", "h1", "h2", "h0"] {
        let ran = run(&host, hinted(hint, 1)).unwrap();
        assert_eq!(ran.outcome().usage.cache_written, 12);
        assert!(ran.outcome().session.is_some());
        sessions.shelf.clock.pass(Duration::from_secs(1));
    }
    run(&host, hinted("h3", 3)).unwrap();
    assert_eq!(names(&sessions, "a"), ["h0", "h2", "h3"]);
    // One that is in use stays.
    let held = sessions.shelf.lease(&owner("a"), &name("h2")).unwrap();
    run(&host, turn("s0", ids(10, 1), 2, 1)).unwrap();
    drop(held);
    assert_eq!(names(&sessions, "a"), ["h2", "h3", "s0"]);
    for session in ["s1", "s2"] {
        run(&host, turn(session, ids(10, 1), 2, 1)).unwrap();
    }
    assert_eq!(names(&sessions, "a"), ["s0", "s1", "s2"]);
    // There is no room for a hint any more; its text is the same.
    let ran = run(&host, hinted("h4", 1)).unwrap();
    assert_eq!((ran.outcome().usage.cache_written, &ran.outcome().session), (0, &None));
    let other = run(&host, of_owner("b", hinted("h4", 1))).unwrap();
    assert_eq!((ran.tokens, other.outcome().usage.cache_written), (other.tokens, 12));
    let third = run(&host, turn("s3", ids(10, 1), 2, 1));
    assert!(matches!(third, Err(JobError::Session(SessionError::Quota { limit: 3, .. }))));
    let bytes: u64 = sessions.list(&owner("a")).unwrap().iter().map(|info| info.bytes).sum();
    assert_eq!(sessions.used(&owner("a")).unwrap(), Used { sessions: 3, bytes });
}

#[test]
fn a_hint_that_cannot_be_written_or_read_fails_no_job() {
    let engine = tiny(Format::F32, 1);
    let limits = SessionsSettings { bytes_per_owner: 10, ..settings() };
    let sessions = Sessions::in_memory(limits).unwrap();
    let host_ = host(&engine, &sessions, None, HostSettings::default());
    // Its bytes are known at its end alone.
    let ran = run(&host_, hinted("h", 1)).unwrap();
    assert_eq!((ran.outcome().usage.cache_written, &ran.outcome().session), (0, &None));
    assert!(names(&sessions, "a").is_empty());
    // One that someone else has, and one whose record is damaged.
    let sessions = Sessions::in_memory(settings()).unwrap();
    let host_ = host(&engine, &sessions, None, HostSettings::default());
    let (a, h) = (owner("a"), name("h"));
    run(&host_, hinted("h", 1)).unwrap();
    let held = sessions.shelf.lease(&a, &h).unwrap();
    assert_eq!(run(&host_, hinted("h", 1)).unwrap().outcome().session, None);
    drop(held);
    let mut batch = Batch::new(&a);
    batch.put.push(Put { key: key(&a, &h), value: b"no record".to_vec(), expires: None });
    sessions.shelf.commit(batch).unwrap();
    assert!(run(&host_, hinted("h", 1)).unwrap().outcome().session.is_some());
    assert_eq!(names(&sessions, "a"), ["h"]);
}

#[test]
fn a_hint_lives_for_a_day_unless_somebody_wants_it_kept() {
    let engine = tiny(Format::F32, 1);
    let sessions = Sessions::in_memory(settings()).unwrap();
    let host = host(&engine, &sessions, None, HostSettings::default());
    let a = owner("a");
    let lives = |called: &str| {
        let info = sessions.show(&a, &name(called)).unwrap();
        info.expires.map(|expires| expires - info.used)
    };
    for hint in ["h0", "h1", "h2", "h3"] {
        run(&host, hinted(hint, 1)).unwrap();
        assert_eq!(lives(hint), Some(24 * 60 * 60));
    }
    sessions.fork(&a, &name("h0"), &name("copy"), None).unwrap();
    sessions.rename(&a, &name("h0"), &name("renamed")).unwrap();
    sessions.set_ttl(&a, &name("h1"), Some(Duration::from_secs(9))).unwrap();
    run(&host, turn("h2", ids(3, 1), 2, 1)).unwrap();
    let kept = [lives("copy"), lives("renamed"), lives("h1"), lives("h2"), lives("h3")];
    assert_eq!(kept, [None, None, Some(9), None, Some(24 * 60 * 60)]);
    let is_hint = |it: &str| sessions.shelf.require(&a, &name(it)).unwrap().hint;
    assert!(is_hint("h3") && !["copy", "renamed", "h1", "h2"].into_iter().any(is_hint));
    sessions.shelf.clock.pass(Duration::from_secs(24 * 60 * 60 + 1));
    assert_eq!(names(&sessions, "a"), ["copy", "h2", "renamed"]);
}

#[test]
fn a_store_in_memory_keeps_to_its_bytes() {
    let engine = tiny(Format::F32, 1);
    let held = |sessions: &Sessions| sessions.shelf.backend.bound().unwrap().held;
    let begin = |sessions: &Arc<Sessions>, jobs: [Job; 3]| {
        let host = host(&engine, sessions, None, HostSettings::default());
        for job in jobs {
            run(&host, job).unwrap();
            sessions.shelf.clock.pass(Duration::from_secs(1));
        }
        host
    };
    let jobs = || [hinted("h0", 1), of_owner("b", hinted("h1", 1)), turn("s0", ids(10, 1), 2, 1)];
    let roomy = Sessions::in_memory(settings()).unwrap();
    drop(begin(&roomy, jobs()));
    // Room for half of one more, in three quarters of the memory.
    let one = held(&roomy) / 3;
    let memory = (held(&roomy) + one / 2) * 4 / 3;
    let sessions = Sessions::in_memory(SessionsSettings { memory, ..settings() }).unwrap();
    let host = begin(&sessions, jobs());
    let limit = sessions.shelf.backend.bound().unwrap().limit;
    // Hints of any owner make room, and then nothing does.
    run(&host, turn("s1", ids(10, 1), 2, 1)).unwrap();
    assert_eq!(
        (names(&sessions, "a"), names(&sessions, "b")),
        (vec!["s0".into(), "s1".into()], vec!["h1".into()])
    );
    run(&host, turn("s2", ids(10, 1), 2, 1)).unwrap();
    assert!(names(&sessions, "b").is_empty());
    let refused = run(&host, of_owner("b", turn("s3", ids(10, 1), 2, 1)));
    assert!(
        matches!(refused, Err(JobError::Session(SessionError::Memory { limit: of })) if of == limit)
    );
    assert_eq!(run(&host, hinted("h2", 1)).unwrap().outcome().session, None);
    assert!(held(&sessions) <= limit);
    // What is erased makes room again.
    sessions.erase(&owner("a"), &name("s1")).unwrap();
    run(&host, of_owner("b", turn("s3", ids(10, 1), 2, 1))).unwrap();
}

#[test]
fn a_file_is_examined_without_a_change_of_it() {
    let engine = tiny(Format::F32, 1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.redb");
    let (sessions, _) = Sessions::open(&path, settings()).unwrap();
    filled(&sessions, &engine, 3);
    let a = owner("a");
    let Used { sessions: count, bytes } = sessions.used(&a).unwrap();
    let busy = Sessions::examine(&path);
    assert!(matches!(busy, Err(SessionError::Storage { .. })), "{busy:?}");
    let killed = folder.path().join("killed.redb");
    fs_err::copy(&path, &killed).unwrap();
    let after = Sessions::examine(&killed).unwrap_err().to_string();
    assert!(after.contains("not closed in order"), "{after}");
    drop(sessions);
    let before = fs_err::read(&path).unwrap();
    let report = Sessions::examine(&path).unwrap();
    assert_eq!((report.sessions, report.bytes, report.damaged), (count, bytes, Vec::new()));
    assert!(fs_err::read(&path).unwrap() == before);
    // A state that is gone.
    let (sessions, _) = Sessions::open(&path, settings()).unwrap();
    let record = sessions.shelf.require(&a, &name("s1")).unwrap();
    let mut batch = Batch::new(&a);
    batch.drop_blobs.push(record.saved[0].state.id);
    sessions.shelf.commit(batch).unwrap();
    drop(sessions);
    let report = Sessions::examine(&path).unwrap();
    assert_eq!(report.damaged, ["the session `s1` of `a`: its bytes are not whole"]);
    fs_err::write(&path, [7; 10_000]).unwrap();
    assert!(matches!(Sessions::examine(&path), Err(SessionError::Damaged { .. })));
}

#[test]
fn limits_change_while_the_store_is_open_and_an_owner_may_have_its_own() {
    let engine = tiny(Format::F32, 1);
    let limits = SessionsSettings { sessions_per_owner: 1, ..settings() };
    let sessions = Sessions::in_memory(limits.clone()).unwrap();
    let host = host(&engine, &sessions, None, HostSettings::default());
    let begin = |of: &str, session: &str| {
        let mut job = turn(session, ids(10, 1), 2, 1);
        job.owner = owner(of);
        match run(&host, job) {
            Ok(_) => None,
            Err(JobError::Session(SessionError::Quota { what, limit })) => Some((what, limit)),
            Err(error) => panic!("{error}"),
        }
    };
    let own = |sessions, bytes| [(owner("a"), Quota { sessions, bytes })].into();
    sessions.set_own_quotas(own(Some(2), None));
    assert_eq!((begin("a", "x"), begin("a", "y")), (None, None));
    assert_eq!(begin("a", "z"), Some(("sessions", 2)));
    assert_eq!(begin("b", "x"), None);
    assert_eq!(begin("b", "y"), Some(("sessions", 1)));
    // The limit of all is raised; that of its own stays.
    sessions.renew(&SessionsSettings { sessions_per_owner: 3, ..limits });
    assert_eq!((begin("b", "y"), begin("a", "z")), (None, Some(("sessions", 2))));
    sessions.set_own_quotas(own(None, Some(1)));
    assert_eq!(begin("a", "z"), Some(("bytes", 1)));
    sessions.set_own_quotas(own(None, None));
    assert_eq!(begin("a", "z"), None);
    let ttl = Some(Duration::from_secs(5));
    sessions.renew(&SessionsSettings { ttl, ..settings() });
    assert_eq!(begin("a", "brief"), None);
    sessions.shelf.clock.pass(Duration::from_secs(6));
    let a = owner("a");
    assert!(matches!(sessions.show(&a, &name("brief")), Err(SessionError::NotFound { .. })));
    assert!(sessions.show(&a, &name("z")).is_ok(), "it was begun without a time to live");
}

#[test]
fn a_session_in_the_place_of_one_that_has_expired_comes_in_one_commit() {
    let engine = tiny(Format::F32, 1);
    let sessions = Sessions::in_memory(settings()).unwrap();
    let a = owner("a");
    let bytes = filled(&sessions, &engine, 1).remove(0);
    let mut snapshot = Snapshot::from_bytes(&bytes).unwrap();
    snapshot.note = Some("turns".into());
    let noted = snapshot.to_bytes();
    let ttl = Some(Duration::from_secs(10));
    let import = |check: fn(&[u8], u64) -> Option<Vec<u8>>| {
        let before = sessions.counters().commits.get();
        let imported = sessions.import(&a, &name("in"), &noted, &engine, ttl, check);
        (imported, sessions.counters().commits.get() - before)
    };
    let (refused, commits) = import(|_, _| None);
    assert!(matches!(refused, Err(SessionError::Note)), "{refused:?}");
    assert_eq!(commits, 0);
    assert!(matches!(sessions.show(&a, &name("in")), Err(SessionError::NotFound { .. })));
    for _ in 0..2 {
        let (imported, commits) = import(|note, position| {
            assert_eq!((note, position), (&b"turns"[..], 13));
            Some(b"checked".to_vec())
        });
        assert_eq!((imported.unwrap().position, commits), (13, 1));
        assert_eq!(sessions.note(&a, &name("in")).unwrap().unwrap(), b"checked");
        assert!(matches!(import(any_note).0, Err(SessionError::Exists { .. })));
        sessions.shelf.clock.pass(Duration::from_secs(11));
    }
    // What expired is gone with its bytes, whether a copy or a name takes its place.
    sessions.fork(&a, &name("s0"), &name("in"), None).unwrap();
    sessions.set_ttl(&a, &name("in"), ttl).unwrap();
    sessions.fork(&a, &name("s0"), &name("other"), None).unwrap();
    sessions.shelf.clock.pass(Duration::from_secs(11));
    sessions.rename(&a, &name("other"), &name("in")).unwrap();
    let bytes: u64 = sessions.list(&a).unwrap().iter().map(|info| info.bytes).sum();
    assert_eq!(sessions.used(&a).unwrap(), Used { sessions: 2, bytes });
}

#[test]
fn a_snapshot_from_outside_is_checked_in_every_byte() {
    let engine = tiny(Format::F32, 1);
    let sessions = Sessions::in_memory(settings()).unwrap();
    let bytes = filled(&sessions, &engine, 1).remove(0);
    let a = owner("a");
    sessions.import(&a, &name("copy"), &bytes, &engine, None, any_note).unwrap();
    assert_eq!(sessions.export(&a, &name("copy")).unwrap(), bytes);
    // The caller's own bytes go with it where they are text.
    for (note, goes) in [(&b"the turns"[..], true), (&b"\xff"[..], false)] {
        sessions.set_note(&a, &name("copy"), Some(note.to_vec())).unwrap();
        let noted = sessions.export(&a, &name("copy")).unwrap();
        sessions.import(&a, &name("noted"), &noted, &engine, None, any_note).unwrap();
        let found = sessions.note(&a, &name("noted")).unwrap();
        assert_eq!(found.as_deref(), goes.then_some(note));
        sessions.erase(&a, &name("noted")).unwrap();
    }
    sessions.set_note(&a, &name("copy"), None).unwrap();
    let host = host(&engine, &sessions, None, HostSettings::default());
    for it in ["s0", "copy"] {
        run(&host, turn(it, ids(5, 9), 4, 9)).unwrap();
    }
    let export = |it: &str| sessions.export(&a, &name(it)).unwrap();
    assert_eq!(export("s0"), export("copy"));
    let mut random = Random(1);
    let places: Vec<usize> = (0..600)
        .chain((0..300).map(|_| random.below(bytes.len() as u64) as usize))
        .chain([bytes.len() - 1])
        .collect();
    for at in places {
        let mut altered = bytes.clone();
        altered[at] ^= 1 << random.below(8);
        let refused = sessions.import(&a, &name("bad"), &altered, &engine, None, any_note);
        let error = refused.err().unwrap_or_else(|| panic!("byte {at}")).to_string();
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    for len in [0, 7, 8, 100, bytes.len() - 1] {
        assert!(sessions.import(&a, &name("bad"), &bytes[..len], &engine, None, any_note).is_err());
    }
    let other = tiny(Format::F32, 2);
    let refused = sessions.import(&a, &name("bad"), &bytes, &other, None, any_note);
    assert!(matches!(refused, Err(SessionError::Snapshot(_))));
    let small =
        Sessions::in_memory(SessionsSettings { snapshot_bytes: 100, ..settings() }).unwrap();
    let refused = small.import(&a, &name("bad"), &bytes, &engine, None, any_note);
    assert!(matches!(refused, Err(SessionError::TooLarge { .. })));
    assert_eq!(sessions.list(&a).unwrap().len(), 2);
    // A session of one model is not continued by another.
    let host = crate::testing::host(&other, &sessions, None, HostSettings::default());
    let refused = run(&host, turn("s0", ids(5, 9), 4, 9));
    assert!(matches!(refused, Err(JobError::Session(SessionError::OtherModel { .. }))));
}

/// What a kill leaves: the file as it is after a job's end, while the process still has it open.
#[test]
fn what_a_job_was_told_to_be_kept_is_there_after_a_kill() {
    let engine = tiny(Format::F32, 1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.redb");
    let (sessions, report) = Sessions::open(&path, settings()).unwrap();
    assert_eq!(report, Default::default());
    let host_ = host(&engine, &sessions, None, HostSettings::default());
    for at in 0..5 {
        run(&host_, turn("s", ids(10 + at, at as u64), 3, at as u64)).unwrap();
        let killed = folder.path().join(format!("killed-{at}.redb"));
        fs_err::copy(&path, &killed).unwrap();
        let (after, report) = Sessions::open(&killed, settings()).unwrap();
        assert_eq!((report.sessions, report.damaged), (1, Vec::new()));
        let a = owner("a");
        assert_eq!(after.export(&a, &name("s")).unwrap(), sessions.export(&a, &name("s")).unwrap());
        assert_eq!(after.show(&a, &name("s")).unwrap(), sessions.show(&a, &name("s")).unwrap());
        assert_eq!(after.used(&a).unwrap(), sessions.used(&a).unwrap());
        // Both go on alike.
        let second = host(&engine, &after, None, HostSettings::default());
        let ran = run(&second, turn("s", ids(5, 9), 6, 9)).unwrap();
        let mut again = turn("s", ids(5, 9), 6, 9);
        again.keep = Keep::Nothing;
        again.start = Start::Session { name: name("s"), or_new: false };
        let twice = run(&host_, again).unwrap();
        assert_eq!(ran.tokens, twice.tokens);
    }
    // A second process is refused.
    assert!(matches!(Sessions::open(&path, settings()), Err(SessionError::Storage { .. })));
}

/// In a process of its own: in a build with debug assertions, a panic of the database while it unwinds
/// from another one would end the other tests with it.
#[test]
fn of_a_damaged_database_the_whole_sessions_are_served() {
    const CHILD: &str = "LONGHAND_DAMAGED_DATABASE";
    if std::env::var_os(CHILD).is_some() {
        return damage();
    }
    let test = "sessions::tests::of_a_damaged_database_the_whole_sessions_are_served";
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&child.stderr).into_owned();
    let last: Vec<&str> = told.lines().rev().take(8).collect();
    assert!(child.status.success(), "{}: {last:#?}", child.status);
}

/// A database with bytes overwritten: each session has its bytes, or is named as damaged.
fn damage() {
    let engine = tiny(Format::F32, 1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.redb");
    let (sessions, _) = Sessions::open(&path, settings()).unwrap();
    let expected = filled(&sessions, &engine, 12);
    drop(sessions);
    let whole = fs_err::read(&path).unwrap();
    let mut random = Random(5);
    let (mut served, mut named, mut aside) = (0, 0, 0);
    for case in 0..60 {
        let damaged = folder.path().join(format!("damaged-{case}.redb"));
        let mut bytes = whole.clone();
        for _ in 0..1 + random.below(6) {
            let at = random.below(bytes.len() as u64) as usize;
            let end = bytes.len().min(at + 1 + random.below(300) as usize);
            bytes[at..end].fill(random.next() as u8);
        }
        fs_err::write(&damaged, bytes).unwrap();
        let (sessions, report) = match Sessions::open(&damaged, settings()) {
            Ok(opened) => opened,
            Err(error) => {
                assert_eq!(error.to_string().lines().count(), 1, "case {case}: {error}");
                aside += 1;
                continue;
            }
        };
        if fs_err::read_dir(folder.path()).unwrap().any(|entry| {
            let name = entry.unwrap().file_name().to_string_lossy().into_owned();
            name.starts_with(&format!("damaged-{case}.redb.damaged"))
        }) {
            aside += 1;
            assert_eq!(report.damaged.len(), 1);
            continue;
        }
        for (at, expected) in expected.iter().enumerate() {
            match sessions
                .shelf
                .require(&owner("a"), &name(&format!("s{at}")))
                .and_then(|record| sessions.shelf.load(&record, record.saved.len() - 1, &engine))
            {
                Ok(session) => {
                    assert_eq!(&Snapshot::of(&session).to_bytes(), expected, "case {case}");
                    served += 1;
                }
                Err(error) => {
                    let text = error.to_string();
                    assert!(
                        text.contains(&format!("s{at}")) || !report.damaged.is_empty(),
                        "{text}"
                    );
                    named += 1;
                }
            }
        }
        // What the check does not name is exported whole, or refused by its name.
        if let Ok(broken) = sessions.check() {
            for (at, expected) in expected.iter().enumerate() {
                let (called, own) = (format!("s{at}"), format!("the session `s{at}` "));
                match sessions.export(&owner("a"), &name(&called)) {
                    Ok(bytes) => assert_eq!(&bytes, expected, "case {case}"),
                    Err(error) if broken.iter().any(|it| it.starts_with(&own)) => drop(error),
                    Err(error) => assert!(error.to_string().contains(&called), "{case}: {error}"),
                }
            }
        }
        // And what is new can be kept, or it is said that it cannot.
        let host = host(&engine, &sessions, None, HostSettings::default());
        match run(&host, turn("new", ids(3, 1), 2, 1)) {
            Ok(_) | Err(JobError::Session(_)) => {}
            Err(error) => panic!("case {case}: {error}"),
        }
    }
    assert!(served > 12 * 20, "{served} served, {named} named, {aside} put aside");
    assert!(named > 0, "no session was hit");
}

#[test]
fn a_file_of_mostly_free_space_becomes_small_when_it_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.redb");
    let size = || fs_err::metadata(&path).unwrap().len();
    let (a, large) = (owner("a"), vec![7; 3 << 20]);
    let (sessions, _) = Sessions::open(&path, settings()).unwrap();
    for at in 0..8 {
        sessions.put_document(&a, "kind", &format!("large-{at}"), &large, None).unwrap();
        sessions.put_document(&a, "kind", &format!("small-{at}"), b"stays", None).unwrap();
    }
    drop(sessions);
    let full = size();
    let (sessions, _) = Sessions::open(&path, settings()).unwrap();
    for at in 0..8 {
        assert!(sessions.erase_document(&a, "kind", &format!("large-{at}")).unwrap());
    }
    drop(sessions);
    // The database gives back what is free at the end of its file; the rest is given back here.
    let before = size();
    let (sessions, report) = Sessions::open(&path, settings()).unwrap();
    let after = size();
    assert!(after < full / 4, "{full}, {before}, {after}");
    assert_eq!(report.compacted, (before >= 16 << 20).then_some((before, after)));
    for at in 0..8 {
        let kept = sessions.document(&a, "kind", &format!("small-{at}")).unwrap();
        assert_eq!(kept.unwrap(), b"stays");
    }
    assert_eq!(sessions.documents(&a, "kind").unwrap().len(), 8);
    drop(sessions);
    assert_eq!(Sessions::open(&path, settings()).unwrap().1.compacted, None, "it is small");
}

#[test]
fn a_file_that_is_no_database_is_put_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.redb");
    fs_err::write(&path, [7; 10_000]).unwrap();
    let (sessions, report) = Sessions::open(&path, settings()).unwrap();
    assert!(report.damaged[0].contains("put aside"), "{report:?}");
    assert!(sessions.list(&owner("a")).unwrap().is_empty());
    let files: Vec<_> = fs_err::read_dir(folder.path()).unwrap().collect();
    assert_eq!(files.len(), 2);
    assert!(Sessions::open(Path::new("/nowhere/at/all"), settings()).is_err());
}

#[test]
fn states_leave_memory_and_come_back() {
    let engine = tiny(Format::F32, 1);
    let mut one = engine.session(SamplerSettings::default()).unwrap();
    one.read(&mut reader(&engine), &ids(3, 1)).unwrap();
    let memory = 3 * crate::lru::bytes_of(&one);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.redb");
    let (sessions, _) = Sessions::open(&path, SessionsSettings { memory, ..settings() }).unwrap();
    let expected = filled(&sessions, &engine, 8);
    let counters = sessions.counters();
    assert_eq!(counters.sessions_hot.get(), 3);
    assert!(counters.sessions_hot_bytes.get() <= memory);
    let host = host(&engine, &sessions, None, HostSettings::default());
    for (at, expected) in expected.iter().enumerate() {
        assert_eq!(&sessions.export(&owner("a"), &name(&format!("s{at}"))).unwrap(), expected);
        run(&host, turn(&format!("s{at}"), ids(4, 1), 2, 3)).unwrap();
    }
    assert!(counters.session_loads.get() >= 5);
    sessions.cool();
    assert_eq!((counters.sessions_hot.get(), counters.sessions_hot_bytes.get()), (0, 0));
    assert_eq!(counters.session_saves.get(), 16);
}

#[test]
fn a_document_that_many_change_at_once_has_all_changes() {
    let sessions = Sessions::in_memory(settings()).unwrap();
    let add = |name: u8| {
        let update = |old: Option<Vec<u8>>| {
            let mut bytes = old.unwrap_or_default();
            // Others come meanwhile.
            std::thread::sleep(Duration::from_millis(2));
            bytes.push(name);
            Ok::<_, SessionError>(bytes)
        };
        sessions.update_document(&owner("a"), "list", "one", None, update).unwrap();
    };
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let add = &add;
            scope.spawn(move || (0..5).for_each(|it| add(5 * thread + it)));
        }
    });
    let mut found = sessions.document(&owner("a"), "list", "one").unwrap().unwrap();
    found.sort_unstable();
    assert_eq!(found, (0..20).collect::<Vec<u8>>());
    // What is refused changes nothing.
    let refuse = |_| Err(SessionError::Exists { name: "it".into() });
    assert!(sessions.update_document(&owner("a"), "list", "one", None, refuse).is_err());
    assert_eq!(sessions.document(&owner("a"), "list", "one").unwrap().unwrap().len(), 20);
}
