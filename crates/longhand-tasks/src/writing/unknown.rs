//! Words that the vocabulary lacks, replaced by those of the source that they attend to (Luong et al.
//! 2015, "Addressing the rare word problem in neural machine translation"; by attention as in Jean et
//! al. 2015, "Montreal neural machine translation systems for WMT'15").

use longhand_text::{Encoding, Tokenizer, TokenizerKind};

use super::within::within;
use crate::error::TaskError;
use crate::search::Hypothesis;

/// What each token of a source is written as: nothing of one that is of no text. `parts` are the texts
/// with the number of their first tokens that are read, with a separator between them, behind
/// `before` other tokens.
pub(super) fn words(
    tokenizer: &Tokenizer,
    parts: &[(&str, usize)],
    before: usize,
) -> Result<Vec<String>, TaskError> {
    let mut words = vec![String::new(); before];
    for (place, &(text, count)) in parts.iter().enumerate() {
        words.extend((place > 0).then(String::new));
        let text = within(tokenizer, text);
        let Encoding { offsets, .. } = tokenizer.encode_with_offsets(&text)?;
        let own = offsets.into_iter().take(count);
        words.extend(own.map(|it| text.get(it.bytes).unwrap_or_default().trim().to_owned()));
    }
    Ok(words)
}

/// The text of a hypothesis, in which the word of `words` that it attends to most replaces each
/// unknown one. An unknown word that attends to no word is left out.
pub(super) fn replaced(
    tokenizer: &Tokenizer,
    hypothesis: &Hypothesis,
    words: &[String],
) -> Result<String, TaskError> {
    let unknown = tokenizer.unknown_id();
    let mut pieces: Vec<String> = Vec::new();
    let mut begins = 0;
    let ids = &hypothesis.ids;
    for (place, &id) in ids.iter().enumerate() {
        if Some(id) == unknown {
            pieces.push(tokenizer.decode(&ids[begins..place])?);
            begins = place + 1;
            let source = hypothesis.alignment.get(place).map(|&at| at as usize);
            pieces.extend(source.and_then(|at| words.get(at)).cloned());
        }
    }
    pieces.push(tokenizer.decode(&ids[begins..])?);
    let between = match tokenizer.kind() {
        // Its spaces are tokens.
        TokenizerKind::Char => "",
        _ => {
            pieces.iter_mut().for_each(|piece| *piece = piece.trim().to_owned());
            " "
        }
    };
    pieces.retain(|piece| !piece.is_empty());
    Ok(pieces.join(between).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer(kind: TokenizerKind, text: &str) -> Tokenizer {
        let texts = std::iter::once(Ok(text.to_owned()));
        let tokenizer = Tokenizer::train(kind, None, texts, &mut |_| {}).unwrap();
        tokenizer.with_special_tokens(&["<sep>", "</s>"]).unwrap()
    }

    fn hypothesis(ids: &[u32], alignment: &[u32]) -> Hypothesis {
        Hypothesis {
            ids: ids.into(),
            log_probabilities: vec![-1.0; ids.len()],
            end: None,
            log_probability: -1.0,
            score: -1.0,
            alignment: alignment.into(),
            matches: None,
            is_complete: false,
        }
    }

    #[test]
    fn the_word_that_is_attended_to_stands_for_an_unknown_one() {
        let tokenizer = tokenizer(TokenizerKind::Word, "the dog and runs");
        let id = |token: &str| tokenizer.id(token).unwrap();
        let [the, dog, and, unknown] = ["the", "dog", "and", "<unk>"].map(id);
        let words = words(&tokenizer, &[("the dog Rex", 3), ("und Bello", 2)], 0).unwrap();
        assert_eq!(words, ["the", "dog", "Rex", "", "und", "Bello"]);
        let told = |ids: &[u32], alignment: &[u32]| {
            replaced(&tokenizer, &hypothesis(ids, alignment), &words).unwrap()
        };
        assert_eq!(told(&[unknown, and, unknown], &[2, 4, 5]), "Rex and Bello");
        assert_eq!(told(&[the, unknown, unknown, dog], &[0, 5, 2, 1]), "the Bello Rex dog");
        // Neither a separator nor a place behind the source is a word.
        assert_eq!(told(&[the, unknown, dog, unknown], &[0, 3, 1, 9]), "the dog");
        assert_eq!(told(&[], &[]), "");
        // A source that was cut has fewer words.
        let cut = super::words(&tokenizer, &[("the dog Rex", 0), ("und Bello", 1)], 1).unwrap();
        assert_eq!(cut, ["", "", "und"]);
    }

    #[test]
    fn characters_are_replaced_where_they_stand() {
        let tokenizer = tokenizer(TokenizerKind::Char, "ab c");
        let id = |token: &str| tokenizer.id(token).unwrap();
        let [a, space, unknown] = ["a", " ", "<unk>"].map(id);
        let words = words(&tokenizer, &[("xa y", 4)], 0).unwrap();
        assert_eq!(words, ["x", "a", "", "y"]);
        let found = hypothesis(&[a, space, unknown, a], &[1, 2, 3, 1]);
        assert_eq!(replaced(&tokenizer, &found, &words).unwrap(), "a ya");
    }
}
