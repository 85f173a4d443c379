//! Writes random tag sequences and their entity scores, for `scripts/check_entities.py`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use longhand_tasks::tags::{EntityCounts, EntityScores, Tag, entities};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

/// Prefixes of each kind of scheme. Some of the sequences that are drawn are illegal.
const SCHEMES: [&[&str]; 3] = [&["B", "I"], &["B", "I", "E", "S"], &["I"]];
const TYPES: [&str; 3] = ["PER", "LOC", "X-Y"];
const SENTENCES: usize = 200;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("name a folder")?);
    fs_err::create_dir_all(&folder)?;
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for (number, prefixes) in SCHEMES.into_iter().enumerate() {
        let mut draw = |length: usize| -> Vec<String> {
            let tag = |_| match random.random_range(0..3) {
                0 => "O".to_owned(),
                _ => {
                    let prefix = prefixes[random.random_range(0..prefixes.len())];
                    format!("{prefix}-{}", TYPES[random.random_range(0..TYPES.len())])
                }
            };
            (0..length).map(tag).collect()
        };
        let sentences: Vec<[Vec<String>; 2]> =
            (0..SENTENCES).map(|i| [draw(1 + i % 12), draw(1 + i % 12)]).collect();
        let mut scores = EntityScores::default();
        for [truth, found] in &sentences {
            let [truth, found] = [truth, found].map(|tags| {
                let parsed: Option<Vec<Tag<'_>>> = tags.iter().map(|tag| Tag::parse(tag)).collect();
                entities(&parsed.unwrap_or_default())
            });
            scores.add(&truth, &found);
        }
        let shares = |counts: &EntityCounts| [counts.precision(), counts.recall(), counts.f1()];
        let types: BTreeMap<&String, [f64; 3]> =
            scores.types().iter().map(|(kind, counts)| (kind, shares(counts))).collect();
        let json = json!({
            "sentences": sentences, "overall": shares(&scores.overall()), "types": types,
            "macro_f1": scores.macro_f1(),
        });
        fs_err::write(folder.join(format!("{number}.json")), json.to_string())?;
    }
    Ok(())
}
