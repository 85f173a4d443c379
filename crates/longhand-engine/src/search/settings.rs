//! How a search goes on, and when it ends.

use crate::error::EngineError;
use crate::rules::Constraint;
use crate::sampler::SamplerSettings;

/// The widest beam of a search.
pub const MOST_BEAM: usize = 1 << 12;
/// The most rows of one decode pass.
pub const MOST_ROWS: usize = 1 << 16;

/// Settings of a search, checked when it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchSettings {
    /// K: hypotheses that are continued side by side for each prompt. With 1 the search
    /// is greedy. Default: 5.
    pub beam: usize,
    /// How many of the best hypotheses are returned, at most K; with
    /// [`SearchSettings::sampler`], how many texts are drawn. Default: 1.
    pub hypotheses: usize,
    /// What the log-probability is divided by. Default: [`LengthPenalty::None`].
    pub length_penalty: LengthPenalty,
    /// β of the coverage penalty (Wu et al., 2016, eq. 14): `β·Σ_j ln min(Σ_t a[t, j], 1)` is added
    /// to the score, where `a[t, j]` is the attention of token t to position j of the source.
    /// It counts for models with an encoder only. Default: 0.
    pub coverage_penalty: f32,
    /// Whether to report which position of the source each token attends to. Default: no.
    pub align: bool,
    /// Groups of the beam that differ from each other (Vijayakumar et al., 2016); they have K /
    /// groups hypotheses each. Default: 1.
    pub groups: usize,
    /// λ: what a candidate loses for each time that an earlier group chose the same token
    /// in the same step (Hamming diversity). It decides on what goes on, and is no part of
    /// the score. Default: 0.
    pub diversity: f32,
    /// No n-gram of this many tokens comes twice in a hypothesis; 0 allows it. Default: 0.
    pub no_repeat: usize,
    /// The fewest tokens before an end token. Default: 0.
    pub minimum: usize,
    /// The most tokens, the end token included. Default: 256.
    pub maximum: MostTokens,
    /// Tokens that end a hypothesis. Default: none, so that only the maximum ends it.
    pub ends: Vec<u32>,
    /// Tokens that are never written, unless they are forced. Default: none.
    pub forbidden: Vec<u32>,
    /// The rules that each hypothesis follows, at the beginning of a text, with
    /// [`SearchSettings::ends`] as the tokens that end it. A hypothesis that no token can
    /// continue as they ask is dropped; one whose tokens the other settings exclude is cut.
    /// Default: none.
    pub constraint: Option<Constraint>,
    /// Draws [`SearchSettings::hypotheses`] texts for each prompt in place of searching for the best:
    /// each by itself, token by token, from what the other settings leave. The random numbers of a
    /// text follow from the seed, the text's number and what is read before it. They come in the order of
    /// their numbers; beam, groups, diversity and patience do not count. Default: none, a search.
    pub sampler: Option<SamplerSettings>,
    /// How many times K hypotheses must have ended for the search to end (Kasai et al., 2024). It
    /// ends sooner where none that goes on can still be among the best; ∞ leaves it at that, which
    /// is exact. Default: 1.
    pub patience: f32,
    /// The most rows of a decode pass, hypotheses of all prompts together: what bounds
    /// the memory. Default: 256.
    pub rows: usize,
}

/// The divisor of a log-probability, without which short hypotheses would win.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum LengthPenalty {
    /// The log-probability itself is the score.
    #[default]
    None,
    /// `((5 + n) / 6)^α` for n tokens, the end token included (Wu et al., 2016, eq. 14).
    Gnmt(f32),
    /// n^α: with α = 1 the score is the mean over the tokens.
    Power(f32),
}

/// The most tokens of a hypothesis: a number, and some more for each token that was read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MostTokens {
    /// Tokens whatever was read.
    pub tokens: usize,
    /// Tokens for each one of the source, or of the prefix where there is no source.
    pub per_token: f32,
}

impl Default for SearchSettings {
    fn default() -> Self {
        Self {
            beam: 5,
            hypotheses: 1,
            length_penalty: LengthPenalty::None,
            coverage_penalty: 0.0,
            align: false,
            groups: 1,
            diversity: 0.0,
            no_repeat: 0,
            minimum: 0,
            maximum: MostTokens { tokens: 256, per_token: 0.0 },
            ends: Vec::new(),
            forbidden: Vec::new(),
            constraint: None,
            sampler: None,
            patience: 1.0,
            rows: 256,
        }
    }
}

impl LengthPenalty {
    /// The divisor for n tokens; it never falls as n grows.
    pub fn divisor(self, tokens: usize) -> f64 {
        let n = tokens.max(1) as f64;
        match self {
            Self::None => 1.0,
            Self::Gnmt(alpha) => ((5.0 + n) / 6.0).powf(f64::from(alpha)),
            Self::Power(alpha) => n.powf(f64::from(alpha)),
        }
    }

    fn alpha(self) -> f32 {
        match self {
            Self::None => 0.0,
            Self::Gnmt(alpha) | Self::Power(alpha) => alpha,
        }
    }
}

impl MostTokens {
    /// The most tokens after `read` tokens.
    pub(super) fn after(self, read: usize) -> usize {
        let further = f64::from(self.per_token) * read as f64;
        self.tokens.saturating_add(further.ceil() as usize)
    }
}

impl SearchSettings {
    /// The most probable token always.
    pub fn greedy() -> Self {
        Self { beam: 1, ..Self::default() }
    }

    /// Checks every setting against its range, for a model of `vocab_size` tokens.
    ///
    /// # Errors
    /// [`EngineError::Option`] names the first setting out of its range, [`EngineError::Rules`] the rules
    /// that no token can follow.
    pub fn check(&self, vocab_size: usize) -> Result<(), EngineError> {
        let check = |name, value: &dyn ToString, allowed, holds: bool| match holds {
            true => Ok(()),
            false => Err(EngineError::Option { name, value: value.to_string(), allowed }),
        };
        let at_least_zero = |x: f32| x.is_finite() && x >= 0.0;
        let Self { beam, hypotheses, groups, diversity, patience, rows, .. } = *self;
        let (alpha, beta) = (self.length_penalty.alpha(), self.coverage_penalty);
        let MostTokens { tokens, per_token } = self.maximum;
        check("the beam", &beam, "from 1 to 4096", (1..=MOST_BEAM).contains(&beam))?;
        let (name, allowed, most) = match &self.sampler {
            None => ("the number of hypotheses", "at least 1 and at most the beam", beam),
            Some(sampler) => {
                sampler.check()?;
                ("the number of texts", "from 1 to 4096", MOST_BEAM)
            }
        };
        check(name, &hypotheses, allowed, (1..=most).contains(&hypotheses))?;
        check("the length penalty", &alpha, "0 (none) or more", at_least_zero(alpha))?;
        check("the coverage penalty", &beta, "0 (none) or more", at_least_zero(beta))?;
        let fits = groups > 0 && beam.is_multiple_of(groups);
        check("the number of groups", &groups, "a divisor of the beam", fits)?;
        check("the diversity", &diversity, "0 (none) or more", at_least_zero(diversity))?;
        let fits = diversity == 0.0 || groups > 1;
        check("the diversity", &diversity, "0 where the beam is one group", fits)?;
        let fits = at_least_zero(per_token) && per_token <= 1e6;
        check("the maximum for each token", &per_token, "from 0 to 1000000", fits)?;
        check("the maximum", &tokens, "at least 1", tokens > 0 || per_token > 0.0)?;
        check("the minimum", &self.minimum, "less than the maximum", {
            self.minimum < tokens || per_token > 0.0
        })?;
        check("the patience", &patience, "more than 0", patience > 0.0)?;
        check("the number of rows", &rows, "from 1 to 65536", (1..=MOST_ROWS).contains(&rows))?;
        if let Some(constraint) = &self.constraint {
            constraint.clone().mask()?;
        }
        let unknown = |ids: &[u32]| ids.iter().copied().find(|&id| id as usize >= vocab_size);
        for (name, ids) in [("an end token", &self.ends), ("a forbidden token", &self.forbidden)] {
            if let Some(id) = unknown(ids) {
                check(name, &id, "an id that the model knows", false)?;
            }
        }
        Ok(())
    }

    /// Hypotheses of a prompt that go on side by side.
    pub(super) fn side_by_side(&self) -> usize {
        match self.sampler {
            None => self.beam,
            Some(_) => self.hypotheses,
        }
    }

    /// Groups of them; each text that is drawn is a group of its own.
    pub(super) fn parts(&self) -> usize {
        match self.sampler {
            None => self.groups,
            Some(_) => self.hypotheses,
        }
    }

    /// Hypotheses of a group.
    pub(super) fn of_group(&self) -> usize {
        self.side_by_side() / self.parts()
    }

    /// How many hypotheses of a group end before the group does.
    pub(super) fn enough(&self) -> usize {
        (f64::from(self.patience) * self.of_group() as f64).ceil() as usize
    }
}
