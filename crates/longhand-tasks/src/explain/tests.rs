use longhand_model::Preset;
use longhand_text::corpus::table::Example;
use longhand_text::{Tokenizer, TokenizerKind};

use super::*;
use crate::classify::{Classify, Prediction, Settings};
use crate::start;

/// A classifier of two labels with random weights, and both its memories.
fn classifier(preset: Preset) -> (Classify, Network) {
    let texts = ["it is high there", "it is low and dark"];
    let all = texts.iter().map(|text| Ok((*text).to_owned()));
    let tokenizer = Tokenizer::train(TokenizerKind::Word, None, all, &mut |_| {}).unwrap();
    let examples: Vec<_> = texts.iter().zip(["up", "down"]).map(example).collect();
    let task = Classify::learn(&Settings::default(), &examples, "texts").unwrap();
    let config = preset.config(tokenizer.vocab_size());
    let head = task.head(&Settings::default(), None);
    let model = start::fresh(start::with_head(config, head), &tokenizer, 3).unwrap();
    (task, Network { model, tokenizer, ensemble: None })
}

fn example((text, label): (&&str, &str)) -> Example {
    Example { label: Some(label.into()), text: (*text).into(), second: None }
}

fn answer(label: u32) -> Prediction {
    Prediction { label, probabilities: vec![0.5, 0.5] }
}

fn one(found: Vec<Explanation>) -> Explanation {
    let [found] = <[Explanation; 1]>::try_from(found).unwrap();
    found
}

#[test]
fn the_shares_of_the_tokens_add_up_to_the_answer() {
    for preset in [Preset::StackedLstmClassifier, Preset::EncoderNano, Preset::BicausalNano] {
        let (task, network) = classifier(preset);
        let mut explainer = Explainer::new(network, Arc::new(Cpu::new(2))).unwrap();
        let text = example((&"it is low there and dark", "down"));
        for label in [0, 1] {
            let found = one(explainer.explain(&task, &text, &[answer(label)]).unwrap());
            let sum: f64 = found.tokens.iter().map(|token| token.share).sum();
            let whole = found.log_probability - found.without_tokens;
            assert!((sum - whole - found.completeness_error).abs() < 1e-12);
            assert!(found.completeness_error.abs() < 0.02 + 0.02 * whole.abs(), "{found:?}");
            assert!(found.tokens.iter().any(|token| token.share.abs() > 1e-4), "{found:?}");
            let read: Vec<&str> = found.tokens.iter().map(|token| token.text.as_str()).collect();
            assert_eq!(read, ["it", "is", "low", "there", "and", "dark"]);
        }
        // The probabilities of both answers are those of one distribution.
        let both = [0, 1].map(|label| {
            let found = one(explainer.explain(&task, &text, &[answer(label)]).unwrap());
            found.log_probability.exp()
        });
        assert!((both[0] + both[1] - 1.0).abs() < 1e-5, "{both:?}");
        assert_eq!(explainer.explain(&task, &text, &[]).unwrap(), []);
    }
}

#[test]
fn a_memory_that_is_absent_does_nothing() {
    let (task, network) = classifier(Preset::StackedLstmClassifier);
    let mut explainer = Explainer::new(network, Arc::new(Cpu::new(1))).unwrap();
    let text = example((&"it is high", "up"));
    let found = one(explainer.explain(&task, &text, &[answer(0)]).unwrap());
    assert!(found.working_memory.abs() < 1e-9 && found.long_memory.abs() > 1e-6, "{found:?}");
}
