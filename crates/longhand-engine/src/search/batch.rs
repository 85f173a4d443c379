//! The hypotheses of several prompts side by side, one row of a state for each.

use longhand_model::{
    Candidates, Excluded, NO_CANDIDATE, Sequence, Source, State, candidates, log_probability,
};

use super::found::Found;
use super::hypothesis::Hypothesis;
use super::network::Network;
use super::prefill::{prefill, read_sources};
use super::sentence::Sentence;
use super::settings::SearchSettings;
use super::waiting::Waiting;
use crate::error::EngineError;
use crate::sampler::{Sampler, SamplerError};
use crate::search_error::SearchError;

/// Logits that are made at once: 4 MB stay in the cache until they are ranked.
const LOGITS: usize = 1 << 20;
/// The most memory of a batch's state, in bytes.
const STATE: usize = 1 << 30;

/// Searches that take their steps together. The row of hypothesis k in slot s is k·S + s, where S
/// is the number of slots.
pub(super) struct Batch<'a> {
    network: &'a mut dyn Network,
    settings: &'a SearchSettings,
    /// S: prompts that are searched for at a time.
    slots: usize,
    state: State,
    sentences: Vec<Sentence<'a>>,
    free: Vec<usize>,
    sources: Option<Sources>,
    pass: Pass,
    /// Logits of the only row until the network has read something; empty from then on.
    given: Vec<f32>,
}

/// The sources of the prompts of a batch. Those of prompts that are over stay until there are many.
struct Sources {
    source: Source,
    /// The slot of each one, ascending.
    slots: Vec<usize>,
}

/// A row of a pass.
struct Row {
    /// Its place in the state.
    row: usize,
    /// The token that it reads.
    id: u32,
    /// The sentence, and which of its hypotheses; none of a row that only fills the pass, as every
    /// source is read by as many rows.
    owner: Option<[usize; 2]>,
}

/// The rows of one decode pass, and what was found for each. Kept for its memory.
#[derive(Default)]
struct Pass {
    work: Vec<Row>,
    rows: Vec<usize>,
    ids: Vec<u32>,
    /// Where each row of the state is in the pass.
    places: Vec<usize>,
    /// `[R, T]`: the attention of each row to its source, if it is asked for.
    attention: Vec<f32>,
    logits: Vec<f32>,
    excluded: Vec<u32>,
    ends: Vec<usize>,
    /// Forced tokens: their place in a part of the pass, id and logit.
    forced: Vec<(usize, u32, f32)>,
    found: Vec<u32>,
    log_probabilities: Vec<f32>,
    log_sums: Vec<f64>,
    copies: Vec<[usize; 2]>,
}

impl<'a> Batch<'a> {
    /// An empty batch for a number of prompts.
    pub(super) fn new(
        network: &'a mut dyn Network,
        settings: &'a SearchSettings,
        prompts: usize,
    ) -> Self {
        let row = network.state(1).bytes().max(1);
        let rows = settings.rows.min(STATE / row);
        let slots = (rows / settings.side_by_side()).min(prompts).max(1);
        let state = network.state(slots * settings.side_by_side());
        let (sentences, free) = (Vec::new(), (0..slots).rev().collect());
        let (sources, pass, given) = (None, Pass::default(), Vec::new());
        Self { network, settings, slots, state, sentences, free, sources, pass, given }
    }

    /// Searches for all prompts, and hands on what it finds.
    pub(super) fn run(
        mut self,
        mut waiting: Vec<Waiting<'a>>,
        mut found: impl FnMut(usize, Vec<Hypothesis>),
    ) -> Result<(), EngineError> {
        // Taken from the end: the longest first, so that prompts of similar length begin together.
        waiting.sort_by_key(|waiting| (waiting.source.len(), waiting.prefix.len(), waiting.index));
        loop {
            // Not one by one: reading several prompts side by side is cheaper.
            let some = self.sentences.is_empty() || 4 * self.free.len() >= self.slots;
            if some && !waiting.is_empty() {
                let rest = waiting.len().saturating_sub(self.free.len());
                let mut next = waiting.split_off(rest);
                next.reverse();
                self.admit(next)?;
            }
            if self.sentences.is_empty() {
                return Ok(());
            }
            self.step(&mut found)?;
        }
    }

    /// Searches for one prompt that was read already, given its logits and its last tokens.
    pub(super) fn run_on(
        mut self,
        state: &State,
        logits: &[f32],
        prefix: &'a [u32],
        maximum: usize,
    ) -> Result<Vec<Hypothesis>, EngineError> {
        let mut all = Vec::new();
        self.state.take_slot(0, state, 0)?;
        self.free.clear();
        let waiting = Waiting { index: 0, source: &[], prefix, forced: &[], maximum };
        self.sentences.push(Sentence::new(self.settings, &waiting, [0, self.slots], 0));
        self.gather();
        self.pass.logits.clear();
        self.pass.logits.extend_from_slice(logits);
        self.given = logits.to_vec();
        self.rank(0..1)?;
        let mut found = |_, hypotheses| all = hypotheses;
        self.advance(&mut found)?;
        while !self.sentences.is_empty() {
            self.step(&mut found)?;
        }
        Ok(all)
    }

    /// Reads prompts up to their last token, and begins to search for them.
    fn admit(&mut self, prompts: Vec<Waiting<'a>>) -> Result<(), EngineError> {
        let split = |waiting: &Waiting<'a>| waiting.prefix.split_last();
        let texts: Vec<&[u32]> = prompts.iter().filter_map(split).map(|(_, text)| text).collect();
        let source = match self.network.source_vocab_size() {
            None => None,
            Some(_) => {
                let sources: Vec<&[u32]> = prompts.iter().map(|waiting| waiting.source).collect();
                Some(read_sources(self.network, &sources)?)
            }
        };
        let state = prefill(self.network, &texts, source.as_ref())?;
        let slots: Vec<usize> = self.free.split_off(self.free.len() - prompts.len());
        self.keep_sources(source.as_ref().map(|source| (source, &slots[..])))?;
        for (row, (waiting, &slot)) in prompts.into_iter().zip(&slots).enumerate() {
            self.state.take_slot(slot, &state, row)?;
            let seen = if self.attends() { waiting.source.len() } else { 0 };
            let rows = [slot, self.slots];
            self.sentences.push(Sentence::new(self.settings, &waiting, rows, seen));
        }
        self.network.lap("moving the states of prompts");
        Ok(())
    }

    /// Whether the attention to the source counts.
    fn attends(&self) -> bool {
        self.settings.align || self.settings.coverage_penalty > 0.0
    }

    /// Keeps the sources of the prompts that go on, and further ones for other slots.
    fn keep_sources(&mut self, further: Option<(&Source, &[usize])>) -> Result<(), EngineError> {
        let mut kept: Vec<(usize, &Source, usize)> = Vec::new();
        if let Some(Sources { source, slots }) = &self.sources {
            for sentence in &self.sentences {
                let place = slots.binary_search(&sentence.first);
                kept.extend(place.map(|place| (sentence.first, source, place)));
            }
        }
        if let Some((source, slots)) = further {
            kept.extend(slots.iter().enumerate().map(|(place, &slot)| (slot, source, place)));
        }
        kept.sort_unstable_by_key(|&(slot, ..)| slot);
        let Some(&(_, like, _)) = kept.first() else { return Ok(()) };
        let places: Vec<_> = kept.iter().map(|&(_, source, place)| (source, place)).collect();
        let source = Source::gather(like, &places)?;
        let slots = kept.iter().map(|&(slot, ..)| slot).collect();
        self.sources = Some(Sources { source, slots });
        self.network.lap("moving sources");
        Ok(())
    }

    /// One token of every hypothesis.
    fn step(&mut self, found: &mut dyn FnMut(usize, Vec<Hypothesis>)) -> Result<(), EngineError> {
        let few = |sources: &Sources| 4 * self.sentences.len() <= 3 * sources.slots.len();
        if self.sources.as_ref().is_some_and(few) {
            self.keep_sources(None)?;
        }
        self.gather();
        self.given.clear();
        let attends = self.attends();
        let Self { network, state, sources, pass, .. } = self;
        let Pass { rows, ids, attention, .. } = pass;
        let source = sources.as_ref().map(|sources| &sources.source);
        let sequence = Sequence::new(1, ids.len());
        if rows.len() == state.batch() {
            network.pass(ids, &sequence, source, state)?;
        } else {
            let mut part = state.lend(rows)?;
            network.lap("moving the states of hypotheses");
            let passed = network.pass(ids, &sequence, source, &mut part);
            state.take_back(rows, part);
            passed?;
            network.lap("moving the states of hypotheses");
        }
        if let Some(source) = source.filter(|_| attends) {
            network.source_weights(source, attention)?;
            network.lap("attention to the source");
        }
        let (count, width) = (ids.len(), network.vocab_size());
        let most = (LOGITS / width.max(1)).max(1);
        for start in (0..count).step_by(most) {
            let part = start..count.min(start + most);
            self.network.logits(part.clone(), &mut self.pass.logits)?;
            self.rank(part)?;
        }
        self.advance(found)
    }

    /// The rows of the next pass, ascending.
    fn gather(&mut self) {
        let (slots, sources) = (self.slots, &self.sources);
        let Pass { work, rows, ids, places, found, log_probabilities, .. } = &mut self.pass;
        work.clear();
        if let Some(sources) = sources {
            let live = self.sentences.iter().flat_map(Sentence::live);
            let beams = live.map(|way| way.row / slots + 1).max().unwrap_or(0);
            for k in 0..beams {
                let row = |&slot: &usize| Row { row: k * slots + slot, id: 0, owner: None };
                work.extend(sources.slots.iter().map(row));
            }
        }
        for (s, sentence) in self.sentences.iter().enumerate() {
            for (i, way) in sentence.live().enumerate() {
                work.push(Row { row: way.row, id: way.next, owner: Some([s, i]) });
            }
        }
        // Groups that have not parted yet share a row, and an owner comes before none.
        work.sort_unstable_by_key(|row| (row.row, row.owner.is_none(), row.owner));
        work.dedup_by_key(|row| row.row);
        rows.clear();
        rows.extend(work.iter().map(|row| row.row));
        ids.clear();
        ids.extend(work.iter().map(|row| row.id));
        places.resize(self.state.batch(), 0);
        rows.iter().enumerate().for_each(|(place, &row)| places[row] = place);
        found.clear();
        log_probabilities.clear();
        self.network.lap("choosing hypotheses");
    }

    /// Finds the candidates of a part of the pass, whose logits are there, behind those before it.
    fn rank(&mut self, part: std::ops::Range<usize>) -> Result<(), EngineError> {
        let (settings, count) = (self.settings, self.count());
        let width = self.network.vocab_size();
        let Pass {
            work, logits, excluded, ends, forced, found, log_probabilities, log_sums, ..
        } = &mut self.pass;
        let rows = part.len();
        excluded.clear();
        ends.clear();
        forced.clear();
        let work = &work[part];
        for (r, &Row { owner, .. }) in work.iter().enumerate() {
            if let Some([s, i]) = owner {
                let sentence = &self.sentences[s];
                match (sentence.forced(), sentence.live().nth(i)) {
                    (Some(id), _) => forced.push((r, id, logits[r * width + id as usize])),
                    (None, Some(way)) => sentence.exclude(settings, way, excluded),
                    (None, None) => {}
                }
            }
            ends.push(excluded.len());
        }
        let before = found.len();
        found.resize(before + rows * count, NO_CANDIDATE);
        log_probabilities.resize(before + rows * count, 0.0);
        log_sums.resize(rows, 0.0);
        let to = Candidates {
            ids: &mut found[before..],
            log_probabilities: &mut log_probabilities[before..],
            log_sums,
        };
        let excluded = Excluded { everywhere: &settings.forbidden, in_rows: excluded, ends };
        let cpu = self.network.tape().cpu().clone();
        candidates(&cpu, width, logits, excluded, to);
        let bad = |(sum, row): (&f64, &Row)| !sum.is_finite() && row.owner.is_some();
        if let Some(r) = log_sums.iter().zip(work).position(bad) {
            let row = &logits[r * width..][..width];
            let bad = |x: &f32| !x.is_finite() && *x != f32::NEG_INFINITY;
            let id = row.iter().position(bad).unwrap_or(0);
            let value = row.get(id).copied().unwrap_or(f32::NAN);
            return Err(SamplerError::NotFinite { id, value }.into());
        }
        if let Some(sampler) = settings.sampler {
            let mut sampler = Sampler::new(sampler)?;
            for (r, &Row { row, owner, .. }) in work.iter().enumerate() {
                let Some([s, _]) = owner else { continue };
                let logits = &logits[r * width..][..width];
                self.sentences[s].draw(&mut sampler, row, logits, log_sums[r])?;
            }
        }
        for &(r, id, logit) in forced.iter() {
            let row = before + r * count..before + (r + 1) * count;
            found[row.clone()].fill(NO_CANDIDATE);
            found[row.start] = id;
            log_probabilities[row.start] = log_probability(logit, log_sums[r]);
        }
        self.network.lap("log-softmax and candidates");
        Ok(())
    }

    /// Takes the step of every sentence, and lets go those that are over.
    fn advance(
        &mut self,
        found: &mut dyn FnMut(usize, Vec<Hypothesis>),
    ) -> Result<(), EngineError> {
        let (settings, count) = (self.settings, self.count());
        let Pass { places, found: ids, log_probabilities, attention, copies, .. } = &mut self.pass;
        copies.clear();
        let (network, given, forbidden) = (&mut *self.network, &self.given, &settings.forbidden);
        let mut all =
            Found { places, count, ids, log_probabilities, attention, network, given, forbidden };
        for sentence in &mut self.sentences {
            sentence.advance(settings, &mut all, copies)?;
        }
        for over in self.sentences.extract_if(.., |sentence| sentence.is_over()) {
            self.free.push(over.first);
            let prompt = over.index;
            let hypotheses = over.into_hypotheses(settings);
            let hypotheses = hypotheses.map_err(|fault| SearchError::Rules { prompt, fault })?;
            found(prompt, hypotheses);
        }
        self.network.lap("choosing hypotheses");
        self.state.branch(copies)?;
        self.network.lap("moving the states of hypotheses");
        Ok(())
    }

    /// Candidates that are looked for in each row: those that can live on, and the ends before them.
    /// A token that other groups chose can fall behind, but they choose no more than they live on.
    /// Where texts are drawn, one says whether there is any.
    fn count(&self) -> usize {
        let most = match self.settings.sampler {
            None => self.settings.beam + self.settings.ends.len(),
            Some(_) => 1,
        };
        most.min(self.network.vocab_size()).max(1)
    }
}
