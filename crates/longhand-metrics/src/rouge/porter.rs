//! Porter's algorithm for suffix stripping.

/// The stem of an English word (Porter 1980), as the Python package nltk finds it: with its table of
/// irregular words and its changes to steps 1a to 2.
///
/// `word` is in lower case and of the letters a to z and digits; bytes of other characters count as
/// consonants. Words of at most two letters stay.
pub fn stem(word: &str) -> String {
    if let Some((_, stem)) = IRREGULAR.iter().find(|(form, _)| *form == word) {
        return (*stem).to_owned();
    }
    if word.len() <= 2 {
        return word.to_owned();
    }
    let mut word = word.to_owned();
    strip_plural(&mut word);
    strip_past_and_gerund(&mut word);
    if let Some(rest) = word.strip_suffix('y')
        && rest.len() > 1
        && ends_in_consonant(rest)
    {
        replace(&mut word, "y", "i");
    }
    strip_double_suffix(&mut word);
    apply(&mut word, STEP_3, |stem| measure(stem) > 0);
    strip_last_suffix(&mut word);
    strip_end(&mut word);
    word
}

/// Irregular words, and those that the rules would join with others.
const IRREGULAR: [(&str, &str); 16] = [
    ("sky", "sky"),
    ("skies", "sky"),
    ("dying", "die"),
    ("lying", "lie"),
    ("tying", "tie"),
    ("news", "news"),
    ("innings", "inning"),
    ("inning", "inning"),
    ("outings", "outing"),
    ("outing", "outing"),
    ("cannings", "canning"),
    ("canning", "canning"),
    ("howe", "howe"),
    ("proceed", "proceed"),
    ("exceed", "exceed"),
    ("succeed", "succeed"),
];

/// A suffix and what replaces it.
type Rule = (&'static str, &'static str);

const STEP_2: &[Rule] = &[
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("bli", "ble"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
    ("fulli", "ful"),
];

const STEP_3: &[Rule] = &[
    ("icate", "ic"),
    ("ative", ""),
    ("alize", "al"),
    ("iciti", "ic"),
    ("ical", "ic"),
    ("ful", ""),
    ("ness", ""),
];

const STEP_4: &[Rule] = &[
    ("al", ""),
    ("ance", ""),
    ("ence", ""),
    ("er", ""),
    ("ic", ""),
    ("able", ""),
    ("ible", ""),
    ("ant", ""),
    ("ement", ""),
    ("ment", ""),
    ("ent", ""),
    ("ion", ""),
    ("ou", ""),
    ("ism", ""),
    ("ate", ""),
    ("iti", ""),
    ("ous", ""),
    ("ive", ""),
    ("ize", ""),
];

/// Step 1a: plurals. Four-letter words in "ies" keep an "e": "dies" becomes "die".
fn strip_plural(word: &mut String) {
    if word.ends_with("ies") {
        let kept = if word.len() == 4 { "ie" } else { "i" };
        replace(word, "ies", kept);
    } else if word.ends_with("sses") {
        replace(word, "sses", "ss");
    } else if word.ends_with('s') && !word.ends_with("ss") {
        replace(word, "s", "");
    }
}

/// Step 1b: "ed" and "ing", and the repair of what they leave.
fn strip_past_and_gerund(word: &mut String) {
    if word.ends_with("ied") {
        let kept = if word.len() == 4 { "ie" } else { "i" };
        return replace(word, "ied", kept);
    }
    if let Some(stem) = word.strip_suffix("eed") {
        if measure(stem) > 0 {
            replace(word, "eed", "ee");
        }
        return;
    }
    let stem = ["ed", "ing"].iter().find_map(|suffix| word.strip_suffix(suffix));
    let Some(stem) = stem.filter(|stem| consonants(stem).any(|consonant| !consonant)) else {
        return;
    };
    word.truncate(stem.len());
    if ["at", "bl", "iz"].iter().any(|end| word.ends_with(end)) {
        word.push('e');
    } else if ends_in_double_consonant(word) {
        if !word.ends_with(['l', 's', 'z']) {
            word.pop();
        }
    } else if measure(word) == 1 && ends_in_short_syllable(word) {
        word.push('e');
    }
}

/// Step 2: suffixes of two parts. A word in "alli" loses "li" and takes the step once more.
fn strip_double_suffix(word: &mut String) {
    if word.strip_suffix("alli").is_some_and(|stem| measure(stem) > 0) {
        replace(word, "alli", "al");
        return strip_double_suffix(word);
    }
    if let Some(stem) = word.strip_suffix("ogi").filter(|stem| stem.ends_with('l')) {
        // The "l" belongs to the stem that is measured.
        if measure(stem) > 0 {
            replace(word, "logi", "log");
        }
        return;
    }
    apply(word, STEP_2, |stem| measure(stem) > 0);
}

/// Step 4: what is left of suffixes; "ion" only after "s" or "t".
fn strip_last_suffix(word: &mut String) {
    let is_ion = word.ends_with("ion");
    apply(word, STEP_4, |stem| measure(stem) > 1 && (!is_ion || stem.ends_with(['s', 't'])));
}

/// Step 5: an "e" at the end, and one of two "l"s.
fn strip_end(word: &mut String) {
    if let Some(stem) = word.strip_suffix('e') {
        let measure = measure(stem);
        if measure > 1 || measure == 1 && !ends_in_short_syllable(stem) {
            word.pop();
        }
    }
    if word.ends_with("ll") && measure(&word[..word.len() - 1]) > 1 {
        word.pop();
    }
}

/// Applies the first rule whose suffix the word has, if its stem passes. Later rules are not tried.
fn apply(word: &mut String, rules: &[Rule], passes: impl Fn(&str) -> bool) {
    let found = rules.iter().find_map(|(suffix, new)| Some((word.strip_suffix(suffix)?, new)));
    if let Some((stem, new)) = found
        && passes(stem)
    {
        word.truncate(stem.len());
        word.push_str(new);
    }
}

fn replace(word: &mut String, suffix: &str, new: &str) {
    word.truncate(word.len() - suffix.len());
    word.push_str(new);
}

/// Whether each letter is a consonant: "y" is one unless a consonant stands before it.
fn consonants(word: &str) -> impl Iterator<Item = bool> {
    word.bytes().scan(false, |last, letter| {
        *last = match letter {
            b'a' | b'e' | b'i' | b'o' | b'u' => false,
            b'y' => !*last,
            _ => true,
        };
        Some(*last)
    })
}

/// m in [C](VC)ᵐ[V]: how often a consonant follows a vowel.
fn measure(word: &str) -> usize {
    consonants(word).zip(consonants(word).skip(1)).filter(|pair| *pair == (false, true)).count()
}

fn ends_in_consonant(word: &str) -> bool {
    consonants(word).last().unwrap_or(false)
}

fn ends_in_double_consonant(word: &str) -> bool {
    let mut last = word.bytes().rev();
    let pair = (last.next(), last.next());
    pair.0.is_some() && pair.0 == pair.1 && ends_in_consonant(word)
}

/// Whether the word ends in consonant, vowel and a consonant other than "w", "x" and "y", or is just a
/// vowel and a consonant, as in nltk.
fn ends_in_short_syllable(word: &str) -> bool {
    let sounds: Vec<bool> = consonants(word).collect();
    match sounds[..] {
        [false, true] => true,
        [.., true, false, true] => !word.ends_with(['w', 'x', 'y']),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Porter's examples, and those where nltk differs from him.
    #[test]
    fn examples_have_their_stems() {
        let examples = "caresses caress ponies poni dies die cats cat feed feed agreed agre \
            plastered plaster bled bled motoring motor sing sing conflated conflat troubled troubl \
            sized size hopping hop tanned tan falling fall hissing hiss fizzed fizz failing fail \
            filing file happy happi enjoy enjoy spy spi tied tie studied studi relational relat \
            rational ration digitizer digit conformabli conform radically radic vietnamization \
            vietnam hopefully hope geology geolog logy logi triplicate triplic formative form \
            electrical electr goodness good revival reviv adoption adopt replacement replac \
            controlling control roll roll cease ceas rate rate probate probat yyyy yyyi \
            succeed succeed skies sky 2ing 2ing a12s a12 by by";
        let words: Vec<&str> = examples.split_whitespace().collect();
        for pair in words.chunks(2) {
            assert_eq!(stem(pair[0]), pair[1], "{}", pair[0]);
        }
    }
}
