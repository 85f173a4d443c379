//! Which tokeniser suits a text.

use std::fmt;

use super::kind::TokenizerKind;

/// How a text parts its words, counted over a sample of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Writing {
    /// Characters that are no white space.
    pub solid: u64,
    /// Words between white space.
    pub words: u64,
    /// Characters of scripts without spaces between words: Chinese, Japanese, Thai and others.
    pub unspaced: u64,
}

/// Bytes of text that a choice looks at.
const SAMPLE: usize = 1 << 20;
/// The largest share of unspaced characters in a text that is read word by word.
const MOST_UNSPACED: f64 = 0.2;
/// The longest mean word, in characters, of a text that is read word by word. English has about
/// 5, German 6 and Finnish 8.
const LONGEST_MEAN: f64 = 16.0;

impl Writing {
    /// Looks at the first MiB of some texts.
    pub fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut writing = Self::default();
        let mut bytes = 0;
        for text in texts {
            let part = &text[..text.floor_char_boundary(SAMPLE - bytes)];
            bytes += part.len();
            writing.words += part.split_whitespace().count() as u64;
            for character in part.chars().filter(|character| !character.is_whitespace()) {
                writing.solid += 1;
                writing.unspaced += u64::from(is_unspaced(character));
            }
            if bytes + 4 > SAMPLE {
                break;
            }
        }
        writing
    }

    /// The share of the characters that are written without spaces between words.
    pub fn unspaced_share(&self) -> f64 {
        self.unspaced as f64 / self.solid.max(1) as f64
    }

    /// Whether the script has spaces between words.
    pub fn has_spaces(&self) -> bool {
        self.unspaced_share() <= MOST_UNSPACED
    }

    /// The mean length of a word in characters.
    pub fn mean_word(&self) -> f64 {
        self.solid as f64 / self.words.max(1) as f64
    }
}

/// A kind of tokeniser, and the writing that it was chosen for. It prints as the reason.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenizerChoice {
    /// The kind that was chosen.
    pub kind: TokenizerKind,
    /// The writing of the text.
    pub writing: Writing,
}

impl TokenizerChoice {
    /// The kind for a text where a person names none: `preferred`, but `char` in place of `word`
    /// for a text that does not part its words by spaces.
    pub fn new(preferred: TokenizerKind, writing: Writing) -> Self {
        let by_words = writing.has_spaces() && writing.mean_word() <= LONGEST_MEAN;
        let kind = match preferred {
            TokenizerKind::Word if !by_words => TokenizerKind::Char,
            preferred => preferred,
        };
        Self { kind, writing }
    }
}

impl fmt::Display for TokenizerChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, share) = (self.kind, 100.0 * self.writing.unspaced_share());
        if !self.writing.has_spaces() {
            let why = "of the text has no spaces between words";
            write!(formatter, "tokeniser {kind}: {share:.0} % {why}")
        } else {
            let mean = self.writing.mean_word();
            write!(formatter, "tokeniser {kind}: its words have {mean:.1} characters on average")
        }
    }
}

/// Whether a character is of a script without spaces between words, such as Chinese or Thai.
pub fn is_unspaced(character: char) -> bool {
    matches!(
        character,
        // Thai and Lao, Myanmar, Khmer.
        '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}'
        // Signs of Chinese and Japanese, kana, ideographs and their full-width forms.
        | '\u{3001}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}' | '\u{ff01}'..='\u{ff9f}' | '\u{20000}'..='\u{3ffff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_writing_decides() {
        let check = |text: &str, expected: TokenizerKind| {
            let choice = TokenizerChoice::new(TokenizerKind::Word, Writing::of([text]));
            assert_eq!(choice.kind, expected, "{choice}");
        };
        check("Who wrote the song, and when?", TokenizerKind::Word);
        check("Кто написал эту песню?", TokenizerKind::Word);
        check("이 노래는 누가 썼습니까?", TokenizerKind::Word);
        check("送餐快,味道特好", TokenizerKind::Char);
        check("很好吃 我很喜欢 下次 再来", TokenizerKind::Char);
        check("この歌は誰が書きましたか。", TokenizerKind::Char);
        check("ใครเป็นคนแต่งเพลงนี้", TokenizerKind::Char);
        check("ACGTACGTTTGACGATCGATCGACTACG", TokenizerKind::Char);
        check("", TokenizerKind::Word);
        let chinese = Writing::of(["送餐快"]);
        assert_eq!(TokenizerChoice::new(TokenizerKind::Bpe, chinese).kind, TokenizerKind::Bpe);
        let reason = TokenizerChoice::new(TokenizerKind::Word, chinese).to_string();
        assert_eq!(reason, "tokeniser char: 100 % of the text has no spaces between words");
    }

    #[test]
    fn a_long_text_is_looked_at_in_part() {
        let long = "中".repeat(1 << 20);
        let writing = Writing::of([long.as_str(), "words of no weight"]);
        assert!(writing.solid < 400_000 && writing.words == 1, "{writing:?}");
    }
}
