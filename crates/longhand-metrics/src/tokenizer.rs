use crate::white_space::{is_white_space, words};

/// How a text is parted into tokens before n-grams are counted, as sacrebleu's option of the same
/// name does (Post 2018: scores are comparable only if this is stated).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tokenizer {
    /// `13a`, the rules of the script `mteval-v13a`: marks of ASCII are tokens, but for full stops and
    /// commas between digits, apostrophes, and hyphens that no digit stands before.
    #[default]
    Mteval13a,
    /// `zh`: each Chinese character is a token, and the rest is parted as by `13a`.
    Zh,
    /// `char`: each character but white space is a token.
    Char,
    /// `none`: tokens are what stands between white space.
    None,
}

impl Tokenizer {
    /// Every tokeniser, the default first.
    pub const ALL: [Self; 4] = [Self::Mteval13a, Self::Zh, Self::Char, Self::None];

    /// The name in signatures and in sacrebleu's `--tokenize`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mteval13a => "13a",
            Self::Zh => "zh",
            Self::Char => "char",
            Self::None => "none",
        }
    }

    /// The tokens of one text; none is empty, and none has white space in it. White space at the end
    /// is dropped first, so that a hyphen before a line's end stays.
    pub fn tokenize(self, text: &str) -> Vec<String> {
        let text = text.trim_end_matches(is_white_space);
        match self {
            Self::Mteval13a => part_western(&format!(" {} ", plain(text))),
            Self::Zh => part_western(&part_chinese(text.trim_start_matches(is_white_space))),
            Self::Char => text.chars().filter(|&c| !is_white_space(c)).map(String::from).collect(),
            Self::None => words(text).map(str::to_owned).collect(),
        }
    }
}

/// Joins lines and reads the four character entities. `&amp;` comes second, so that `&amp;lt;` becomes
/// `<`, as in the script.
fn plain(text: &str) -> String {
    let joined = text.replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    let quotes = joined.replace("&quot;", "\"").replace("&amp;", "&");
    quotes.replace("&lt;", "<").replace("&gt;", ">")
}

/// Puts spaces around marks, then around full stops and commas, then after a digit's hyphen. Each
/// step reads pairs of characters from left to right, and no character belongs to two pairs.
fn part_western(text: &str) -> Vec<String> {
    let mut parted = String::with_capacity(2 * text.len());
    for c in text.chars() {
        if is_mark(c) {
            parted.extend([' ', c, ' ']);
        } else {
            parted.push(c);
        }
    }
    let is_stop = |c: char| c == '.' || c == ',';
    let spaced_after = |a, b| [a, ' ', b, ' '];
    let parted = part_pairs(&parted, |a, b| !a.is_ascii_digit() && is_stop(b), spaced_after);
    let parted =
        part_pairs(&parted, |a, b| is_stop(a) && !b.is_ascii_digit(), |a, b| [' ', a, ' ', b]);
    let parted = part_pairs(&parted, |a, b| a.is_ascii_digit() && b == '-', spaced_after);
    words(&parted).map(str::to_owned).collect()
}

/// Replaces each pair of neighbours that `matches`.
fn part_pairs(
    text: &str,
    matches: impl Fn(char, char) -> bool,
    parted: impl Fn(char, char) -> [char; 4],
) -> String {
    let mut output = String::with_capacity(text.len() + text.len() / 2);
    let mut rest = text.chars().peekable();
    while let Some(first) = rest.next() {
        match rest.next_if(|&second| matches(first, second)) {
            Some(second) => output.extend(parted(first, second)),
            None => output.push(first),
        }
    }
    output
}

/// The marks of ASCII without apostrophe, comma, hyphen and full stop.
fn is_mark(c: char) -> bool {
    matches!(c, ' '..='&' | '('..='+' | '/' | ':'..='@' | '['..='`' | '{'..='~')
}

/// Puts spaces around each Chinese character.
fn part_chinese(text: &str) -> String {
    let mut parted = String::with_capacity(2 * text.len());
    for c in text.chars() {
        if is_chinese(c) {
            parted.extend([' ', c, ' ']);
        } else {
            parted.push(c);
        }
    }
    parted
}

/// What sacrebleu's `zh` takes for Chinese: ideographs of the basic plane, and wide marks.
///
/// Its table means to hold two ranges beyond the basic plane, U+20000 to U+2A6D6 and U+2F800 to
/// U+2FA1D, but names their bounds by four digits and one character more. Compared as strings, these
/// are the ranges U+2001 to U+2A6D and U+2F81 to U+2FA1 of the basic plane, which hold the general
/// punctuation. Scores agree only if both ranges are read in that way.
fn is_chinese(c: char) -> bool {
    matches!(c,
        '\u{2001}'..='\u{2a6d}'
        | '\u{2e80}'..='\u{2fdf}'
        | '\u{2ff0}'..='\u{303f}'
        | '\u{3100}'..='\u{312f}'
        | '\u{31a0}'..='\u{31bf}'
        | '\u{31c0}'..='\u{31ef}'
        | '\u{3200}'..='\u{4db5}'
        | '\u{4e00}'..='\u{9fbb}'
        | '\u{f900}'..='\u{fa2d}'
        | '\u{fa30}'..='\u{fa6a}'
        | '\u{fa70}'..='\u{fad9}'
        | '\u{fe10}'..='\u{fe1f}'
        | '\u{fe30}'..='\u{fe4f}'
        | '\u{ff00}'..='\u{ffef}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tokenizer: Tokenizer, text: &str, expected: &str) {
        assert_eq!(tokenizer.tokenize(text).join(" "), expected, "{text}");
    }

    #[test]
    fn marks_are_tokens_and_numbers_stay_whole() {
        let check = |text, expected| check(Tokenizer::Mteval13a, text, expected);
        check("It's 1,200.50 (or so), e.g.", "It's 1,200.50 ( or so ) , e . g .");
        check("well-known 3-4 pm", "well-known 3 - 4 pm");
        check(".5, 5. 5.a", ". 5 , 5 . 5 . a");
        check("a..b ...", "a . . b . . .");
        check("http://a.b/c?d=1", "http : / / a . b / c ? d = 1");
        check("“wide” marks，stay", "“wide” marks，stay");
    }

    #[test]
    fn lines_are_joined_and_entities_are_read() {
        let check = |text, expected| check(Tokenizer::Mteval13a, text, expected);
        check("a &quot;b&quot; &amp;lt; <skipped>c", "a \" b \" < c");
        check("hyphen-\nated\nline-\n", "hyphenated line-");
    }

    #[test]
    fn chinese_characters_are_tokens() {
        let check = |text, expected| check(Tokenizer::Zh, text, expected);
        check("我有iPhone 12，好。", "我 有 iPhone 12 ， 好 。");
        check("…“a”—b", "… “ a ” — b");
        // The ideographs of the supplementary plane are not parted, as in sacrebleu.
        check("\u{20000}\u{20001}我", "\u{20000}\u{20001} 我");
        check(".a &amp;", ". a & amp ;");
    }

    #[test]
    fn characters_and_words_are_tokens() {
        check(Tokenizer::Char, "a b\u{3000}é。", "a b é 。");
        check(Tokenizer::None, " a, b\u{1f}c ", "a, b c");
        for tokenizer in Tokenizer::ALL {
            check(tokenizer, " \n\u{3000}", "");
        }
    }
}
