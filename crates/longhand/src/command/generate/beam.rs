//! `longhand generate --beam`: the most probable text, searched for.

use std::io::Write;
use std::num::NonZeroUsize;

use anyhow::Result;
use clap::Args;
use longhand_engine::search::{LengthPenalty, MostTokens};
use longhand_engine::{Engine, Hypothesis, Reader, SearchSettings, Session};
use longhand_text::Decoder;

use super::super::writing::DIVERSITY;
use super::Written;
use crate::error::Usage;
use crate::rules;
use crate::screen::Screen;

/// How the most probable text is searched for.
#[derive(Args)]
pub(super) struct BeamArguments {
    /// Write the most probable text that a beam of this many hypotheses finds, in place of drawing
    /// tokens; 1 is greedy
    #[arg(long, value_name = "N", conflicts_with_all = [
        "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed", "stop",
    ])]
    beam: Option<NonZeroUsize>,
    /// Print this many of the best texts, the best first: a JSON object a line [default: 1]
    #[arg(long, value_name = "N", requires_all = ["beam", "json"])]
    nbest: Option<NonZeroUsize>,
    /// Favours long texts, the more the larger: α of Wu et al. (2016) [default: 0]
    #[arg(long, value_name = "X", requires = "beam", allow_negative_numbers = true)]
    length_penalty: Option<f32>,
    /// No sequence of this many tokens comes twice [default: 0, which allows it]
    #[arg(long, value_name = "N", requires = "beam")]
    no_repeat: Option<usize>,
    /// The fewest tokens before the document may end [default: 0]
    #[arg(long, value_name = "N", requires = "beam")]
    min_tokens: Option<usize>,
    /// Parts of the beam that differ from each other (Vijayakumar et al., 2016) [default: 1]
    #[arg(long, value_name = "N", requires = "beam")]
    groups: Option<NonZeroUsize>,
    /// What a token costs that another part of the beam chose, in nats [default:
    /// 0.5 with several groups]
    #[arg(long, value_name = "X", requires_all = ["beam", "groups"], allow_negative_numbers = true)]
    diversity: Option<f32>,
    /// How many times the beam's number of texts must have ended for the search to end; inf to go on
    /// until no better one is possible [default: 1]
    #[arg(long, value_name = "X", requires = "beam", allow_negative_numbers = true)]
    patience: Option<f32>,
}

impl BeamArguments {
    /// The settings of the search, if one is asked for.
    ///
    /// # Errors
    /// A usage error names the flag's setting that is out of its range.
    pub(super) fn settings(
        &self,
        engine: &Engine,
        max_tokens: usize,
    ) -> Result<Option<SearchSettings>, Usage> {
        let Some(beam) = self.beam else { return Ok(None) };
        let default = SearchSettings::default();
        let spread = self.groups.filter(|groups| groups.get() > 1).map(|_| DIVERSITY);
        let settings = SearchSettings {
            beam: beam.get(),
            hypotheses: self.nbest.map_or(default.hypotheses, NonZeroUsize::get),
            length_penalty: self.length_penalty.map_or(LengthPenalty::None, LengthPenalty::Gnmt),
            groups: self.groups.map_or(default.groups, NonZeroUsize::get),
            diversity: self.diversity.or(spread).unwrap_or(default.diversity),
            no_repeat: self.no_repeat.unwrap_or(default.no_repeat),
            minimum: self.min_tokens.unwrap_or(default.minimum),
            maximum: MostTokens { tokens: max_tokens, per_token: 0.0 },
            ends: engine.tokenizer().document_end_id().into_iter().collect(),
            patience: self.patience.unwrap_or(default.patience),
            ..default
        };
        let vocab_size = engine.model().vocab_size();
        settings.check(vocab_size).map_err(|error| Usage(error.to_string()))?;
        Ok(Some(settings))
    }
}

/// Writes the best continuations of a session; the ids of the best one.
pub(super) fn write(
    reader: &mut Reader,
    session: &Session,
    settings: &SearchSettings,
    echo: &str,
    json: bool,
) -> Result<Vec<u32>> {
    let found = session.search(reader, settings)?;
    let mut out = Screen::stdout();
    for hypothesis in &found {
        let text = format!("{echo}{}", text(session, hypothesis)?);
        if json {
            let Hypothesis { ids, log_probabilities, .. } = hypothesis;
            let own = log_probabilities.iter().take(ids.len()).copied();
            let written = Written {
                text,
                ids: ids.clone(),
                log_probabilities: own.map(Some).collect(),
                finish: if hypothesis.is_finished() { "end" } else { "length" },
                matches: hypothesis.matches,
                score: Some(hypothesis.score),
                stop: None,
            };
            serde_json::to_writer(&mut out, &written)?;
            writeln!(out)?;
        } else {
            out.write_all(text.as_bytes())?;
        }
    }
    if !json && out.is_terminal() {
        writeln!(out)?;
    }
    if found.iter().any(|hypothesis| hypothesis.matches == Some(false)) {
        rules::tell_unfinished(settings.maximum.tokens);
    }
    Ok(found.into_iter().next().map_or_else(Vec::new, |best| best.ids))
}

/// A hypothesis as it reads behind what the session has read.
fn text(session: &Session, hypothesis: &Hypothesis) -> Result<String> {
    let mut decoder = Decoder::new(session.engine().tokenizer().clone());
    for id in session.recent() {
        decoder.push(id)?;
    }
    let mut text = String::new();
    for &id in &hypothesis.ids {
        text.push_str(&decoder.push(id)?);
    }
    Ok(text)
}
