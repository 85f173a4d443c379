//! Marks within what messages say, by which the template's own text is told from theirs.

use std::collections::BTreeSet;
use std::ops::Range;

use super::environment::is_space;
use super::fault::ChatFault;
use crate::tokenizer::SpecialTokens;

/// Private-use characters that occur in no text of a conversation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    /// Stands beside characters that a special token's name could be made of.
    pub(super) guard: char,
    /// Where the assistant begins to speak.
    pub(super) begin: char,
    /// Where it ends to speak.
    pub(super) end: char,
    /// Stands for an answer.
    pub(super) answer: char,
}

/// A text without its marks.
pub(super) struct Unmarked {
    pub(super) text: String,
    /// The names of special tokens that no message spells.
    pub(super) special: Vec<Range<usize>>,
    /// What stood between both marks of the assistant.
    pub(super) spoken: Vec<Range<usize>>,
}

impl Marks {
    /// Four characters that none of the texts has.
    pub(super) fn beside<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Self, ChatFault> {
        const PLANE: std::ops::RangeInclusive<char> = '\u{f0000}'..='\u{ffffd}';
        let used: BTreeSet<char> = texts
            .flat_map(|text| text.chars().filter(|character| PLANE.contains(character)))
            .collect();
        let mut free = PLANE.filter(|character| !used.contains(character));
        let mut next = || free.next().ok_or(ChatFault::NoMark);
        Ok(Self { guard: next()?, begin: next()?, end: next()?, answer: next()? })
    }

    /// What a message says with marks, so that no special token's name can begin or end in it.
    ///
    /// A name that reaches into a message begins within it, ends within it, or has all of it in its
    /// middle: a guard follows every character that a name begins with, goes before every one that a
    /// name ends with, and parts a message that is the middle of a name.
    pub(super) fn guarded(self, content: &str, special: &SpecialTokens) -> String {
        let names = || special.iter().map(|(name, _)| name);
        let first: BTreeSet<char> = names().filter_map(|name| name.chars().next()).collect();
        let last: BTreeSet<char> = names().filter_map(|name| name.chars().next_back()).collect();
        let (middle, core) = core_of(content);
        let is_middle = !core.is_empty() && names().any(|name| name.contains(core));
        let mut out = String::with_capacity(content.len() + 8);
        for (at, character) in content.char_indices() {
            if last.contains(&character) {
                out.push(self.guard);
            }
            out.push(character);
            if first.contains(&character) || (is_middle && at == middle) {
                out.push(self.guard);
            }
        }
        out
    }

    /// The marks of the assistant around what it says, within white space at both ends.
    pub(super) fn spoken(self, content: &str) -> String {
        let (at, core) = core_of(content);
        let (before, after) = (&content[..at], &content[at + core.len()..]);
        format!("{before}{}{core}{}{after}", self.begin, self.end)
    }

    /// Takes the marks out of a text.
    pub(super) fn removed(self, marked: &str, special: &SpecialTokens) -> Unmarked {
        let is_mark = |c: char| c == self.guard || c == self.begin || c == self.end;
        let mut found = self.names(marked, special).into_iter().peekable();
        let mut unmarked =
            Unmarked { text: String::with_capacity(marked.len()), special: vec![], spoken: vec![] };
        let mut begun = None;
        for (at, character) in marked.char_indices() {
            let place = unmarked.text.len();
            if let Some(name) = found.next_if(|name| name.start == at) {
                unmarked.special.push(place..place + name.len());
            }
            if character == self.begin {
                begun = Some(place);
            } else if character == self.end
                && let Some(begun) = begun.take()
            {
                unmarked.spoken.push(begun..place);
            } else if !is_mark(character) {
                unmarked.text.push(character);
            }
        }
        unmarked
    }

    /// The places of special tokens' names in a marked text that belong to the template.
    fn names(self, marked: &str, special: &SpecialTokens) -> Vec<Range<usize>> {
        let mut places = Vec::new();
        let mut from = 0;
        for stretch in special.split(marked) {
            from += stretch.text.len();
            let Some((_, length)) = stretch.special else { break };
            // A name of one character has guards on both of its sides where a message spells it.
            let guarded = marked[..from].ends_with(self.guard)
                && marked[from + length..].starts_with(self.guard);
            if !guarded {
                places.push(from..from + length);
            }
            from += length;
        }
        places
    }
}

/// What a template leaves of a text that it trims, and where that begins.
fn core_of(content: &str) -> (usize, &str) {
    let from_core = content.trim_start_matches(is_space);
    (content.len() - from_core.len(), from_core.trim_end_matches(is_space))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tokenizer;

    #[test]
    fn no_cut_of_a_message_makes_a_name_with_what_stands_beside_it() {
        let tokenizer = Tokenizer::byte().unwrap();
        let names = ["<|user|>", "</s>", "[INST]"];
        let tokenizer = tokenizer.with_special_tokens(&names).unwrap();
        let special = tokenizer.special_tokens();
        let marks = Marks::beside([""].into_iter()).unwrap();
        for content in ["<|user|>", "<|us", "er|>", "user", "s", " </s", "x<", "|>", "<|user|></s>"]
        {
            let guarded = marks.guarded(content, special);
            let unmarked = marks.removed(&guarded, special);
            assert_eq!((unmarked.text.as_str(), unmarked.special.len()), (content, 0));
            // Whatever a template writes on both sides, the names are its own alone.
            for name in names {
                for at in (0..=name.len()).filter(|&at| name.is_char_boundary(at)) {
                    let text = format!("{}{}{}", &name[..at], guarded.trim(), &name[at..]);
                    let found = marks.removed(&text, special).special;
                    let whole = at == 0 || at == name.len();
                    assert_eq!(found.len(), usize::from(whole), "{text:?}");
                }
            }
        }
    }

    #[test]
    fn marks_are_free_characters() {
        let marks = Marks::beside(["a\u{f0000}", "\u{f0002}"].into_iter()).unwrap();
        assert_eq!(marks.guard, '\u{f0001}');
        assert_eq!(marks.begin, '\u{f0003}');
        let all: String = ('\u{f0000}'..='\u{ffffd}').collect();
        assert!(Marks::beside([all.as_str()].into_iter()).is_err());
    }

    #[test]
    fn the_speech_of_the_assistant_keeps_its_white_space_outside() {
        let special = SpecialTokens::default();
        let marks = Marks::beside([""].into_iter()).unwrap();
        let marked = format!("a{}b{}", marks.spoken(" \nx y\n"), marks.end);
        let unmarked = marks.removed(&marked, &special);
        assert_eq!(unmarked.text, "a \nx y\nb");
        assert_eq!(unmarked.spoken, vec![Range { start: 3, end: 6 }]);
        // Templates trim as Python does.
        let unmarked = marks.removed(&marks.spoken("\u{1c}x y\u{1f} "), &special);
        assert_eq!(unmarked.spoken, vec![Range { start: 1, end: 4 }]);
    }
}
