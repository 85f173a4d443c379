//! `longhand inspect`: what each memory contributes.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use longhand::plot::{self, Panel, PanelForm, PlotError};
use longhand_engine::inspect::{Inspection, Losses, MeanGates, MemoryGates};
use longhand_engine::recall::{
    MOST_QUESTIONS, RecallAtDistance, RecallOptions, Recalled, recall, window,
};
use longhand_engine::{Cpu, Engine};
use longhand_text::sample::{self, LONGEST_DISTANCE, Language};

use crate::error::within;
use crate::reading::{LanguageName, ModelArguments, TextArguments, writable};
use crate::talk::say;

/// Shows what each memory contributed to a text, or how far back facts are recalled.
#[derive(Args)]
#[command(after_help = "Example:\n  longhand inspect model --text story.txt --plot story.png\n  \
    longhand inspect model --recall --plot recall.png\n\n\
    A memory's contribution to a token is the rise of its loss when that memory gives zeros; the \
    shares divide both rises. i/f are the means of a long memory's input and forget gates. The \
    plot shows all of them.\n\
    A fact is `recalled` where greedy writing gives exactly the answer, and `chosen` where the \
    answer is the most probable of all names; `chance` is how often guessing would choose it.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// A text to inspect; - reads stdin
    #[arg(long, value_name = "FILE", required_unless_present = "recall")]
    text: Option<PathBuf>,
    /// Ask the built-in sample's questions instead
    #[arg(long, conflicts_with = "text")]
    recall: bool,
    /// Questions at each distance
    #[arg(long, value_name = "N", default_value_t = 100, requires = "recall")]
    questions: usize,
    /// Distances in characters, separated by commas [default: ½, 1, 1½, 2, 3
    /// and 4 attention windows]
    #[arg(long, value_name = "N,…", value_delimiter = ',', requires = "recall")]
    distances: Vec<usize>,
    /// The language of the questions
    #[arg(long, value_enum, default_value_t = LanguageName::English, requires = "recall")]
    language: LanguageName,
    /// Seed of the questions
    #[arg(long, default_value_t = 1, requires = "recall")]
    seed: u64,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Draw a PNG file
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Overwrite that file if it exists
    #[arg(long, requires = "plot")]
    force: bool,
    #[command(flatten)]
    reading: TextArguments,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        if let Some(path) = &self.plot {
            writable(path, self.force)?;
        }
        within("--questions", self.questions, 1..=MOST_QUESTIONS)?;
        for &distance in &self.distances {
            within("--distances", distance, 0..=LONGEST_DISTANCE)?;
        }
        let (engine, cpu) = self.model.open()?;
        engine.model().network()?;
        match &self.text {
            Some(text) => self.contributions(&engine, &cpu, text),
            None => self.recalled(&engine, &cpu),
        }
    }

    fn contributions(&self, engine: &Arc<Engine>, cpu: &Arc<Cpu>, text: &Path) -> Result<()> {
        let ids = self.reading.ids(&[text.to_path_buf()], engine)?;
        let inspection = Inspection::of(engine, cpu, &ids)?;
        // Whoever has read enough of the table may still want the plot.
        if let Some(path) = &self.plot {
            draw_contributions(path, &inspection)?;
        }
        let mut out = std::io::stdout().lock();
        if self.json {
            serde_json::to_writer(&mut out, &inspection)?;
            return Ok(writeln!(out)?);
        }
        print_contributions(&mut out, &inspection)
    }

    fn recalled(&self, engine: &Arc<Engine>, cpu: &Arc<Cpu>) -> Result<()> {
        let language = self.language.into();
        let options = RecallOptions {
            language,
            distances: match &self.distances[..] {
                [] => default_distances(engine, language)?,
                distances => distances.to_vec(),
            },
            questions: self.questions,
            seed: self.seed,
        };
        let mut out = std::io::stdout().lock();
        let mut written = Ok(());
        if !self.json {
            written = writeln!(
                out,
                "{:>8} {:>8} {:>9} {:>7} | {:>20} | {:>20} | {:>20}\n{:>36}|{:>11}{:>11} |{:>11}\
                 {:>11} |{:>11}{:>11}",
                "distance",
                "tokens",
                "questions",
                "chance",
                "both memories",
                "without working",
                "without long",
                "",
                "recalled",
                "chosen",
                "recalled",
                "chosen",
                "recalled",
                "chosen"
            );
        }
        let results = recall(engine, cpu, &options, |result| {
            if !self.json && written.is_ok() {
                written = print_recall(&mut out, result);
            }
        })?;
        if let Some(path) = &self.plot {
            draw_recall(path, &results)?;
        }
        if self.json {
            let window = window(engine);
            let all = serde_json::json!({ "window": window, "distances": results });
            written = writeln!(out, "{all}");
        }
        Ok(written?)
    }
}

/// Half a window to four, in characters, at the sample's average of characters for each token.
fn default_distances(engine: &Engine, language: Language) -> Result<Vec<usize>> {
    let stories = sample::stories_in(language, 1, 20);
    let text: String = stories.iter().map(|story| story.text.as_str()).collect();
    let tokens = engine.tokenizer().encode(&text)?.len().max(1);
    let window = window(engine) as f64 * text.chars().count() as f64 / tokens as f64;
    let distance = |windows: &f64| ((windows * window).round() as usize).min(LONGEST_DISTANCE);
    Ok([0.5, 1.0, 1.5, 2.0, 3.0, 4.0].iter().map(distance).collect())
}

fn print_contributions(out: &mut impl Write, inspection: &Inspection) -> Result<()> {
    let head = ["position", "token", "loss", "no WM", "no LTM", "WM", "LTM"];
    let [position, token, loss, no_working, no_long, working, long] = head;
    write!(
        out,
        "{position:>8}  {token:<16} {loss:>8} {no_working:>8} {no_long:>8} {working:>6} {long:>6}"
    )?;
    // One column for each long memory: its input and forget gates.
    for gates in &inspection.gates {
        let name = gates.memory.trim_start_matches("blocks.");
        write!(out, "  {:>13}", format!("{name} i/f"))?;
    }
    writeln!(out)?;
    for token in &inspection.tokens {
        let name = token.token.escape_debug().to_string();
        write!(out, "{:>8}  {name:<16}", token.position)?;
        print_losses(out, token.losses.as_ref())?;
        for gates in &inspection.gates {
            let (input, forget) = (gates.input[token.position], gates.forget[token.position]);
            write!(out, "  {:>13}", format!("{input:.2} / {forget:.2}"))?;
        }
        writeln!(out)?;
    }
    if let Some(mean) = &inspection.mean {
        write!(out, "{:>8}  {:<16}", "mean", format!("{} tokens", mean.tokens))?;
        print_losses(out, Some(&mean.losses))?;
        for MeanGates { input, forget } in inspection.gates.iter().filter_map(|gates| gates.mean) {
            write!(out, "  {:>13}", format!("{input:.2} / {forget:.2}"))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn print_losses(out: &mut impl Write, losses: Option<&Losses>) -> Result<()> {
    let Some(losses) = losses else {
        return Ok(write!(out, " {:>8} {:>8} {:>8} {:>6} {:>6}", "-", "-", "-", "-", "-")?);
    };
    let percent = |share: Option<f32>| share.map_or("-".into(), |x| format!("{:.0} %", 100.0 * x));
    Ok(write!(
        out,
        " {:>8.4} {:>8.4} {:>8.4} {:>6} {:>6}",
        losses.loss,
        losses.without_working,
        losses.without_long,
        percent(losses.working_share),
        percent(losses.long_share)
    )?)
}

/// What each memory took off each token's loss, in nats, one on the other; both memories' shares
/// of it; and the gates of every long memory.
fn draw_contributions(path: &Path, inspection: &Inspection) -> Result<()> {
    let all = inspection.tokens.len();
    match draw_first(path, inspection, all) {
        Err(PlotError::TooManyTokens { most, .. }) if most < all => {
            say!("the plot shows the first {most} of {all} tokens: inspect a part to see others");
            Ok(draw_first(path, inspection, most)?)
        }
        drawn => Ok(drawn?),
    }
}

/// Draws the first `count` tokens.
fn draw_first(path: &Path, inspection: &Inspection, count: usize) -> Result<(), PlotError> {
    let tokens = &inspection.tokens[..count];
    let labels: Vec<String> = tokens.iter().map(|token| token.token.clone()).collect();
    let of_tokens = |value: fn(&Losses) -> f32| -> Vec<f64> {
        let losses = tokens.iter().map(|token| token.losses.as_ref());
        losses.map(|losses| losses.map_or(f64::NAN, |losses| f64::from(value(losses)))).collect()
    };
    let memories = |working: fn(&Losses) -> f32, long: fn(&Losses) -> f32| {
        vec![("working memory", of_tokens(working)), ("long memory", of_tokens(long))]
    };
    let mut panels = vec![
        Panel {
            title: "taken off the loss (nats)",
            form: PanelForm::Bars,
            range: None,
            series: memories(
                |losses| (losses.without_working - losses.loss).max(0.0),
                |losses| (losses.without_long - losses.loss).max(0.0),
            ),
        },
        Panel {
            title: "shares",
            form: PanelForm::Bars,
            range: Some((0.0, 1.0)),
            series: memories(
                |losses| losses.working_share.unwrap_or(f32::NAN),
                |losses| losses.long_share.unwrap_or(f32::NAN),
            ),
        },
    ];
    for MemoryGates { memory, input, forget, .. } in &inspection.gates {
        let values = |gates: &[f32]| gates.iter().take(count).copied().map(f64::from).collect();
        panels.push(Panel {
            title: memory,
            form: PanelForm::Curves,
            range: Some((0.0, 1.0)),
            series: vec![("input gate", values(input)), ("forget gate", values(forget))],
        });
    }
    plot::token_panels(path, "What each memory contributed", &labels, &panels)
}

fn print_recall(out: &mut impl Write, result: &RecallAtDistance) -> std::io::Result<()> {
    let percent = |count: usize| 100.0 * count as f64 / result.questions as f64;
    write!(
        out,
        "{:>8.0} {:>8.0} {:>9} {:>5.1} % ",
        result.mean_distance,
        result.mean_tokens,
        result.questions,
        100.0 * result.chance
    )?;
    for Recalled { recalled, chosen } in [result.whole, result.without_working, result.without_long]
    {
        write!(out, "| {:>8.1} % {:>8.1} % ", percent(recalled), percent(chosen))?;
    }
    writeln!(out)?;
    out.flush()
}

fn draw_recall(path: &Path, results: &[RecallAtDistance]) -> Result<()> {
    let curve = |of: &dyn Fn(&RecallAtDistance) -> f64| -> Vec<(f64, f64)> {
        results.iter().map(|result| (result.mean_distance, of(result))).collect()
    };
    let share = |count: usize, result: &RecallAtDistance| count as f64 / result.questions as f64;
    let series = [
        ("both memories, recalled", curve(&|r| share(r.whole.recalled, r))),
        ("both memories, chosen", curve(&|r| share(r.whole.chosen, r))),
        ("without working, chosen", curve(&|r| share(r.without_working.chosen, r))),
        ("without long, chosen", curve(&|r| share(r.without_long.chosen, r))),
        ("chance", curve(&|r| r.chance)),
    ];
    let (title, x, y) = ("Facts recalled by distance", "distance in characters", "share");
    Ok(plot::lines(path, title, x, y, &series)?)
}
