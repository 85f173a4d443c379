//! Measures seeded outputs against seeded references, for `scripts/check_metrics.py`.

use std::path::PathBuf;

use longhand_metrics::{
    Bleu, BleuScore, Chrf, Metric, Overlap, Rouge, RougeScores, RougeTokens, Smoothing, Ter,
    TerScore, Tokenizer, distinct, stem,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

const OUTPUTS: usize = 1000;

/// Every so many texts one is long: sacrebleu takes seconds for its edit rate.
const LONG: usize = 50;

/// Beginnings and ends of words, which rules of stemming treat in different ways.
const ROOTS: [&str; 26] = [
    "relat", "hop", "hopp", "troubl", "fall", "happ", "enjo", "d", "t", "sk", "electr", "commun",
    "adjust", "control", "siz", "vietnam", "gyroscop", "y", "syz", "oat", "geo", "formal", "3d",
    "fe", "us", "ow",
];
const ENDS: [&str; 48] = [
    "", "s", "es", "ies", "sses", "ed", "eed", "ied", "ing", "ating", "bling", "izing", "y",
    "ational", "tional", "enci", "anci", "izer", "bli", "ably", "alli", "ally", "entli", "eli",
    "ousli", "ization", "ator", "alism", "iveness", "fulness", "ousness", "aliti", "iviti",
    "biliti", "fulli", "logi", "icate", "ative", "alize", "ical", "ful", "ness", "ement", "ment",
    "ion", "sion", "ll", "e",
];
/// Common words: they repeat, so that n-grams match more than once and runs can move.
const WORDS: [&str; 17] = [
    "its", "the", "The", "of", "a", "cat", "sat", "on", "mat", "is", "said", "new", "New", "york",
    "not", "to", "it",
];
/// What tokenisers part, join or drop, and what Python and Rust might treat in different ways.
const ODDITIES: [&str; 60] = [
    ".",
    ",",
    "...",
    "..",
    " .",
    "?!",
    "(so)",
    "((so))",
    "\"so\"",
    "'s",
    "don't",
    "e.g.,",
    "U.S.",
    "1,200.50",
    "3.14",
    ".5",
    "5.",
    "3-4",
    "-3",
    "1990-",
    "well-known",
    "--",
    "$5",
    "50%",
    "a/b",
    "http://a.bc/d?e=f&g=1",
    "me@site.org",
    "#tag",
    "&quot;",
    "&amp;lt;",
    "&lt;b&gt;",
    "&nbsp;",
    "<skipped>",
    "“so”",
    "‘so’",
    "—",
    "…",
    "•",
    "é",
    "É",
    "naïve",
    "İ",
    "ΟΔΟΣ",
    "ΣΑΣ",
    "ß",
    "K",
    "ﬁ",
    "ǅ",
    "😀",
    "👍🏽",
    "e\u{301}",
    "\u{200b}",
    "٣.٤",
    "１２．５",
    "\u{20000}\u{20001}",
    "\u{a0}",
    "\u{3000}",
    "\u{1c}",
    "\u{85}",
    "\u{feff}",
];
const CHINESE: [&str; 22] = [
    "我",
    "们",
    "的",
    "北",
    "京",
    "大",
    "学",
    "今天",
    "天气",
    "很好",
    "，",
    "。",
    "！",
    "“",
    "”",
    "《",
    "》",
    "iPhone",
    "2024",
    "年",
    "ｗｉｄｅ",
    "の",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("name a folder")?);
    fs_err::create_dir_all(&folder)?;
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut pairs = Vec::with_capacity(OUTPUTS);
    for number in 0..OUTPUTS {
        let pieces = draw(number, &mut random);
        let references: Vec<String> = (0..3)
            .map(|rank| {
                let edits = rank * random.random_range(0..3);
                changed(&pieces, edits, &mut random).concat()
            })
            .collect();
        let edits = random.random_range(0..6) * (1 + pieces.len() / 20);
        let mut output = changed(&pieces, edits, &mut random).concat();
        if number % 53 == 0 {
            output.clear();
        }
        pairs.push((output, references));
    }
    // One reference each, three, and a number that varies. Some are empty. The Python packages are slow:
    // they read fewer outputs where these have several references.
    for (name, most, outputs) in [("one", 1, OUTPUTS), ("three", 3, 300), ("varied", 0, 300)] {
        let pairs = &pairs[..outputs];
        let outputs: Vec<&str> = pairs.iter().map(|(output, _)| output.as_str()).collect();
        let references: Vec<Vec<&str>> = pairs
            .iter()
            .enumerate()
            .map(|(number, (_, references))| {
                let kept = if most == 0 { 1 + number % 3 } else { most };
                let text = |text| if number % 97 == 5 { "" } else { text };
                references[..kept].iter().map(|reference| text(reference.as_str())).collect()
            })
            .collect();
        let sample = sample(&outputs, &references)?;
        fs_err::write(folder.join(format!("{name}.json")), sample.to_string())?;
    }
    let words = ROOTS.iter().flat_map(|root| {
        ENDS.iter().flat_map(move |end| ENDS.iter().map(move |last| format!("{root}{end}{last}")))
    });
    let stems: Vec<_> =
        words.filter(|word| !word.is_empty()).map(|word| [stem(&word), word]).collect();
    fs_err::write(folder.join("stems.json"), json!({ "stems": stems }).to_string())?;
    Ok(())
}

/// The pieces of one text: English, Chinese, many words of a small choice, or none.
fn draw(number: usize, random: &mut ChaCha8Rng) -> Vec<String> {
    let is_long = number % LONG == LONG - 1;
    let length = match number % 40 {
        _ if is_long => random.random_range(60..120),
        38 => 0,
        17 => random.random_range(1..4),
        _ => random.random_range(4..30),
    };
    let mut pieces = Vec::with_capacity(2 * length);
    if number % 40 == 7 {
        pieces.push(" .5".to_owned());
    }
    for _ in 0..length {
        let mut pick = |pieces: &[&str]| pieces[random.random_range(0..pieces.len())].to_owned();
        let kind = pick(&["word", "word", "word", "odd", "inflected", "end"]);
        let is_chinese = number % 5 == 1;
        pieces.push(match kind.as_str() {
            // Every second long text has three words alone: attempts at moves come to their limit.
            _ if is_long && number % (2 * LONG) < LONG => pick(&WORDS[..3]),
            "odd" if !is_long => pick(&ODDITIES),
            _ if is_chinese => pick(&CHINESE),
            "inflected" => pick(&ROOTS) + &pick(&ENDS),
            "end" => pick(&[".", ",", "!", "\n", " \n", "-\n"]),
            _ => pick(&WORDS),
        });
        let space =
            if is_chinese { pick(&["", "", "", " "]) } else { pick(&[" ", " ", " ", " ", ""]) };
        pieces.push(space);
    }
    pieces
}

/// The pieces after random deletions, repetitions, exchanges and moves of runs, which are longer where
/// the text is long.
fn changed(pieces: &[String], edits: usize, random: &mut ChaCha8Rng) -> Vec<String> {
    let mut pieces = pieces.to_vec();
    for _ in 0..edits {
        if pieces.is_empty() {
            break;
        }
        let start = random.random_range(0..pieces.len());
        let longest = if pieces.len() > 80 { 60 } else { 12 };
        let end = pieces.len().min(start + random.random_range(1..=longest));
        match random.random_range(0..5) {
            0 => drop(pieces.drain(start..end)),
            1 => pieces.insert(start, pieces[start].clone()),
            2 => pieces[start] = WORDS[random.random_range(0..WORDS.len())].to_owned(),
            3 => pieces[start] = pieces[start].to_uppercase(),
            _ => {
                let run: Vec<String> = pieces.drain(start..end).collect();
                let place = random.random_range(0..=pieces.len());
                pieces.splice(place..place, run);
            }
        }
    }
    pieces
}

/// The texts, and every score of them.
fn sample(outputs: &[&str], references: &[Vec<&str>]) -> Result<Value, Box<dyn std::error::Error>> {
    let mut distinct_shares = Vec::new();
    for tokenizer in Tokenizer::ALL {
        let counts = distinct(outputs, tokenizer)?;
        distinct_shares.push(json!({
            "tokenizer": tokenizer.name(),
            "per_token": counts.per_token(), "per_ngram": counts.per_ngram(),
        }));
    }
    Ok(json!({
        "outputs": outputs, "references": references,
        "bleu": bleu(outputs, references)?,
        "chrf": chrf(outputs, references)?,
        "ter": ter(outputs, references)?,
        "rouge": rouge(outputs, references)?,
        "distinct": distinct_shares,
    }))
}

fn bleu(
    outputs: &[&str],
    references: &[Vec<&str>],
) -> Result<Vec<Value>, Box<dyn std::error::Error>> {
    let digits = |score: BleuScore| {
        let counts = score.counts;
        json!({
            "score": score.score, "precisions": score.precisions,
            "brevity_penalty": score.brevity_penalty,
            "lengths": [counts.output_length, counts.reference_length],
        })
    };
    let mut settings = Vec::new();
    for tokenizer in Tokenizer::ALL {
        // Smoothing does not depend on the tokeniser.
        let ways = if tokenizer == Tokenizer::default() { 4 } else { 1 };
        for smoothing in Smoothing::ALL.into_iter().take(ways) {
            for (lowercase, effective_order) in [(false, false), (true, false), (true, true)] {
                let bleu = Bleu { tokenizer, smoothing, lowercase, effective_order };
                let counts = bleu.counts(outputs, references)?;
                let each: Vec<f64> =
                    counts.iter().map(|counts| bleu.score([counts]).score).collect();
                settings.push(json!({
                    "tokenizer": tokenizer.name(), "smoothing": smoothing.name(),
                    "lowercase": lowercase, "effective_order": effective_order,
                    "signature": bleu.signature(references),
                    "corpus": digits(bleu.score(&counts)), "sentences": each,
                }));
            }
        }
    }
    Ok(settings)
}

fn chrf(
    outputs: &[&str],
    references: &[Vec<&str>],
) -> Result<Vec<Value>, Box<dyn std::error::Error>> {
    let mut settings = Vec::new();
    for word_order in [0, 2] {
        for (lowercase, whitespace, epsilon_smoothing) in [
            (false, false, false),
            (true, false, false),
            (false, true, false),
            (false, false, true),
        ] {
            let chrf = Chrf { word_order, lowercase, whitespace, epsilon_smoothing };
            let counts = chrf.counts(outputs, references)?;
            let each: Vec<f64> = counts.iter().map(|counts| chrf.score([counts])).collect();
            settings.push(json!({
                "word_order": word_order, "lowercase": lowercase, "whitespace": whitespace,
                "epsilon_smoothing": epsilon_smoothing,
                "name": chrf.name(), "signature": chrf.signature(references),
                "corpus": chrf.score(&counts), "sentences": each,
            }));
        }
    }
    Ok(settings)
}

fn ter(
    outputs: &[&str],
    references: &[Vec<&str>],
) -> Result<Vec<Value>, Box<dyn std::error::Error>> {
    let digits =
        |score: TerScore| json!([score.score, score.counts.edits, score.counts.reference_length]);
    let mut settings = Vec::new();
    for case_sensitive in [false, true] {
        let ter = Ter { case_sensitive };
        let counts = ter.counts(outputs, references)?;
        let each: Vec<Value> = counts.iter().map(|counts| digits(ter.score([counts]))).collect();
        settings.push(json!({
            "case_sensitive": case_sensitive, "signature": ter.signature(references),
            "corpus": digits(ter.score(&counts)), "sentences": each,
        }));
    }
    Ok(settings)
}

fn rouge(
    outputs: &[&str],
    references: &[Vec<&str>],
) -> Result<Vec<Value>, Box<dyn std::error::Error>> {
    let shares = |overlap: Overlap| [overlap.precision, overlap.recall, overlap.f1];
    let digits = |scores: RougeScores| {
        json!({
            "rouge1": shares(scores.rouge1), "rouge2": shares(scores.rouge2),
            "rougeL": shares(scores.rouge_l), "rougeLsum": shares(scores.rouge_lsum),
        })
    };
    let mut settings = Vec::new();
    for (name, tokens) in [
        ("words", RougeTokens::Words),
        ("stems", RougeTokens::Stems),
        ("characters", RougeTokens::Characters),
    ] {
        let rouge = Rouge { tokens };
        let each: Vec<Value> = rouge.counts(outputs, references)?.into_iter().map(digits).collect();
        settings.push(json!({
            "tokens": name, "corpus": digits(rouge.corpus(outputs, references)?), "sentences": each,
        }));
    }
    Ok(settings)
}
