use std::ops::ControlFlow;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use longhand_engine::session::CHUNK;
use longhand_engine::{
    EngineError, FinishReason, GenerateOptions, Generation, Rules, SamplerSettings, Session,
    Snapshot, TokenMemory,
};
use longhand_model::Format;

use crate::cache::ends;
use crate::chain::Chain;
use crate::lru::bytes_of;
use crate::testing::{
    Running, cpu, host, ids, name, owner, reader, run, submit, tiny, turn, write,
};
use crate::worker::verify::same_bits;
use crate::{
    Backlog, CacheSettings, Event, Finish, Host, HostSettings, Job, JobError, Keep, KeepSession,
    Score, SealError, Sealer, SealingKey, SessionError, Sessions, SessionsSettings, Start,
    StateCache, Work, Write,
};

fn store() -> Arc<Sessions> {
    Sessions::in_memory(SessionsSettings::default()).unwrap()
}

/// The options of a job that writes.
fn options(job: &mut Job) -> &mut Write {
    match &mut job.work {
        Work::Write(write) => write,
        _ => panic!("a job that writes"),
    }
}

/// What one session alone writes after `ids`: its tokens, log-probabilities, and the session.
fn alone(
    session: Session,
    ids: &[u32],
    options: GenerateOptions,
    seed: u64,
) -> (Vec<(u32, f32)>, Session) {
    let mut reader = reader(session.engine());
    let mut session = session;
    session.set_sampler(SamplerSettings { seed, ..SamplerSettings::default() }).unwrap();
    session.read(&mut reader, ids).unwrap();
    let mut generation = Generation::new(session, options).unwrap();
    let mut tokens = Vec::new();
    while let Some(next) = generation.next(&mut reader).unwrap() {
        tokens.push((next.id, next.log_probability.unwrap()));
    }
    (tokens, generation.into_session())
}

fn told(count: usize) -> GenerateOptions {
    GenerateOptions { max_tokens: count, log_probabilities: Some(2), ..GenerateOptions::default() }
}

/// The shares of the memories are those of a session alone, and asking for them changes no bit of what
/// is written, beside whatever else is.
#[test]
fn shares_of_the_memories_are_told_and_change_nothing() {
    let (engine, sessions) = (tiny(Format::F32, 1), store());
    let host = host(&engine, &sessions, None, HostSettings::default());
    let plain = run(&host, turn("plain", ids(30, 4), 12, 9)).unwrap();
    assert!(plain.memory.iter().all(Option::is_none));
    let mut job = turn("told", ids(30, 4), 12, 9);
    options(&mut job).memory_shares = true;
    let other = submit(&host, turn("other", ids(7, 1), 40, 1)).unwrap();
    let told = run(&host, job).unwrap();
    other.wait().unwrap();
    assert_eq!(told.tokens, plain.tokens);
    let [one, two] = ["plain", "told"].map(|it| sessions.export(&owner("a"), &name(it)).unwrap());
    assert_eq!(one, two);

    let mut reader = reader(&engine);
    let mut session = engine.session(SamplerSettings::default()).unwrap();
    session.read(&mut reader, &ids(30, 4)).unwrap();
    assert_eq!(told.memory[0], Some(TokenMemory::default()));
    for (pair, memory) in told.tokens.windows(2).zip(&told.memory[1..]) {
        let (id, next) = (pair[0].1.id, pair[1].1.id);
        let silenced = session.silenced(&mut reader, id).unwrap();
        session.step(&mut reader, id).unwrap();
        assert_eq!(*memory, Some(silenced.token(session.logits(), next).unwrap()));
    }
    assert!(told.memory.iter().flatten().any(|memory| memory.working.is_some()));
}

#[test]
fn jobs_side_by_side_have_the_bits_of_each_alone() {
    let (engine, sessions) = (tiny(Format::F32, 1), store());
    let settings = HostSettings { streams: 3, ..HostSettings::default() };
    let host = host(&engine, &sessions, None, settings);
    let lengths = [1, 5, 40, CHUNK, CHUNK + 1, 2 * CHUNK + 77];
    let jobs = lengths.iter().zip(0..).map(|(&len, seed)| {
        submit(&host, turn(&format!("s{seed}"), ids(len, seed), 20, seed)).unwrap()
    });
    let jobs: Vec<_> = jobs.collect();
    for ((job, len), seed) in jobs.into_iter().zip(lengths).zip(0..) {
        let ran = job.wait().unwrap();
        let empty = engine.session(SamplerSettings::default()).unwrap();
        let (tokens, session) = alone(empty, &ids(len, seed), told(20), seed);
        let got: Vec<(u32, f32)> =
            ran.tokens.iter().map(|(_, next)| (next.id, next.log_probability.unwrap())).collect();
        assert_eq!(got, tokens, "{len} tokens");
        let bytes = sessions.export(&owner("a"), &name(&format!("s{seed}"))).unwrap();
        assert_eq!(bytes, Snapshot::of(&session).to_bytes(), "{len} tokens");
        let outcome = ran.outcome();
        assert_eq!(outcome.position, (len + tokens.len()) as u64);
        assert_eq!((outcome.usage.read, outcome.usage.generated), (len as u64, 20));
        assert_eq!(outcome.finishes, [Finish::Reason(FinishReason::Length)]);
    }
}

#[test]
fn a_stop_text_is_taken_back_from_a_kept_session() {
    let (engine, sessions) = (tiny(Format::F32, 2), store());
    let host = host(&engine, &sessions, None, HostSettings::default());
    let mut stopped = 0;
    for seed in 0..12 {
        // Bytes that the text has, so that it stops; each of the second list only seems to begin.
        let empty = engine.session(SamplerSettings::default()).unwrap();
        let (free, _) = alone(empty.clone(), &ids(9, seed), told(30), seed);
        let text: Vec<u8> = free.iter().map(|&(id, _)| id as u8).collect();
        let Some(at) = (5..25).find(|&at| text.get(at..at + 3).is_some_and(<[u8]>::is_ascii))
        else {
            continue;
        };
        let stop = String::from_utf8(text[at..at + 3].to_vec()).unwrap();
        let almost = format!("{}\u{1}\u{2}", &stop[1..]);
        let options_ = GenerateOptions { stop: vec![almost, stop], ..told(30) };
        let (tokens, session) = alone(empty, &ids(9, seed), options_.clone(), seed);
        let mut job = turn(&format!("s{seed}"), ids(9, seed), 30, seed);
        options(&mut job).options = options_;
        let ran = run(&host, job).unwrap();
        assert_eq!(ran.ids(0), tokens.iter().map(|token| token.0).collect::<Vec<_>>());
        let bytes = sessions.export(&owner("a"), &name(&format!("s{seed}"))).unwrap();
        assert_eq!(bytes, Snapshot::of(&session).to_bytes(), "seed {seed}");
        stopped +=
            usize::from(matches!(ran.outcome().finishes[0], Finish::Reason(FinishReason::Stop(_))));
    }
    assert!(stopped > 3, "{stopped} texts stopped");
}

#[test]
fn branches_share_the_prompt_and_draw_with_seeds_of_their_own() {
    let (engine, sessions) = (tiny(Format::Int8, 3), store());
    let host = host(&engine, &sessions, None, HostSettings::default());
    let mut job = write(ids(300, 1), 15, 40);
    options(&mut job).branches = 3;
    job.keep = Keep::Session(KeepSession::new(name("first")));
    let ran = run(&host, job).unwrap();
    assert_eq!(ran.outcome().usage.read, 300);
    assert_eq!(ran.outcome().usage.generated, 45);
    assert_eq!(host.counters().tokens_read.get(), 300);
    for branch in 0..3 {
        let empty = engine.session(SamplerSettings::default()).unwrap();
        let (tokens, session) = alone(empty, &ids(300, 1), told(15), 40 + branch as u64);
        assert_eq!(ran.ids(branch), tokens.iter().map(|token| token.0).collect::<Vec<_>>());
        if branch == 0 {
            let bytes = sessions.export(&owner("a"), &name("first")).unwrap();
            assert_eq!(bytes, Snapshot::of(&session).to_bytes());
        }
    }
}

/// None for a token of the text, otherwise a prompt and the tokens of its piece.
type Happened = Option<(usize, usize)>;

/// Between two tokens of a text no more prompt is read than was promised, and prompts go on in turns.
#[test]
fn long_prompts_hold_up_no_text_and_no_other_prompt() {
    let (engine, sessions) = (tiny(Format::F32, 1), store());
    let host = Arc::new(host(&engine, &sessions, None, HostSettings::default()));
    let log: Arc<Mutex<Vec<Happened>>> = Arc::default();
    let (began, begun) = channel::<()>();
    let (events, written) = (log.clone(), Mutex::new(Some(began)));
    let text = host
        .submit(
            write(ids(3, 0), 400, 0),
            Box::new(move |event| {
                if let Event::Token { .. } = event {
                    events.lock().unwrap().push(None);
                    written.lock().unwrap().take();
                }
                ControlFlow::Continue(())
            }),
        )
        .unwrap();
    // The sender is dropped with the first token.
    assert!(begun.recv().is_err());
    let (ended, all) = channel();
    let pieces = 10;
    // The worker waits until all prompts are there.
    let (release, hold) = channel::<()>();
    host.run(Box::new(move |_| assert!(hold.recv().is_err()))).unwrap();
    let tickets: Vec<_> = (0..3)
        .map(|prompt| {
            let (events, ended) = (log.clone(), ended.clone());
            let mut last = 0;
            let sink = Box::new(move |event| {
                match event {
                    Event::Read { done, .. } => {
                        events.lock().unwrap().push(Some((prompt, done - last)));
                        last = done;
                    }
                    Event::Done(_) | Event::Failed(_) => ended.send(()).unwrap(),
                    _ => {}
                }
                ControlFlow::Continue(())
            });
            let mut job = write(ids(pieces * CHUNK, prompt as u64 + 1), 1, 0);
            job.cache = false;
            host.submit(job, sink).unwrap()
        })
        .collect();
    drop(release);
    tickets.iter().for_each(|_| all.recv_timeout(Duration::from_secs(60)).unwrap());
    text.cancel();
    let log = log.lock().unwrap();
    let first = log.iter().position(Option::is_some).unwrap();
    let last = log.iter().rposition(Option::is_some).unwrap();
    let mut read = 0;
    for event in &log[first..=last] {
        match event {
            Some((_, tokens)) => read += tokens,
            None => read = 0,
        }
        assert!(read <= CHUNK, "{read} tokens between two steps");
    }
    // Each piece of a prompt comes after one of every other.
    let order: Vec<usize> = log.iter().flatten().map(|&(prompt, _)| prompt).collect();
    assert_eq!(order, [0, 1, 2].repeat(pieces));
}

#[test]
fn a_client_that_leaves_frees_its_place_at_once() {
    let (engine, sessions) = (tiny(Format::F32, 1), store());
    let settings = HostSettings { streams: 1, queue: 2, ..HostSettings::default() };
    let host = host(&engine, &sessions, None, settings);
    let endless = submit(&host, write(ids(3, 0), usize::MAX, 0)).unwrap();
    let first = endless.events.iter().find(|event| matches!(event, Event::Token { .. }));
    assert!(first.is_some());
    let second = submit(&host, write(ids(3, 1), 5, 1)).unwrap();
    match submit(&host, write(ids(3, 2), 5, 2)) {
        Err(JobError::Busy { wait }) => assert!(wait > Duration::ZERO),
        other => panic!("{:?}", other.err()),
    }
    // Dropping the ticket and the receiver is leaving.
    drop(endless);
    assert_eq!(second.wait().unwrap().ids(0).len(), 5);
    let counters = host.counters();
    assert_eq!((counters.cancelled.get(), counters.refused_busy.get()), (1, 1));
    // A sink that breaks off is not called again.
    let (calls, ticket) = {
        let calls = Arc::new(Mutex::new(0));
        let own = calls.clone();
        let sink = Box::new(move |_| {
            *own.lock().unwrap() += 1;
            ControlFlow::Break(())
        });
        (calls, host.submit(write(ids(3, 0), usize::MAX, 0), sink).unwrap())
    };
    // Whoever hears of the end of a job may find its place taken for a moment more.
    let ran = loop {
        match run(&host, write(ids(3, 1), 5, 1)) {
            Err(JobError::Busy { .. }) => std::thread::yield_now(),
            ran => break ran.unwrap(),
        }
    };
    assert_eq!(ran.ids(0).len(), 5);
    assert!(ticket.is_done());
    assert_eq!(*calls.lock().unwrap(), 1);
}

#[test]
fn a_job_out_of_time_keeps_nothing() {
    let (engine, sessions) = (tiny(Format::F32, 1), store());
    let host = host(&engine, &sessions, None, HostSettings::default());
    let mut job = turn("s", ids(3, 0), usize::MAX, 0);
    job.deadline = Some(Instant::now() + Duration::from_millis(30));
    assert!(matches!(run(&host, job), Err(JobError::Deadline)));
    assert!(sessions.list(&owner("a")).unwrap().is_empty());
    assert_eq!(host.counters().deadline.get(), 1);
    // Its session can be begun again.
    assert!(run(&host, turn("s", ids(3, 0), 2, 0)).is_ok());
}

#[test]
fn a_drained_host_keeps_what_was_written() {
    let (engine, sessions) = (tiny(Format::F32, 1), store());
    let host = host(&engine, &sessions, None, HostSettings::default());
    let short = submit(&host, write(ids(3, 1), 5, 1)).unwrap();
    let endless = submit(&host, turn("s", ids(3, 0), usize::MAX, 0)).unwrap();
    let mut events = endless.events.iter();
    assert!(events.any(|event| matches!(event, Event::Token { .. })));
    assert_eq!(short.wait().unwrap().ids(0).len(), 5);
    assert_eq!(host.drain(Duration::from_millis(20)), 1);
    assert!(matches!(submit(&host, write(ids(3, 0), 1, 0)), Err(JobError::Draining)));
    let outcome = events.find_map(|event| match event {
        Event::Done(outcome) => Some(outcome),
        _ => None,
    });
    let outcome = outcome.unwrap();
    assert_eq!(outcome.finishes, [Finish::Interrupted]);
    let kept = sessions.show(&owner("a"), &name("s")).unwrap();
    assert_eq!((kept.position, outcome.usage.generated + 3), (outcome.position, outcome.position));
    assert_eq!(host.drain(Duration::ZERO), 0);
}

#[test]
fn scores_of_a_prompt_and_of_what_follows_agree_to_the_last_bit() {
    let (engine, sessions) = (tiny(Format::F32, 4), store());
    let host = host(&engine, &sessions, None, HostSettings::default());
    let whole = ids(CHUNK + 40, 1);
    let mut job = write(whole.clone(), 0, 0);
    options(&mut job).prompt_scores = Some(1000);
    let ran = run(&host, job).unwrap();
    assert_eq!(ran.prompt.iter().map(|score| score.id).collect::<Vec<_>>(), whole);
    assert_eq!(ran.prompt[0].log_probability, None);
    for score in &ran.prompt[1..] {
        let (own, of_top) = (score.log_probability.unwrap(), |id| {
            score.top.iter().find(|top| top.0 == id).unwrap().1
        });
        assert_eq!(own.to_bits(), of_top(score.id).to_bits());
        assert!(score.top.windows(2).all(|pair| pair[0].1 >= pair[1].1));
    }
    // The texts begin where the passes of the whole have a border, so that their bits agree.
    let continuations = vec![whole[CHUNK..].to_vec(), vec![whole[CHUNK]], Vec::new(), ids(300, 5)];
    let score = Score { continuations: continuations.clone(), top: 1 };
    let job = Job::new(owner("a"), whole[..CHUNK].to_vec(), Work::Score(score));
    let ran_scores = run(&host, job).unwrap();
    let own = |score: &crate::TokenScore| score.log_probability.map(f32::to_bits);
    let expected: Vec<_> = ran.prompt[CHUNK..].iter().map(own).collect();
    let got: Vec<_> = ran_scores.scored[0].iter().map(own).collect();
    assert_eq!(got, expected);
    assert_eq!(own(&ran_scores.scored[1][0]), expected[0]);
    assert!(ran_scores.scored[2].is_empty());
    assert_eq!(ran_scores.scored[3].len(), 300);
}

#[test]
fn an_embedding_is_a_mean_over_the_text() {
    let (engine, sessions) = (tiny(Format::F32, 4), store());
    let host = host(&engine, &sessions, None, HostSettings::default());
    let embed = |ids| run(&host, Job::new(owner("a"), ids, Work::Embed)).unwrap().embedding;
    let (long, again) = (embed(ids(CHUNK + 9, 1)), embed(ids(CHUNK + 9, 1)));
    assert_eq!(long.len(), 16);
    assert_eq!(long, again);
    let first = embed(vec![7]);
    // Causal: the mean of a text and of one more token differ by the last token's part.
    let both = embed(vec![7, 9]);
    assert!(first.iter().zip(&both).any(|(a, b)| a != b));
    let empty = run(&host, Job::new(owner("a"), Vec::new(), Work::Embed));
    assert!(matches!(empty, Err(JobError::NothingToRead)));
}

#[test]
fn logits_can_be_shaped_and_log_probabilities_stay_the_models() {
    let (engine, sessions) = (tiny(Format::F32, 5), store());
    let host = host(&engine, &sessions, None, HostSettings::default());
    let mut job = turn("digits", ids(9, 1), 50, 7);
    options(&mut job).options.rules = Some(Arc::new(Rules::regex("[0-9]{5}").unwrap()));
    options(&mut job).branches = 2;
    let ran = run(&host, job).unwrap();
    for branch in 0..2 {
        let ids = ran.ids(branch);
        assert!(ids.len() == 5 && ids.iter().all(|id| (48..58).contains(id)), "{ids:?}");
    }
    let complete = Finish::Reason(FinishReason::Complete);
    assert_eq!(ran.outcome().finishes, [complete.clone(), complete]);
    // They are those of the model, which gives digits no more than the others.
    assert!(ran.tokens.iter().all(|(_, next)| next.log_probability.unwrap() < -1.0));
    assert_eq!(ran.outcome().position, 14);
    // A bias that outweighs everything, and a penalty that outweighs the bias.
    let mut job = write(ids(9, 1), 12, 7);
    let write_ = options(&mut job);
    write_.sampler = Some(SamplerSettings::greedy());
    write_.bias = vec![(65, 1000.0), (66, 900.0)];
    assert_eq!(run(&host, job).unwrap().ids(0), [65; 12]);
    let mut job = write(ids(9, 1), 4, 7);
    let write_ = options(&mut job);
    write_.sampler = Some(SamplerSettings::greedy());
    write_.bias = vec![(65, 1000.0), (66, 900.0)];
    write_.presence_penalty = 5_000.0;
    let got = run(&host, job).unwrap().ids(0);
    assert_eq!(got[..2], [65, 66]);
    assert!(got[2] != 65 && got[2] != 66);
}

#[test]
fn a_job_that_fails_takes_no_other_with_it() {
    let (engine, sessions) = (tiny(Format::F32, 5), store());
    let settings = HostSettings { streams: 2, ..HostSettings::default() };
    let host = host(&engine, &sessions, None, settings);
    run(&host, turn("s", ids(9, 2), 4, 7)).unwrap();
    let record = sessions.shelf.require(&owner("a"), &name("s")).unwrap();
    let before = sessions.show(&owner("a"), &name("s")).unwrap();
    let good = submit(&host, write(ids(9, 1), 60, 7)).unwrap();
    // The state of another model takes its place in memory: reading fails, and so does writing.
    let stranger = tiny(Format::F32, 6);
    let mut other = stranger.session(SamplerSettings::default()).unwrap();
    other.read(&mut reader(&stranger), &ids(before.position as usize, 1)).unwrap();
    sessions.shelf.take_in(record.last().unwrap().state.id, Arc::new(other));
    for prompt in [ids(9, 2), Vec::new()] {
        let error = run(&host, turn("s", prompt, 4, 7)).unwrap_err();
        assert!(matches!(error, JobError::Engine(EngineError::OtherModel { .. })), "{error}");
    }
    assert_eq!(good.wait().unwrap().ids(0).len(), 60);
    assert_eq!(host.counters().failed.get(), 2);
    assert_eq!(sessions.show(&owner("a"), &name("s")).unwrap(), before);
    sessions.cool();
    for _ in 0..3 {
        assert!(run(&host, turn("s", ids(9, 2), 4, 7)).is_ok());
    }
}

#[test]
fn a_repeated_prompt_is_not_read_again_and_has_the_same_bits() {
    let (engine, sessions) = (tiny(Format::F32, 6), store());
    let host = host(&engine, &sessions, None, HostSettings::default());
    let shared = ids(3 * CHUNK + 100, 1);
    let with = |tail: usize, seed| [&shared[..], &ids(tail, seed)].concat();
    let cold = |ids: &[u32]| {
        let empty = engine.session(SamplerSettings::default()).unwrap();
        alone(empty, ids, told(6), 3).0
    };
    let expect = |prompt: Vec<u32>, reused: usize| {
        let ran = run(&host, write(prompt.clone(), 6, 3)).unwrap();
        let got: Vec<(u32, f32)> =
            ran.tokens.iter().map(|(_, it)| (it.id, it.log_probability.unwrap())).collect();
        assert_eq!(got, cold(&prompt));
        let usage = ran.outcome().usage;
        assert_eq!(usage.reused as usize, reused, "of {}", prompt.len());
        assert_eq!((usage.prompt, usage.read + usage.reused), (prompt.len() as u64, usage.prompt));
    };
    expect(with(50, 2), 0);
    // Exactly again: the last logits are there.
    expect(with(50, 2), 3 * CHUNK + 150);
    // Another tail: where they part a state is kept, for the third one.
    expect(with(60, 3), 0);
    expect(with(70, 4), 3 * CHUNK);
    // A short one, of any length, and one that is the beginning of another.
    expect(ids(5, 9), 0);
    expect(ids(5, 9), 5);
    expect(ids(6, 9), 0);
    // Another owner finds nothing, and a job without the cache neither.
    let mut other = write(with(50, 2), 1, 3);
    other.owner = owner("b");
    assert_eq!(run(&host, other).unwrap().outcome().usage.reused, 0);
    let mut without = write(with(50, 2), 1, 3);
    without.cache = false;
    assert_eq!(run(&host, without).unwrap().outcome().usage.reused, 0);
}

#[test]
fn states_can_be_kept_by_the_client_and_branched_by_name() {
    let (engine, sessions) = (tiny(Format::F32, 7), store());
    let key = |id: &str| SealingKey { id: id.into(), key: [7; 32] };
    let sealer = Sealer::new(key("k"), Vec::new()).unwrap();
    let host_ = host(&engine, &sessions, Some(sealer.clone()), HostSettings::default());
    let mut job = write(ids(30, 1), 5, 1);
    job.keep = Keep::Sealed { ttl: Some(Duration::from_secs(60)) };
    let ran = run(&host_, job).unwrap();
    let sealed = ran.outcome().sealed.clone().unwrap();
    let (_, before) = alone(engine.session(Default::default()).unwrap(), &ids(30, 1), told(5), 1);
    // Another server with the key goes on, twice from the same place.
    let elsewhere = store();
    let second = host(&engine, &elsewhere, Some(sealer), HostSettings::default());
    for seed in [5, 6] {
        let mut job = write(ids(4, 2), 7, seed);
        job.start = Start::Sealed(sealed.clone());
        job.keep = Keep::Session(KeepSession::new(name(&format!("from-{seed}"))));
        let ran = run(&second, job).unwrap();
        let (tokens, after) = alone(before.clone(), &ids(4, 2), told(7), seed);
        assert_eq!(ran.ids(0), tokens.iter().map(|token| token.0).collect::<Vec<_>>());
        assert_eq!(ran.outcome().usage.reused, 35);
        let bytes = elsewhere.export(&owner("a"), &name(&format!("from-{seed}"))).unwrap();
        assert_eq!(bytes, Snapshot::of(&after).to_bytes());
        // The bytes of a session are a start as well.
        let mut job = write(Vec::new(), 3, 9);
        job.start = Start::Snapshot(bytes);
        let empty: &[u32] = &[];
        let mut reader = reader(&engine);
        let mut cold = after.clone();
        cold.set_sampler(SamplerSettings { seed: 9, ..SamplerSettings::default() }).unwrap();
        cold.read(&mut reader, empty).unwrap();
        let mut generation = Generation::new(cold, told(3)).unwrap();
        let mut expected = Vec::new();
        while let Some(next) = generation.next(&mut reader).unwrap() {
            expected.push(next.id);
        }
        assert_eq!(run(&second, job).unwrap().ids(0), expected);
    }
    let mut foreign = write(ids(4, 2), 7, 1);
    (foreign.owner, foreign.start) = (owner("b"), Start::Sealed(sealed.clone()));
    let refused = run(&host_, foreign);
    assert!(matches!(refused, Err(JobError::Seal(SealError::Authentication))));
    let keyless = host(&engine, &sessions, None, HostSettings::default());
    let mut job = write(ids(4, 2), 7, 1);
    job.start = Start::Sealed(sealed);
    assert!(matches!(run(&keyless, job), Err(JobError::Seal(SealError::NoKeys))));
    // One session, two answers under names of their own.
    run(&host_, turn("root", ids(9, 1), 3, 1)).unwrap();
    let root = sessions.show(&owner("a"), &name("root")).unwrap();
    for other in ["left", "right"] {
        let mut job = turn("root", ids(5, 3), 4, 2);
        job.keep = Keep::Session(KeepSession::new(name(other)));
        let ran = run(&host_, job).unwrap();
        assert_eq!(ran.outcome().session.as_ref().unwrap().position, 12 + 5 + 4);
        let mut again = turn("root", ids(5, 3), 4, 2);
        again.keep = Keep::Session(KeepSession::new(name(other)));
        let refused = run(&host_, again);
        assert!(matches!(refused, Err(JobError::Session(SessionError::Exists { .. }))));
    }
    assert_eq!(sessions.show(&owner("a"), &name("root")).unwrap(), root);
    let bytes = |it: &str| sessions.export(&owner("a"), &name(it)).unwrap();
    assert_eq!(bytes("left"), bytes("right"));
}

#[test]
fn a_session_is_advanced_by_one_job_at_a_time() {
    let (engine, sessions) = (tiny(Format::F32, 7), store());
    let host = host(&engine, &sessions, None, HostSettings::default());
    let first = submit(&host, turn("s", ids(9, 1), 300, 1)).unwrap();
    let second = run(&host, turn("s", ids(9, 1), 3, 1));
    assert!(matches!(second, Err(JobError::Session(SessionError::InUse { .. }))));
    let erased = sessions.erase(&owner("a"), &name("s"));
    assert!(matches!(erased, Err(SessionError::InUse { .. })));
    first.wait().unwrap();
    assert!(run(&host, turn("s", ids(9, 1), 3, 1)).is_ok());
    let mut other = turn("s", ids(9, 1), 3, 1);
    other.owner = owner("b");
    other.start = Start::Session { name: name("s"), or_new: false };
    let unknown = run(&host, other);
    assert!(matches!(unknown, Err(JobError::Session(SessionError::NotFound { .. }))));
}

#[test]
fn a_whole_prompt_finds_what_its_session_has_read() {
    let (engine, sessions) = (tiny(Format::F32, 8), store());
    let host = host(&engine, &sessions, None, HostSettings::default());
    let prefix = |ids: Vec<u32>| {
        let mut job = turn("p", ids, 4, 1);
        job.start = Start::Prefix { name: name("p") };
        job.cache = false;
        run(&host, job).unwrap()
    };
    let first = ids(20, 1);
    let ran = prefix(first.clone());
    assert_eq!(ran.outcome().usage.reused, 0);
    let whole = [&first[..], &ran.ids(0), &ids(6, 2)].concat();
    let ran = prefix(whole.clone());
    assert_eq!((ran.outcome().usage.reused, ran.outcome().usage.read), (24, 6));
    // The first turn with another second one: its checkpoint is still there.
    let other = [&whole[..24], &ids(9, 3)].concat();
    let ran = prefix(other.clone());
    assert_eq!((ran.outcome().usage.reused, ran.outcome().usage.read), (24, 9));
    // Nothing in common: it begins again.
    let ran = prefix(ids(7, 9));
    assert_eq!(ran.outcome().usage.reused, 0);
    assert_eq!(sessions.show(&owner("a"), &name("p")).unwrap().position, 11);
}

#[test]
fn a_restored_state_is_recomputed_and_a_wrong_one_is_found_and_healed() {
    let (engine, sessions) = (tiny(Format::F32, 9), store());
    let settings = HostSettings { verify: 1.0, ..HostSettings::default() };
    let host = host(&engine, &sessions, None, settings);
    let stop = || GenerateOptions { stop: vec!["e".into(), "ab".into()], ..told(40) };
    for turn_ in 0..4 {
        let mut job =
            turn("s", ids(100 + CHUNK * (turn_ % 2), turn_ as u64), 40, 100 + turn_ as u64);
        options(&mut job).options = stop();
        run(&host, job).unwrap();
    }
    let counters = host.counters();
    assert_eq!((counters.verified.get(), counters.verify_failures.get()), (3, 0));
    // A state of something else takes its place, in memory.
    let (owner, session) = (owner("a"), name("s"));
    let record = sessions.shelf.require(&owner, &session).unwrap();
    let last = record.last().unwrap();
    let good = sessions.shelf.load(&record, record.saved.len() - 1, &engine).unwrap();
    let mut wrong = engine.session(Default::default()).unwrap();
    wrong.read(&mut reader(&engine), &ids(last.position as usize, 77)).unwrap();
    assert!(!same_bits(&good, &wrong));
    sessions.shelf.take_in(last.state.id, Arc::new(wrong));
    let ran = run(&host, turn("s", ids(5, 5), 6, 50)).unwrap();
    assert_eq!((counters.verified.get(), counters.verify_failures.get()), (4, 1));
    let (tokens, _) = alone((*good).clone(), &ids(5, 5), told(6), 50);
    assert_eq!(ran.ids(0), tokens.iter().map(|token| token.0).collect::<Vec<_>>());
}

#[test]
fn a_state_of_the_cache_is_recomputed_and_a_wrong_one_is_found_and_healed() {
    let (engine, sessions) = (tiny(Format::F32, 9), store());
    let cache = StateCache::new(CacheSettings::default(), sessions.counters()).unwrap();
    let settings = HostSettings { verify: 1.0, ..HostSettings::default() };
    let host = Host::start(&engine, &cpu(), &sessions, &cache, None, settings).unwrap();
    let prompt = ids(CHUNK + 40, 3);
    let again = || run(&host, write(prompt.clone(), 6, 50)).unwrap();
    let expected = again().ids(0);
    let counters = host.counters();
    let counted = || (counters.cache_verified.get(), counters.cache_verify_failures.get());
    assert_eq!(counted(), (0, 0));
    assert_eq!((again().ids(0), counted()), (expected.clone(), (1, 0)));
    // A state of something else takes its place.
    let mut wrong = engine.session(Default::default()).unwrap();
    wrong.read(&mut reader(&engine), &ids(prompt.len(), 77)).unwrap();
    let (_, chain) = *ends(Chain::new(&engine), &prompt).last().unwrap();
    cache.insert(&owner("a"), chain, Arc::new(wrong));
    let ran = again();
    assert_eq!(ran.outcome().usage.reused, prompt.len() as u64);
    assert_eq!((ran.ids(0), counted()), (expected.clone(), (2, 1)));
    // The recomputed one is in the cache now.
    assert_eq!((again().ids(0), counted()), (expected, (3, 1)));
    assert_eq!((counters.verified.get(), counters.verify_failures.get()), (0, 0));
}

#[test]
fn states_of_waiting_jobs_count_in_the_memory() {
    let engine = tiny(Format::F32, 1);
    let mut one = engine.session(SamplerSettings::default()).unwrap();
    one.read(&mut reader(&engine), &ids(3, 1)).unwrap();
    let memory = 3 * bytes_of(&one);
    let folder = tempfile::tempdir().unwrap();
    let settings = SessionsSettings { memory, ..SessionsSettings::default() };
    let (sessions, _) = Sessions::open(&folder.path().join("sessions.redb"), settings).unwrap();
    let settings = HostSettings { streams: 1, ..HostSettings::default() };
    let host = host(&engine, &sessions, None, settings);
    let next = |at: u64| turn(&format!("s{at}"), ids(4, at), 2, 3);
    for at in 0..4 {
        run(&host, next(at)).unwrap();
    }
    assert_eq!(sessions.counters().sessions_hot.get(), 3);
    // A job may end a little after its last event.
    while host.counters().jobs.get() > 0 {
        std::thread::yield_now();
    }
    let (hold, held) = channel::<()>();
    let wait = move |_: &mut longhand_engine::Reader| {
        // It hears only that there is nobody any more who could send.
        let _ = held.recv();
    };
    host.run(Box::new(wait)).unwrap();
    let mut waiting: Vec<Running> = (0..3).map(|at| submit(&host, next(at)).unwrap()).collect();
    assert_eq!(sessions.counters().sessions_hot.get(), 0, "copies of stored states go first");
    let counters = sessions.counters();
    let before = (counters.accepted.get(), counters.refused_busy.get());
    let mut waits = (0..99).map(|_| match submit(&host, next(3)) {
        Err(JobError::Memory { wait }) => wait,
        other => panic!("{:?}", other.err()),
    });
    // However many are refused, it is said how long jobs take that are done.
    let first = waits.next().unwrap();
    assert!(waits.all(|wait| wait == first));
    assert_eq!((counters.accepted.get(), counters.refused_busy.get()), (before.0, before.1 + 99));
    // An empty state is made when its turn comes.
    waiting.extend((0..9).map(|at| submit(&host, write(ids(3, at), 2, at)).unwrap()));
    drop(hold);
    for running in waiting {
        running.wait().unwrap();
    }
    run(&host, next(3)).unwrap();
}

#[test]
fn a_stream_waits_for_its_slow_reader_and_holds_no_other_up() {
    let (engine, sessions) = (tiny(Format::F32, 1), store());
    let host = host(&engine, &sessions, None, HostSettings::default());
    let (backlog, count) = (Backlog::default(), Backlog::MOST + 100);
    let mut slow = write(ids(3, 0), count, 0);
    slow.backlog = Some(backlog.clone());
    let slow = submit(&host, slow).unwrap();
    while !backlog.is_full() {
        std::thread::yield_now();
    }
    let written = || host.counters().tokens_written.get();
    let before = written();
    assert!(before < count as u64, "{before}");
    assert_eq!(run(&host, write(ids(3, 1), 20, 1)).unwrap().ids(0).len(), 20);
    assert_eq!(written(), before + 20);
    let mut tokens = 0;
    for event in &slow.events {
        backlog.taken(&event);
        tokens += usize::from(matches!(event, Event::Token { .. }));
    }
    assert_eq!(tokens, count);
    // One that nobody waits for gives its place back.
    let mut left = write(ids(3, 0), usize::MAX, 0);
    left.backlog = Some(backlog.clone());
    let left = submit(&host, left).unwrap();
    while !backlog.is_full() {
        std::thread::yield_now();
    }
    drop(left);
    while host.counters().jobs.get() > 0 {
        std::thread::yield_now();
    }
    assert_eq!(host.counters().cancelled.get(), 1);
}

#[test]
fn a_session_that_only_spared_work_is_read_again_where_it_is_gone() {
    let (engine, sessions) = (tiny(Format::F32, 1), store());
    let host = host(&engine, &sessions, None, HostSettings::default());
    let follow = || {
        let mut job = write(ids(5, 2), 6, 3);
        job.start = Start::Session { name: name("gone"), or_new: false };
        job
    };
    let mut job = follow();
    job.whole = Some(Box::new(|| Some(ids(40, 1))));
    let expected = run(&host, write(ids(40, 1), 6, 3)).unwrap().ids(0);
    assert_eq!(run(&host, job).unwrap().ids(0), expected);
    for whole in [None, Some(Box::new(|| None) as crate::Whole)] {
        let mut job = follow();
        job.whole = whole;
        let error = run(&host, job).unwrap_err();
        assert!(matches!(error, JobError::Session(SessionError::NotFound { .. })), "{error}");
    }
}

#[test]
fn a_session_that_only_spared_work_is_replaced_where_it_cannot_be_gone_on_from() {
    let (sessions, other) = (store(), tiny(Format::F32, 2));
    let [first, second] = [&tiny(Format::F32, 1), &other]
        .map(|engine| host(engine, &sessions, None, HostSettings::default()));
    let keep = Keep::Session(KeepSession { hint: true, ..KeepSession::new(name("k")) });
    let mut job = write(ids(9, 1), 4, 3);
    job.keep = keep.clone();
    run(&first, job).unwrap();
    let mut job = write(ids(5, 2), 4, 3);
    job.start = Start::Session { name: name("k"), or_new: false };
    job.keep = keep;
    job.whole = Some(Box::new(|| Some(ids(14, 1))));
    let ran = run(&second, job).unwrap();
    assert!(ran.outcome().session.is_some());
    let info = sessions.show(&owner("a"), &name("k")).unwrap();
    assert_eq!(info.model, other.model_hash());
}

#[test]
fn what_cannot_be_done_is_refused_before_anything_runs() {
    let (engine, sessions) = (tiny(Format::F32, 1), store());
    let host = host(&engine, &sessions, None, HostSettings::default());
    let refused = |job: Job| run(&host, job).unwrap_err().to_string();
    assert!(refused(write(Vec::new(), 3, 0)).contains("nothing to continue"));
    assert!(refused(write(vec![99_999], 3, 0)).contains("99999"));
    let changes: [fn(&mut Write); 7] = [
        |write| write.branches = 0,
        |write| write.branches = 65,
        |write| write.presence_penalty = f32::NAN,
        |write| write.bias = vec![(1, f32::INFINITY)],
        |write| write.bias = vec![(99_999, 1.0)],
        |write| write.options.stop = vec![String::new()],
        |write| {
            write.sampler = Some(SamplerSettings { top_p: 0.0, ..SamplerSettings::default() });
        },
    ];
    for (case, change) in changes.into_iter().enumerate() {
        let mut job = write(ids(3, 0), 3, 0);
        change(options(&mut job));
        let error = refused(job);
        assert!(error.lines().count() == 1 && error.len() > 20, "{case}: {error}");
    }
    let mut job = write(ids(3, 0), 3, 0);
    job.keep = Keep::Sealed { ttl: None };
    assert!(refused(job).contains("no keys"));
    assert_eq!(host.counters().accepted.get(), 0);
    assert_eq!(host.counters().jobs.get(), 0);
    let (send, receive) = channel();
    host.run(Box::new(move |reader| send.send(reader.engine().model_hash().len()).unwrap()))
        .unwrap();
    assert_eq!(receive.recv().unwrap(), engine.model_hash().len());
}
