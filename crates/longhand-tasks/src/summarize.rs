//! Summaries: a short text that says what a long one is about, such as its title.

use std::collections::BTreeMap;

use longhand_metrics::{Metric, RougeScores};

use crate::writing::{Compared, Fields, Kind, Measures};

/// Summarises texts; ROUGE measures it, beside that of the beginning of the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary;

/// What a summary contributes to its metrics.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    rouge: RougeScores,
    /// The scores of the beginning of the text, as long as summaries are on average.
    lead: RougeScores,
}

impl Kind for Summary {
    const NAME: &'static str = "summarize";
    const ABOUT: &'static str = "A short text that says what a long one is about";
    const METRICS: &'static [(&'static str, &'static str)] = &[
        ("rouge1", "ROUGE-1"),
        ("rouge2", "ROUGE-2"),
        ("rougeL", "ROUGE-L"),
        ("lead_rouge1", "ROUGE-1 of the beginning of the text"),
        ("lead_rougeL", "ROUGE-L of the beginning of the text"),
        ("distinct2", "distinct-2"),
    ];
    const NUMBERS: &'static [(&'static str, &'static str)] = &[("perplexity", "perplexity")];
    const COLUMNS: &'static [&'static str] = &["summary", "score"];
    const FIELDS: Fields = Fields { source: "document", target: "summary", context: None };
    const LONGEST: [usize; 2] = [512, 128];
    const HAS_LEAD: bool = true;

    type Counts = Counts;

    fn count(measures: &Measures, compared: Compared<'_>) -> Counts {
        let Compared { source, output, references } = compared;
        let rouge = measures.rouge();
        let lead = source.first().map_or("", |text| measures.lead(text));
        Counts { rouge: rouge.count(output, references), lead: rouge.count(lead, references) }
    }

    fn score(measures: &Measures, counts: &[&Counts]) -> BTreeMap<&'static str, f64> {
        let rouge = measures.rouge();
        let own = rouge.score(counts.iter().map(|counts| &counts.rouge));
        let lead = rouge.score(counts.iter().map(|counts| &counts.lead));
        BTreeMap::from([
            ("rouge1", own.rouge1.f1),
            ("rouge2", own.rouge2.f1),
            ("rougeL", own.rouge_l.f1),
            ("rougeLsum", own.rouge_lsum.f1),
            ("lead_rouge1", lead.rouge1.f1),
            ("lead_rouge2", lead.rouge2.f1),
            ("lead_rougeL", lead.rouge_l.f1),
        ])
    }

    fn signatures(measures: &Measures, references: &[Vec<&str>]) -> Vec<(&'static str, String)> {
        vec![("rouge", measures.rouge().signature(references))]
    }
}
