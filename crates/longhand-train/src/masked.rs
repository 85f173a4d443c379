//! Learning to fill in masked tokens, by a body that may read both directions.

use longhand_model::{IGNORE, Model, ModelError, Pass, Sequence};
use longhand_text::batch::PassageBatch;
use longhand_text::tokenizer::WordParts;
use longhand_text::{SpecialTokens, Tokenizer};

use crate::pairs::Pairs;
use crate::passages::{Asked, PassageReader, Right};
use crate::random::draw;

/// The name of the head that says whether a text follows another one: class 1 if it does.
pub const NEXT_SENTENCE: &str = "next_sentence";

/// Share of the tokens that are to be predicted (Devlin et al., "BERT", 2019, section 3.1).
const SHARE: f64 = 0.15;
/// Of ten tokens to predict, those that become `<mask>` and those that become another
/// token. The others stay.
const MASKED: u64 = 8;
const REPLACED: u64 = 1;
/// Seed of the masks of an evaluation, which are always the same.
const FIXED: u64 = 0x6d61_736b_6564;
/// Keep the draws of words, of the kind of a mask, and of a token apart.
const WORD: u64 = 1;
const KIND: u64 = 2;
const TOKEN: u64 = 3;

/// How the tokens of a vocabulary are masked.
#[derive(Clone, Debug)]
pub struct Masking {
    mask: u32,
    /// Tokens that may replace one: those before the special ones.
    plain: u32,
    parts: WordParts,
}

/// Predicting tokens from those around them. In each passage, whole words of about 15 % of the
/// tokens are to be predicted; of their tokens 80 % become `<mask>`, 10 % another token, and 10 %
/// stay.
#[derive(Clone, Debug)]
pub struct MaskedTokens {
    /// How tokens are masked.
    pub masking: Masking,
    /// The token between the two parts of a passage, where a head called [`NEXT_SENTENCE`] is to say
    /// whether the second part follows the first one or is another passage's (none: passages stay
    /// whole).
    pub separator: Option<u32>,
}

impl Masking {
    /// The masking of a tokeniser's tokens; none where it has no `<mask>`.
    pub fn new(tokenizer: &Tokenizer) -> Option<Self> {
        let special = tokenizer.special_tokens();
        let mask = special.id(SpecialTokens::MASK)?;
        let plain = (tokenizer.vocab_size() - special.len()) as u32;
        Some(Self { mask, plain, parts: tokenizer.word_parts() })
    }

    /// The ids of a batch with some masked, and the right ids at these places. The same seed
    /// masks the same places.
    fn mask(&self, batch: &PassageBatch, seed: u64) -> (Vec<u32>, Vec<u32>) {
        let (mut ids, mut targets) = (batch.ids.clone(), vec![IGNORE; batch.ids.len()]);
        for (b, &length) in batch.lengths.iter().enumerate() {
            let seed = draw([seed, FIXED, b as u64]);
            for t in self.chosen(batch, b, length as usize, seed) {
                let row = t * batch.batch + b;
                targets[row] = batch.ids[row];
                let kind = draw([seed, KIND, t as u64]) % 10;
                if kind < MASKED {
                    ids[row] = self.mask;
                } else if kind < MASKED + REPLACED {
                    let other = draw([seed, TOKEN, t as u64]) % u64::from(self.plain.max(1));
                    ids[row] = other as u32;
                }
            }
        }
        (ids, targets)
    }

    /// The positions of a passage that are to be predicted: whole words, at least one of them, and
    /// no more than the share of the tokens unless the first word has more.
    fn chosen(&self, batch: &PassageBatch, b: usize, length: usize, seed: u64) -> Vec<usize> {
        let id = |t: usize| batch.ids[t * batch.batch + b];
        let mut words: Vec<std::ops::Range<usize>> = Vec::new();
        for t in 0..length {
            match words.last_mut() {
                Some(word) if self.parts.continues(id(t - 1), id(t)) => word.end = t + 1,
                _ => words.push(t..t + 1),
            }
        }
        // Nobody writes a special token.
        words.retain(|word| id(word.start) < self.plain);
        words.sort_by_key(|word| draw([seed, WORD, word.start as u64]));
        let most = ((length as f64 * SHARE).round() as usize).max(1);
        let mut chosen = Vec::new();
        for word in words {
            if chosen.is_empty() || chosen.len() + word.len() <= most {
                chosen.extend(word);
            }
        }
        chosen
    }
}

impl PassageReader for MaskedTokens {
    fn read(
        &self,
        model: &Model,
        pass: &mut Pass<'_>,
        batch: &PassageBatch,
        seed: u64,
    ) -> Result<Vec<Asked>, ModelError> {
        let pairs = self.separator.map(|separator| Pairs::of(batch, separator, seed));
        let batch = pairs.as_ref().map_or(batch, |pairs| &pairs.batch);
        let (ids, targets) = self.masking.mask(batch, seed);
        let lengths = Some(&batch.lengths[..]);
        let sequence = Sequence { lengths, ..Sequence::new(batch.time, batch.batch) };
        let x = model.forward(pass, &ids, &sequence, &mut model.state(batch.batch))?;
        let masked = Asked { x, right: Right::Tokens(targets) };
        let next = pairs.map(|Pairs { follows, .. }| Asked {
            x,
            right: Right::Classes(NEXT_SENTENCE, follows),
        });
        Ok([masked].into_iter().chain(next).collect())
    }
}

#[cfg(test)]
mod tests {
    use longhand_text::TokenizerKind;

    use super::*;

    fn tokenizer(kind: TokenizerKind, size: Option<usize>, text: &str) -> Tokenizer {
        let texts = std::iter::once(Ok(text.to_owned()));
        let tokenizer = Tokenizer::train(kind, size, texts, &mut |_| {}).unwrap();
        tokenizer.with_special_tokens(&[SpecialTokens::MASK]).unwrap()
    }

    /// Passages of one length side by side, of random tokens.
    fn batch(batch: usize, time: usize, vocabulary: u64) -> PassageBatch {
        let ids = (0..(batch * time) as u64).map(|i| (draw([7, i, 0]) % vocabulary) as u32);
        PassageBatch { batch, time, ids: ids.collect(), lengths: vec![time as u32; batch] }
    }

    #[test]
    fn of_the_tokens_15_percent_are_predicted_and_80_10_10_masked_replaced_kept() {
        let tokenizer = tokenizer(TokenizerKind::Char, None, "abcdefghijklmnopqrstuvwxyz\n");
        let masking = Masking::new(&tokenizer).unwrap();
        let batch = batch(100, 100, u64::from(masking.plain));
        let (ids, targets) = masking.mask(&batch, 5);
        let mut counts = [0; 3];
        for (row, &target) in targets.iter().enumerate() {
            match target {
                IGNORE => assert_eq!(ids[row], batch.ids[row], "what is not predicted stays"),
                _ if ids[row] == masking.mask => counts[0] += 1,
                _ if ids[row] != batch.ids[row] => counts[1] += 1,
                _ => counts[2] += 1,
            }
            assert!(target == IGNORE || target == batch.ids[row]);
        }
        assert_eq!(counts.iter().sum::<i32>(), 1500);
        assert!((1140..1260).contains(&counts[0]), "{counts:?}");
        assert!((110..190).contains(&counts[1]) && (110..190).contains(&counts[2]), "{counts:?}");
        assert_eq!(masking.mask(&batch, 5), (ids.clone(), targets.clone()));
        assert_ne!(masking.mask(&batch, 6).1, targets);
        // Padding is never predicted, and the shortest passage predicts one token.
        let short = PassageBatch { lengths: vec![2; 100], ..batch };
        let (_, targets) = masking.mask(&short, 5);
        assert!(targets[200..].iter().all(|&target| target == IGNORE));
        assert_eq!(targets.iter().filter(|&&target| target != IGNORE).count(), 100);
    }

    #[test]
    fn a_word_is_predicted_whole_or_not_at_all() {
        let text = "unhappily tuned strings sounded unhappily tuned again\n".repeat(4);
        for (kind, size) in [(TokenizerKind::Bpe, 262), (TokenizerKind::Wordpiece, 45)] {
            let tokenizer = tokenizer(kind, Some(size), &text);
            let masking = Masking::new(&tokenizer).unwrap();
            let ids = tokenizer.encode(&text).unwrap();
            let lengths = vec![ids.len() as u32];
            let batch = PassageBatch { batch: 1, time: ids.len(), ids, lengths };
            let mut whole = 0;
            for seed in 0..20 {
                let (_, targets) = masking.mask(&batch, seed);
                for t in 1..batch.time {
                    if masking.parts.continues(batch.ids[t - 1], batch.ids[t]) {
                        let is_chosen = |t: usize| targets[t] != IGNORE;
                        assert_eq!(is_chosen(t - 1), is_chosen(t), "{kind} at {t}");
                        whole += usize::from(is_chosen(t));
                    }
                }
            }
            assert!(whole > 0, "{kind}: words of several tokens are predicted too");
        }
    }

    #[test]
    fn a_tokeniser_without_a_mask_has_no_masking() {
        assert!(Masking::new(&Tokenizer::byte().unwrap()).is_none());
    }
}
