//! Messages of parsers in words of people: a form such as `u32` is one of programmers.

/// Forms as parsers name them, and what they are.
const FORMS: [(&str, &str); 15] = [
    ("usize", "a whole number, 0 or more"),
    ("u64", "a whole number, 0 or more"),
    ("u32", "a whole number from 0 to 4294967295"),
    ("u16", "a whole number from 0 to 65535"),
    ("u8", "a whole number from 0 to 255"),
    ("isize", "a whole number"),
    ("i64", "a whole number"),
    ("i32", "a whole number"),
    ("f64", "a number"),
    ("f32", "a number"),
    ("a map", "an object"),
    ("a sequence", "a list"),
    ("unit", "null"),
    // Words of a list are enums to a parser.
    ("string or map", "a text"),
    ("variant identifier", "a text"),
];

/// A parser's message in which the form that is expected is told in plain words.
pub(crate) fn plain(message: &str) -> String {
    let Some((before, expected)) = message.rsplit_once("expected ") else {
        return message.to_owned();
    };
    if expected.starts_with("struct ") {
        return format!("{before}expected an object");
    }
    let form = FORMS.iter().find(|(form, _)| *form == expected.trim_end());
    form.map_or_else(|| message.to_owned(), |(_, words)| format!("{before}expected {words}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_of_programs_is_told_in_words() {
        for (message, plainly) in [
            ("invalid value: integer `-1`, expected u32", "`-1`, expected a whole number from 0"),
            ("invalid type: string \"a\", expected u16", "\"a\", expected a whole number from 0"),
            ("invalid type: string \"a\", expected i64", "\"a\", expected a whole number"),
            ("invalid type: string \"a\", expected struct Inner", "\"a\", expected an object"),
            ("invalid type: integer `1`, expected a string", "`1`, expected a string"),
            ("invalid type: sequence, expected unit", "sequence, expected null"),
            ("it is not usable", "it is not usable"),
        ] {
            assert!(plain(message).contains(plainly), "{message}: {}", plain(message));
        }
    }
}
