//! Writes random answers and their measures, for `scripts/check_spans.py`.

use std::path::PathBuf;

use longhand_tasks::span::metric::{Right, Rules};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

/// The rules, and the pieces of texts that they treat in different ways.
const RULES: [(&str, Rules, &[&str]); 3] = [
    ("squad-1.1", Rules::Squad1, &ENGLISH),
    ("squad-2.0", Rules::Squad2, &ENGLISH),
    ("cmrc-2018", Rules::Cmrc, &CHINESE),
];
const ENGLISH: [&str; 18] = [
    "the ", "The", "a", " an ", "A-", "red", "Red ", "blue", " ", "-", ".", ",", "“", "”", "Ω",
    "É", "1,200", "\u{a0}",
];
const CHINESE: [&str; 16] =
    ["苏", "黎", "世", "大", "学", "，", "。", "《", "》", "·", "…", " ", "ETH", "2019", "-", "の"];
const QUESTIONS: usize = 400;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("name a folder")?);
    fs_err::create_dir_all(&folder)?;
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for (name, rules, pieces) in RULES {
        let mut draw = |longest: usize| -> String {
            let length = random.random_range(0..=longest);
            (0..length).map(|_| pieces[random.random_range(0..pieces.len())]).collect()
        };
        let mut questions = Vec::new();
        for number in 0..QUESTIONS {
            // Every seventh question of 2.0 has no answer.
            let none = rules == Rules::Squad2 && number % 7 == 0;
            let right: Vec<String> =
                if none { Vec::new() } else { (0..=number % 3).map(|_| draw(7)).collect() };
            let found = draw(7);
            let measures = Right::new(rules, right.iter().map(String::as_str)).measure(&found);
            questions.push(json!({
                "right": right, "found": found, "exact": measures.exact, "f1": measures.f1,
            }));
        }
        let json = json!({ "rules": name, "questions": questions });
        fs_err::write(folder.join(format!("{name}.json")), json.to_string())?;
    }
    Ok(())
}
