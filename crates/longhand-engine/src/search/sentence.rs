//! The search for one prompt: what goes on, and what has ended.

use longhand_model::{NO_CANDIDATE, log_probability};

use super::draws::Draws;
use super::followed::Followed;
use super::found::{Found, NOTHING, covered, largest};
use super::hypothesis::Hypothesis;
use super::settings::SearchSettings;
use super::waiting::Waiting;
use crate::error::EngineError;
use crate::recent::RECENT;
use crate::rules::RulesError;
use crate::sampler::{Sampler, SamplerError};

/// A token of a hypothesis, and its place in the tree of all of them.
#[derive(Clone, Copy)]
struct Node {
    parent: u32,
    id: u32,
    log_probability: f32,
    /// The source position that it attends to most.
    source: u32,
}

/// A hypothesis that goes on.
pub(super) struct Live {
    /// Which group it is of.
    group: usize,
    /// Its last token.
    node: u32,
    /// ln p of its tokens together.
    total: f64,
    /// Its row of the state. Groups may share one until they part.
    pub(super) row: usize,
    /// The token that is read next.
    pub(super) next: u32,
    /// The token that was drawn to come behind it, with its ln p.
    drawn: Option<(u32, f32)>,
    /// `[S]`: the attention to each position of the source, summed over its tokens.
    coverage: Vec<f32>,
    /// The rules that its text follows.
    rules: Option<Followed>,
}

/// A hypothesis that does not go on.
#[derive(Clone, Copy)]
struct Ended {
    group: usize,
    node: u32,
    total: f64,
    score: f64,
    /// Whether its text matches the rules, and whether that is why it ended.
    matches: Option<bool>,
    is_complete: bool,
    /// The end token, if that is why, with its log-probability.
    end: Option<(u32, f32)>,
}

#[derive(Default)]
struct Group {
    /// The most probable ones first.
    live: Vec<Live>,
    /// How many have ended.
    ended: usize,
    /// The random numbers of the one text of the group, where it is drawn.
    draws: Option<Draws>,
}

/// A candidate to go on with.
#[derive(Clone, Copy)]
struct Candidate {
    /// What candidates are ordered by: the total, less what other groups cost it.
    key: f64,
    total: f64,
    /// Which hypothesis of the group it continues.
    parent: usize,
    id: u32,
    log_probability: f32,
}

/// A candidate that is taken.
struct Taken {
    candidate: Candidate,
    /// Whether it is an end token that ends its hypothesis.
    is_end: bool,
    /// Whether it is among as many as go on.
    is_in_beam: bool,
    /// The rules behind it.
    rules: Option<Followed>,
}

/// What was seen of the candidates of a hypothesis in one step.
#[derive(Clone, Default)]
struct Tried {
    /// Whether one of them goes on or ends.
    goes_on: bool,
    /// Why the last of the others cannot be followed; all candidates are there then.
    fault: Option<RulesError>,
}

/// The running search for one prompt.
pub(super) struct Sentence<'a> {
    /// Which prompt of the call.
    pub(super) index: usize,
    /// What was read before the first token.
    read: &'a [u32],
    forced: &'a [u32],
    /// Its rows of the state: `first`, `first + step`, …, one for each hypothesis of the beam.
    pub(super) first: usize,
    step: usize,
    /// Tokens of each hypothesis that goes on.
    length: usize,
    maximum: usize,
    nodes: Vec<Node>,
    groups: Vec<Group>,
    /// The best that an end token ended, the best one first.
    ended: Vec<Ended>,
    /// The others that do not go on.
    cut: Vec<Ended>,
    /// Why the last hypothesis was dropped that could not follow the rules.
    fault: Option<RulesError>,
}

impl<'a> Sentence<'a> {
    /// A search that has written nothing. The prompt's last token is read first, in the row `first`;
    /// `seen` is the number of positions of the source whose attention counts.
    pub(super) fn new(
        settings: &SearchSettings,
        waiting: &Waiting<'a>,
        [first, step]: [usize; 2],
        seen: usize,
    ) -> Self {
        let Waiting { index, source, prefix: read, forced, maximum } = *waiting;
        let next = read.last().copied().unwrap_or(0);
        let root = |group| {
            let (node, drawn, coverage) = (NOTHING, None, vec![0.0; seen]);
            let rules = settings.constraint.clone().and_then(Followed::new);
            let live = Live { group, node, total: 0.0, row: first, next, drawn, coverage, rules };
            let draws = settings.sampler.map(|it| Draws::new(it, group, [source, read]));
            Group { live: vec![live], ended: 0, draws }
        };
        let groups = (0..settings.parts()).map(root).collect();
        let (nodes, ended, cut, length) = (Vec::new(), Vec::new(), Vec::new(), 0);
        let fault = None;
        Self { index, read, forced, first, step, length, maximum, nodes, groups, ended, cut, fault }
    }

    /// The hypotheses that go on.
    pub(super) fn live(&self) -> impl Iterator<Item = &Live> {
        self.groups.iter().flat_map(|group| &group.live)
    }

    /// Whether nothing goes on.
    pub(super) fn is_over(&self) -> bool {
        self.groups.iter().all(|group| group.live.is_empty())
    }

    /// The token that has to come next, if one is forced.
    pub(super) fn forced(&self) -> Option<u32> {
        self.forced.get(self.length).copied()
    }

    /// Appends the tokens that must not follow a hypothesis.
    pub(super) fn exclude(&self, settings: &SearchSettings, live: &Live, out: &mut Vec<u32>) {
        if self.length < settings.minimum {
            out.extend(&settings.ends);
        }
        if (1..=self.length).contains(&settings.no_repeat) {
            let ids = self.ids(live.node);
            // The last tokens, which would begin the n-gram again.
            let begun = &ids[ids.len() + 1 - settings.no_repeat..];
            let grams = ids.windows(settings.no_repeat);
            let again = grams.filter(|gram| gram[..begun.len()] == *begun);
            out.extend(again.map(|gram| gram[begun.len()]));
        }
        if let Some(rules) = &live.rules {
            rules.exclude(out);
        }
    }

    /// Draws a token to come behind each text whose last one was read in `row`, unless one is forced.
    /// `logits` are those of the row, −∞ for what must not come, and `log_sum` is ln Σ e^logit of all.
    pub(super) fn draw(
        &mut self,
        sampler: &mut Sampler,
        row: usize,
        logits: &[f32],
        log_sum: f64,
    ) -> Result<(), SamplerError> {
        if self.forced().is_some() {
            return Ok(());
        }
        for group in 0..self.groups.len() {
            let own = self.groups[group].live.first().filter(|live| live.row == row);
            let Some(node) = own.map(|live| live.node) else { continue };
            let drawn = self.drawn(sampler, (group, node), logits, log_sum)?;
            self.groups[group].live.iter_mut().for_each(|live| live.drawn = drawn);
        }
        Ok(())
    }

    /// A token that is drawn to come behind a node of a group, with its ln p; none where none is left.
    fn drawn(
        &mut self,
        sampler: &mut Sampler,
        (group, node): (usize, u32),
        logits: &[f32],
        log_sum: f64,
    ) -> Result<Option<(u32, f32)>, SamplerError> {
        // As a session that samples: the penalty falls on what was read last, the prompt included.
        let written = self.path(node).map(|node| node.id);
        let recent: Vec<u32> =
            written.chain(self.read.iter().rev().copied()).take(RECENT).collect();
        let Some(draws) = &mut self.groups[group].draws else { return Ok(None) };
        let id = draws.next(sampler, logits, &recent)?;
        Ok(id.map(|id| (id, log_probability(logits[id as usize], log_sum))))
    }

    /// Draws anew what comes behind a text, from the tokens behind which its rules can be followed.
    /// `dead` is one behind which they cannot; none where they can behind none.
    fn draw_again(
        &mut self,
        settings: &SearchSettings,
        found: &mut Found<'_>,
        way: &Live,
        dead: u32,
    ) -> Result<Option<(u32, f32)>, EngineError> {
        let Some(sampler) = settings.sampler else { return Ok(None) };
        let mut sampler = Sampler::new(sampler)?;
        let mut excluded = vec![dead];
        self.exclude(settings, way, &mut excluded);
        let (mut logits, log_sum) = found.logits(way.row, &excluded)?;
        let place = (way.group, way.node);
        while let Some(drawn) = self.drawn(&mut sampler, place, &logits, log_sum)? {
            let (id, _) = drawn;
            let leads_on = || way.rules.as_ref().is_none_or(|rules| rules.with(id).is_ok());
            if settings.ends.contains(&id) || leads_on() {
                return Ok(Some(drawn));
            }
            logits[id as usize] = f32::NEG_INFINITY;
        }
        Ok(None)
    }

    /// Takes one step of every hypothesis that goes on. `copies` receives the rows of the state to
    /// copy, `[from, to]`: the first continuation of a hypothesis keeps its row.
    pub(super) fn advance(
        &mut self,
        settings: &SearchSettings,
        found: &mut Found<'_>,
        copies: &mut Vec<[usize; 2]>,
    ) -> Result<(), EngineError> {
        // What the earlier groups chose in this step.
        let mut chosen: Vec<u32> = Vec::new();
        for group in 0..self.groups.len() {
            self.advance_group(settings, found, group, &mut chosen)?;
        }
        self.length += 1;
        self.drop_hopeless(settings);
        if self.length >= self.maximum {
            for group in 0..self.groups.len() {
                for live in std::mem::take(&mut self.groups[group].live) {
                    self.cut(settings, &live);
                }
            }
        }
        self.place(settings.side_by_side(), copies);
        Ok(())
    }

    fn advance_group(
        &mut self,
        settings: &SearchSettings,
        found: &mut Found<'_>,
        group: usize,
        chosen: &mut Vec<u32>,
    ) -> Result<(), EngineError> {
        let live = std::mem::take(&mut self.groups[group].live);
        // What this group chooses counts for the later ones alone.
        let earlier = chosen.clone();
        let mut candidates = self.first_candidates(settings, found, &live, &earlier);
        let is_forced = self.forced().is_some();
        let most = settings.of_group();
        let mut next: Vec<Live> = Vec::with_capacity(most);
        let mut tried = vec![Tried::default(); live.len()];
        // The place of a candidate among those that can be followed.
        let mut rank = 0;
        let mut at = 0;
        while next.len() < most && at < candidates.len() {
            let candidate = candidates[at];
            at += 1;
            let Candidate { parent, id, .. } = candidate;
            let way = &live[parent];
            let is_end = !is_forced && settings.ends.contains(&id);
            let rules = way.rules.as_ref().filter(|_| !is_end).map(|rules| rules.with(id));
            let rules = match rules.transpose() {
                Ok(rules) => rules,
                // The rules allow it, but no token of the model can come behind it.
                Err(fault) => {
                    let is_first = tried[parent].fault.replace(fault).is_none();
                    if is_first && !is_forced {
                        let further = self.further(settings, found, way, id)?;
                        let of = |pair| of_pair(settings, &earlier, (parent, way), pair);
                        candidates.extend(further.into_iter().map(of));
                        order(&mut candidates[at..]);
                    }
                    continue;
                }
            };
            tried[parent].goes_on = true;
            // Further down an end would not be in the beam.
            let is_in_beam = rank < most;
            rank += 1;
            if is_in_beam || !is_end {
                chosen.push(id);
            }
            let taken = Taken { candidate, is_end, is_in_beam, rules };
            next.extend(self.follow(settings, found, way, taken));
        }
        // Where the beam is full, not all candidates were tried, and nothing is missing.
        if next.len() < most {
            for (way, Tried { goes_on, fault }) in live.iter().zip(tried) {
                if let Some(fault) = fault.filter(|_| !goes_on) {
                    self.drop_stuck(settings, way, fault);
                }
            }
        }
        let group = &mut self.groups[group];
        if group.ended < settings.enough() {
            group.live = next;
        }
        Ok(())
    }

    /// The candidates of a group that were looked for, or drawn, the best first. A hypothesis without
    /// one is cut. `chosen` are the tokens of earlier groups.
    fn first_candidates(
        &mut self,
        settings: &SearchSettings,
        found: &Found<'_>,
        live: &[Live],
        chosen: &[u32],
    ) -> Vec<Candidate> {
        let mut candidates = Vec::with_capacity(live.len() * found.count);
        for (parent, way) in live.iter().enumerate() {
            let place = found.places[way.row] * found.count;
            let ids = &found.ids[place..place + found.count];
            let values = &found.log_probabilities[place..place + found.count];
            let pairs = ids.iter().copied().zip(values.iter().copied());
            let pairs = pairs.take_while(|&(id, _)| id != NO_CANDIDATE);
            let of = |pair| of_pair(settings, chosen, (parent, way), pair);
            match way.drawn {
                Some(drawn) => candidates.push(of(drawn)),
                None => candidates.extend(pairs.map(of)),
            }
            if ids.first() == Some(&NO_CANDIDATE) {
                self.cut(settings, way);
            }
        }
        order(&mut candidates);
        candidates
    }

    /// Further candidates of a hypothesis, of which `dead` cannot be followed: no more were looked for
    /// than the beam needs where each can be. Of a text that is drawn there is one at most.
    fn further(
        &mut self,
        settings: &SearchSettings,
        found: &mut Found<'_>,
        way: &Live,
        dead: u32,
    ) -> Result<Vec<(u32, f32)>, EngineError> {
        if settings.sampler.is_some() {
            let drawn = self.draw_again(settings, found, way, dead)?;
            return Ok(drawn.into_iter().collect());
        }
        let mut excluded = Vec::new();
        self.exclude(settings, way, &mut excluded);
        found.further(way.row, &excluded)
    }

    /// Takes a candidate of a hypothesis: the hypothesis that goes on with it; none where it ends.
    fn follow(
        &mut self,
        settings: &SearchSettings,
        found: &Found<'_>,
        way: &Live,
        taken: Taken,
    ) -> Option<Live> {
        let Taken { candidate, is_end, is_in_beam, rules } = taken;
        let Candidate { total, id, log_probability, .. } = candidate;
        let Live { group, row, node: parent, .. } = *way;
        let attention = found.attention_of(row, way.coverage.len());
        let coverage = covered(&way.coverage, attention);
        if is_end {
            if is_in_beam {
                let end = Some((id, log_probability));
                self.end(settings, (group, parent), total, &coverage, end);
            }
            return None;
        }
        self.nodes.push(Node { parent, id, log_probability, source: largest(attention) });
        let node = (self.nodes.len() - 1) as u32;
        // Where an end token can come, its probability counts.
        if settings.ends.is_empty() && rules.as_ref().is_some_and(Followed::is_complete) {
            if is_in_beam {
                self.end(settings, (group, node), total, &coverage, None);
            }
            return None;
        }
        Some(Live { group, node, total, row, next: id, drawn: None, coverage, rules })
    }

    /// Drops a hypothesis that no token of the model can go on with as its rules ask. One that matches
    /// as it is, is taken so, unless a further token is forced on it.
    fn drop_stuck(&mut self, settings: &SearchSettings, way: &Live, fault: RulesError) {
        let matches = way.rules.as_ref().is_some_and(Followed::may_end);
        match matches && self.forced().is_none() {
            true => self.cut(settings, way),
            false => self.fault = Some(fault),
        }
    }

    /// Counts a hypothesis that ends, by an end token or by the rules, and adds it if it
    /// is among the best.
    fn end(
        &mut self,
        settings: &SearchSettings,
        (group, node): (usize, u32),
        total: f64,
        coverage: &[f32],
        end: Option<(u32, f32)>,
    ) {
        self.groups[group].ended += 1;
        let score = score(settings, total, self.length + 1, coverage);
        let at = self.ended.partition_point(|other| other.score >= score);
        if at < settings.hypotheses {
            self.ended.truncate(settings.hypotheses - 1);
            let (matches, is_complete) =
                (settings.constraint.as_ref().map(|_| true), end.is_none());
            self.ended.insert(at, Ended { group, node, total, score, matches, is_complete, end });
        }
    }

    /// Takes a hypothesis as it is.
    fn cut(&mut self, settings: &SearchSettings, live: &Live) {
        let Live { group, node, total, .. } = *live;
        let score = score(settings, total, self.length, &live.coverage);
        let follows = || live.rules.as_ref().is_some_and(Followed::may_end);
        let matches = settings.constraint.as_ref().map(|_| follows());
        let (is_complete, end) = (false, None);
        self.cut.push(Ended { group, node, total, score, matches, is_complete, end });
    }

    /// Drops hypotheses that can no longer be among the best: even if all that follows were certain,
    /// as long as allowed and covered the whole source.
    fn drop_hopeless(&mut self, settings: &SearchSettings) {
        let Some(worst) = self.ended.get(settings.hypotheses - 1).map(|ended| ended.score) else {
            return;
        };
        let divisor = settings.length_penalty.divisor(self.maximum);
        let hopes = |live: &Live| live.total / divisor > worst;
        match &mut self.groups[..] {
            [only] => only.live.retain(hopes),
            // What a group chooses counts for the others as long as any of them goes on.
            groups => {
                if !groups.iter().flat_map(|group| &group.live).any(hopes) {
                    groups.iter_mut().for_each(|group| group.live.clear());
                }
            }
        }
    }

    /// Gives each hypothesis a row: its parent's, or a copy of it.
    fn place(&mut self, beam: usize, copies: &mut Vec<[usize; 2]>) {
        let (first, step) = (self.first, self.step);
        let mut taken = vec![false; beam];
        let mut branches: Vec<&mut Live> = Vec::new();
        for live in self.groups.iter_mut().flat_map(|group| &mut group.live) {
            let own = &mut taken[(live.row - first) / step];
            if std::mem::replace(own, true) {
                branches.push(live);
            }
        }
        let mut free = (0..beam).filter(|&row| !taken[row]);
        for live in branches {
            // There are no more hypotheses than rows.
            let Some(row) = free.next() else { break };
            copies.push([live.row, first + row * step]);
            live.row = first + row * step;
        }
    }

    /// The best hypotheses, best first: those that have ended, then those that were cut. Texts that
    /// were drawn come in the order of their numbers. Where there is none, why the last one could
    /// not follow the rules.
    pub(super) fn into_hypotheses(
        mut self,
        settings: &SearchSettings,
    ) -> Result<Vec<Hypothesis>, RulesError> {
        let is_empty = self.ended.is_empty() && self.cut.is_empty();
        if let Some(fault) = self.fault.take().filter(|_| is_empty) {
            return Err(fault);
        }
        let cut = &mut self.cut;
        cut.sort_by(|a, b| b.score.total_cmp(&a.score));
        let best = self.ended.iter().chain(&self.cut).take(settings.hypotheses);
        let mut best: Vec<&Ended> = best.collect();
        if settings.sampler.is_some() {
            best.sort_by_key(|ended| ended.group);
        }
        Ok(best.into_iter().map(|ended| self.hypothesis(ended, settings.align)).collect())
    }

    fn hypothesis(&self, ended: &Ended, align: bool) -> Hypothesis {
        let mut nodes: Vec<Node> = self.path(ended.node).collect();
        nodes.reverse();
        let mut log_probabilities: Vec<f32> =
            nodes.iter().map(|node| node.log_probability).collect();
        log_probabilities.extend(ended.end.map(|(_, log_probability)| log_probability));
        let has_source = self.nodes.first().is_some_and(|node| node.source != NOTHING);
        Hypothesis {
            ids: nodes.iter().map(|node| node.id).collect(),
            log_probabilities,
            end: ended.end.map(|(id, _)| id),
            log_probability: ended.total,
            score: ended.score,
            alignment: match align && has_source {
                true => nodes.iter().map(|node| node.source).collect(),
                false => Vec::new(),
            },
            matches: ended.matches,
            is_complete: ended.is_complete,
        }
    }

    /// The tokens up to a node, the first one first.
    fn ids(&self, node: u32) -> Vec<u32> {
        let mut ids: Vec<u32> = self.path(node).map(|node| node.id).collect();
        ids.reverse();
        ids
    }

    /// The nodes from one back to the first token.
    fn path(&self, node: u32) -> impl Iterator<Item = Node> {
        let get = |node: u32| self.nodes.get(node as usize).copied();
        std::iter::successors(get(node), move |node| get(node.parent))
    }
}

/// A token and its ln p as a candidate of a hypothesis, which is the `parent`-th of its group. `chosen`
/// are the tokens of earlier groups.
fn of_pair(
    settings: &SearchSettings,
    chosen: &[u32],
    (parent, way): (usize, &Live),
    (id, log_probability): (u32, f32),
) -> Candidate {
    let total = way.total + f64::from(log_probability);
    let again = chosen.iter().filter(|&&other| other == id).count();
    let key = total - f64::from(settings.diversity) * again as f64;
    Candidate { key, total, parent, id, log_probability }
}

/// Puts the best candidate first. Of equal ones the better hypothesis comes first, and then its better
/// candidate: the sort is stable.
fn order(candidates: &mut [Candidate]) {
    candidates.sort_by(|a, b| b.key.total_cmp(&a.key).then(a.parent.cmp(&b.parent)));
}

fn score(settings: &SearchSettings, total: f64, tokens: usize, coverage: &[f32]) -> f64 {
    let mut score = total / settings.length_penalty.divisor(tokens);
    if settings.coverage_penalty > 0.0 {
        // A position that nothing attends to costs much, but not everything.
        let seen = coverage.iter().map(|&sum| f64::from(sum).clamp(1e-10, 1.0).ln());
        score += f64::from(settings.coverage_penalty) * seen.sum::<f64>();
    }
    score
}
