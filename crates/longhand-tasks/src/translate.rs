//! Translation: a text in another language.

use std::collections::BTreeMap;

use longhand_metrics::{BleuCounts, ChrfCounts, Metric, TerCounts};

use crate::writing::{Compared, Fields, Kind, Measures};

/// Translates texts; BLEU, chrF++ and TER measure it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Translation;

/// What a translation contributes to its metrics.
#[derive(Clone, Debug)]
pub struct Counts {
    bleu: BleuCounts,
    chrf: ChrfCounts,
    ter: Option<TerCounts>,
}

impl Kind for Translation {
    const NAME: &'static str = "translate";
    const ABOUT: &'static str = "A text in another language";
    const METRICS: &'static [(&'static str, &'static str)] = &[];
    const NUMBERS: &'static [(&'static str, &'static str)] = &[
        ("bleu", "BLEU"),
        ("bleu_forward", "BLEU forward"),
        ("bleu_backward", "BLEU backward"),
        ("chrf", "chrF"),
        ("chrf_forward", "chrF forward"),
        ("chrf_backward", "chrF backward"),
        ("ter", "TER"),
        ("perplexity", "perplexity"),
    ];
    const COLUMNS: &'static [&'static str] = &["translation", "score"];
    const FIELDS: Fields = Fields { source: "source", target: "target", context: None };
    const LONGEST: [usize; 2] = [128, 128];
    const HAS_DIRECTIONS: bool = true;

    type Counts = Counts;

    fn count(measures: &Measures, compared: Compared<'_>) -> Counts {
        let Compared { output, references, .. } = compared;
        Counts {
            bleu: measures.bleu().count(output, references),
            chrf: measures.chrf().count(output, references),
            ter: measures.ter().map(|ter| ter.count(output, references)),
        }
    }

    fn score(measures: &Measures, counts: &[&Counts]) -> BTreeMap<&'static str, f64> {
        let bleu = measures.bleu().score(counts.iter().map(|counts| &counts.bleu)).score;
        let chrf = measures.chrf().score(counts.iter().map(|counts| &counts.chrf));
        let mut metrics = BTreeMap::from([("bleu", bleu), ("chrf", chrf)]);
        if let Some(ter) = measures.ter() {
            let score = ter.score(counts.iter().filter_map(|counts| counts.ter.as_ref()));
            metrics.insert("ter", score.score);
        }
        metrics
    }

    fn signatures(measures: &Measures, references: &[Vec<&str>]) -> Vec<(&'static str, String)> {
        let mut found = vec![
            ("bleu", measures.bleu().signature(references)),
            ("chrf", measures.chrf().signature(references)),
        ];
        found.extend(measures.ter().map(|ter| ("ter", ter.signature(references))));
        found
    }
}
