//! The surprisal of each line of a text or of a log.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use longhand_engine::{Cpu, Engine, Frame, Quantiles, Session, TextScore, TextScorer};
use regex::Regex;
use serde_json::{Value, json};

use super::follow::Tails;
use super::sessions::Sessions;
use super::split::{Line, Splitter, Take, WINDOW, each_line, is_full};
use super::tokens::{Event, read};
use super::{Arguments, Rank, Total};
use crate::error::{Usage, within};
use crate::interrupt::{self, STOP};
use crate::reading::{save, session};

/// How lines are scored, and which ones are printed.
#[derive(Args)]
pub(super) struct LineArguments {
    /// Read all lines as one stream, whose memory goes on; else each begins with an empty one
    #[arg(long, conflicts_with = "key")]
    carry: bool,
    /// One memory for each writer of a log, such as a host: what the expression's first group matches,
    /// or all of it. A line without a match is read by itself
    #[arg(long, value_name = "REGEX")]
    key: Option<Regex>,
    /// The most memories of --key; the one not used for longest is dropped [default: 256]
    #[arg(long, value_name = "N", requires = "key")]
    sessions: Option<usize>,
    /// Wait for lines that are appended to the files, through truncation and rotation (as tail -F),
    /// until Ctrl-C; the lines that are there are passed over
    #[arg(long)]
    follow: bool,
    /// Score the lines that are there too
    #[arg(long, requires = "follow")]
    from_start: bool,
    /// Print only lines of this quantile or above; 0.999 is one line in a thousand of the reference
    #[arg(long, value_name = "P", requires = "reference")]
    above: Option<f64>,
    /// Print only the N most surprising lines, at the end or at Ctrl-C, the most surprising one first
    #[arg(long, value_name = "N")]
    top: Option<usize>,
}

impl LineArguments {
    /// Each flag's name and whether it was given.
    pub(super) fn given(&self) -> [(&'static str, bool); 5] {
        [
            ("--carry", self.carry),
            ("--key", self.key.is_some()),
            ("--follow", self.follow),
            ("--above", self.above.is_some()),
            ("--top", self.top.is_some()),
        ]
    }

    /// Whether all lines are one stream.
    pub(super) fn carries(&self) -> bool {
        self.carry
    }
}

/// The most memories of --key.
const MOST_SESSIONS: usize = 1 << 20;
/// The memories of --key where no number is given.
const SESSIONS: usize = 256;
/// The name of the standard input in messages.
const INPUT: &str = "the standard input";
/// What Ctrl-C is answered with where no memory is saved.
const STOPPING: &str = "stopping; once more to stop at once";

/// A line with its score.
struct Scored {
    file: Option<Arc<str>>,
    line: Line,
    score: TextScore,
    key: Option<String>,
    quantile: Option<f64>,
}

/// How lines are read: each by itself, as one stream, or by key.
struct LineScorer {
    texts: TextScorer,
    carried: Option<Session>,
    sessions: Option<Sessions>,
}

impl LineScorer {
    /// The scores of lines that came one after the other, and their keys.
    fn score(&mut self, lines: &[Line]) -> Result<Vec<(TextScore, Option<String>)>> {
        let marks = self.texts.marks();
        if let Some(session) = &mut self.carried {
            let tokenizer = session.engine().tokenizer().clone();
            let scores = lines.iter().map(|line| {
                let ids = tokenizer.encode(&line.text)?;
                Ok((session.score_text(self.texts.reader(), marks, &ids)?, None))
            });
            return scores.collect();
        }
        let Some(sessions) = &mut self.sessions else {
            let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
            return Ok(self.texts.score(&texts)?.into_iter().map(|score| (score, None)).collect());
        };
        let scores = lines.iter().map(|line| match sessions.key(&line.text) {
            None => {
                let alone = self.texts.score(&[&line.text])?;
                Ok((alone.into_iter().next().unwrap_or_default(), None))
            }
            Some(key) => {
                let score = sessions.score(self.texts.reader(), &key, line)?;
                Ok((score, Some(key)))
            }
        });
        scores.collect()
    }
}

impl Arguments {
    /// Scores the lines of stdin or of files, now or for ever.
    pub(super) fn score_lines(&self) -> Result<()> {
        self.check_lines()?;
        let (engine, cpu) = self.model.open()?;
        let judge = self.judge_lines(&engine, &cpu)?;
        let mut scorer = self.scorer(&engine, &cpu, self.memory.as_deref())?;
        let mut printer = Printer::new(self, engine.clone(), judge);
        let begun = Instant::now();
        // However the input ends, what was read of it is told and kept.
        let ended = self.each_window(&mut |file, lines| {
            let scores = scorer.score(lines)?;
            printer.take(file, lines, scores)
        });
        let printed = printer.finish();
        printer.total.tell("lines", begun);
        if let Some(sessions) = &scorer.sessions {
            sessions.tell();
        }
        let saved = match (&self.save_memory, &scorer.carried) {
            (Some(path), Some(session)) => save(session, path, self.overwrites()),
            _ => Ok(()),
        };
        saved.and(ended).and(printed)
    }

    fn check_lines(&self) -> Result<(), Usage> {
        let LineArguments { above, top, sessions, follow, .. } = &self.lines;
        if let Some(share) = above.filter(|share| !(0.0..=1.0).contains(share)) {
            return Err(Usage(format!("--above is {share}, but must be from 0 to 1")));
        }
        if let Some(top) = top {
            within("--top", *top, 1..=1 << 24)?;
        }
        if let Some(sessions) = sessions {
            within("--sessions", *sessions, 1..=MOST_SESSIONS)?;
        }
        if *follow && self.files.is_empty() {
            return Err(Usage("--follow needs a file: name it behind the model's folder".into()));
        }
        Ok(())
    }

    fn scorer(
        &self,
        engine: &Arc<Engine>,
        cpu: &Arc<Cpu>,
        memory: Option<&Path>,
    ) -> Result<LineScorer> {
        let texts = TextScorer::new(self.neighbours.reader(engine, cpu)?, self.frame(Frame::Line))?;
        let carried = match self.lines.carry {
            true => Some(session(engine, memory)?),
            false => None,
        };
        let most = self.lines.sessions.unwrap_or(SESSIONS);
        let sessions = self.lines.key.as_ref();
        let sessions = sessions.map(|key| Sessions::new(engine, texts.marks(), key, most));
        Ok(LineScorer { texts, carried, sessions })
    }

    /// The quantiles of the reference's lines, which are read as the others will be.
    fn judge_lines(&self, engine: &Arc<Engine>, cpu: &Arc<Cpu>) -> Result<Option<Quantiles>> {
        let Some(path) = &self.judge.reference else { return Ok(None) };
        let mut scorer = self.scorer(engine, cpu, None)?;
        let (mut values, rank) = (Vec::new(), self.judge.rank);
        each_line(path, self.lossy, &mut |lines| {
            values.extend(scorer.score(lines)?.iter().map(|(score, _)| rank.of(score)));
            Ok(())
        })?;
        quantiles(values, path).map(Some)
    }

    /// Gives the lines of the input in order, with the name of their file.
    fn each_window(&self, take: &mut Take<'_>) -> Result<()> {
        let LineArguments { follow, from_start, .. } = self.lines;
        if follow {
            interrupt::listen_saying(STOPPING, || {})?;
            // A bad byte would end the watch for good: it is replaced.
            return Tails::open(&self.files, true, from_start)?.each_window(take);
        }
        if self.files.is_empty() {
            return self.pour_lines(take);
        }
        self.listen(|| {})?;
        for path in &self.files {
            if path == Path::new("-") {
                return Err(Usage("- is no file: name no file to read stdin".into()).into());
            }
            let name: Arc<str> = path.display().to_string().into();
            each_line(path, self.lossy, &mut |lines| take(Some(&name), lines))?;
        }
        Ok(())
    }

    /// From now on Ctrl-C ends the input, where its end has work to do: to print the most surprising
    /// lines, or to save a memory.
    fn listen(&self, wake: impl Fn() + Send + 'static) -> Result<()> {
        match (&self.save_memory, self.lines.top) {
            (Some(_), _) => interrupt::listen(wake),
            (None, Some(_)) => interrupt::listen_saying(STOPPING, wake),
            (None, None) => Ok(()),
        }
    }

    /// Gives the lines of the standard input as they come, until a Ctrl-C that is listened to.
    fn pour_lines(&self, take: &mut Take<'_>) -> Result<()> {
        // Blocks that wait while lines are scored become one window.
        let (events, received) = sync_channel(64);
        let stop = events.clone();
        self.listen(move || drop(stop.send(Event::Stop)))?;
        std::thread::spawn(move || read(&events));
        let (mut splitter, mut lines) = (Splitter::new(INPUT, self.lossy), Vec::new());
        loop {
            let last = gather(&received, &mut splitter, &mut lines)?;
            if STOP.load(Ordering::Relaxed) {
                return Ok(());
            }
            if !lines.is_empty() {
                take(None, &lines)?;
                lines.clear();
            }
            splitter.fault()?;
            if last {
                return Ok(());
            }
        }
    }
}

/// Waits for bytes, and takes those that have come with them. Says whether the input has ended.
fn gather(
    received: &Receiver<Event>,
    splitter: &mut Splitter,
    lines: &mut Vec<Line>,
) -> Result<bool> {
    let mut next = received.recv().unwrap_or(Event::End);
    loop {
        match next {
            Event::Bytes(bytes) => splitter.push(&bytes, lines),
            Event::End => {
                splitter.finish(lines);
                return Ok(true);
            }
            Event::Failed(error) => return Err(error).context("the standard input cannot be read"),
            Event::Stop => return Ok(true),
        }
        if is_full(lines) {
            return Ok(false);
        }
        match received.try_recv() {
            Ok(event) => next = event,
            Err(_) => return Ok(false),
        }
    }
}

/// Quantiles of the scores of a reference.
pub(super) fn quantiles(values: Vec<f64>, path: &Path) -> Result<Quantiles> {
    match Quantiles::of(values) {
        Some(quantiles) => Ok(quantiles),
        None => bail!("the reference {} has no text to compare with", path.display()),
    }
}

/// Prints lines as they come, or the most surprising ones at the end.
struct Printer<'a> {
    arguments: &'a Arguments,
    engine: Arc<Engine>,
    judge: Option<Quantiles>,
    /// The most surprising lines so far with their ranks, and some more.
    top: Vec<(f64, Scored)>,
    total: Total,
}

impl<'a> Printer<'a> {
    fn new(arguments: &'a Arguments, engine: Arc<Engine>, judge: Option<Quantiles>) -> Self {
        Self { arguments, engine, judge, top: Vec::new(), total: Total::default() }
    }

    fn rank(&self) -> Rank {
        self.arguments.judge.rank
    }

    fn take(
        &mut self,
        file: Option<&Arc<str>>,
        lines: &[Line],
        scores: Vec<(TextScore, Option<String>)>,
    ) -> Result<()> {
        let mut out = BufWriter::new(std::io::stdout().lock());
        for (line, (score, key)) in lines.iter().zip(scores) {
            self.total.add(&score);
            let value = self.rank().of(&score);
            let judge = self.judge.as_ref().filter(|_| !value.is_nan());
            let quantile = judge.map(|judge| judge.below(value));
            if self.arguments.lines.above.is_some_and(|least| quantile.is_none_or(|it| it < least))
            {
                continue;
            }
            let scored = Scored { file: file.cloned(), line: line.clone(), score, key, quantile };
            match self.arguments.lines.top {
                None => self.print(&mut out, &scored)?,
                Some(_) if value.is_nan() => {}
                Some(most) => {
                    self.top.push((value, scored));
                    if self.top.len() >= 2 * most + WINDOW {
                        self.sort_top(most);
                    }
                }
            }
        }
        // Whoever writes line by line gets each score before the next line.
        Ok(out.flush()?)
    }

    /// Keeps the most surprising lines, the earlier one first among equals.
    fn sort_top(&mut self, most: usize) {
        self.top.sort_by(|a, b| b.0.total_cmp(&a.0));
        self.top.truncate(most);
    }

    fn finish(&mut self) -> Result<()> {
        let Some(most) = self.arguments.lines.top else { return Ok(()) };
        self.sort_top(most);
        let mut out = BufWriter::new(std::io::stdout().lock());
        for (_, scored) in &self.top {
            self.print(&mut out, scored)?;
        }
        Ok(out.flush()?)
    }

    fn print(&self, out: &mut impl Write, scored: &Scored) -> Result<()> {
        let Scored { file, line, score, key, quantile } = scored;
        if self.arguments.json {
            let mut fields = score_fields(score);
            let mut put = |name: &str, value: Value| fields.insert(name.into(), value);
            if let Some(file) = file {
                put("file", json!(&**file));
            }
            put("line", json!(line.number));
            put("max_token", json!(score.max_token.map(|id| self.engine.label(id))));
            if self.judge.is_some() {
                put("quantile", json!(quantile));
            }
            if self.arguments.lines.key.is_some() {
                put("key", json!(key));
            }
            put("text", json!(line.text));
            serde_json::to_writer(&mut *out, &fields)?;
            return Ok(writeln!(out)?);
        }
        if let Some(file) = file {
            write!(out, "{file}\t")?;
        }
        write!(out, "{}\t{}\t{:.4}", line.number, score.tokens, score.sum)?;
        match score.mean().zip(score.perplexity()) {
            Some((mean, perplexity)) => {
                write!(out, "\t{mean:.4}\t{:.4}\t{perplexity:.3}", score.max)?;
            }
            None => write!(out, "\t-\t-\t-")?,
        }
        match quantile {
            Some(quantile) => write!(out, "\t{quantile:.6}")?,
            None if self.judge.is_some() => write!(out, "\t-")?,
            None => {}
        }
        if self.arguments.lines.key.is_some() {
            write!(out, "\t{}", key.as_deref().unwrap_or("-"))?;
        }
        Ok(writeln!(out, "\t{}", line.text)?)
    }
}

/// The numbers of a score as JSON.
pub(super) fn score_fields(score: &TextScore) -> serde_json::Map<String, Value> {
    let max = (score.tokens > 0).then_some(score.max);
    let fields = [
        ("tokens", json!(score.tokens)),
        ("sum", json!(score.sum)),
        ("mean", json!(score.mean())),
        ("max", json!(max)),
        ("perplexity", json!(score.perplexity())),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
