//! A recipe from arbitrary text: refused with one sentence, or one that is written and read back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longhand::recipe::Recipe;

fuzz_target!(|text: &str| {
    match Recipe::parse(text, "recipe.toml") {
        Err(error) => assert_eq!(error.to_string().lines().count(), 1),
        Ok(recipe) => {
            let json = serde_json::to_string(&recipe).expect("plain data");
            let back: Recipe = serde_json::from_str(&json).expect("what was just written");
            assert_eq!(back, recipe);
        }
    }
});
