//! The standard output for texts that a model wrote: on a terminal, control characters would steer it, and
//! those of the direction of writing would show its characters in another order than they have.

use std::io::{self, IsTerminal, StdoutLock, Write};

/// Writes texts. On a terminal each control character but a line break and a tab, and each one that
/// begins or ends another direction of writing, is escaped as JSON escapes it, `\u001b`, so that lines of
/// JSON say what they said; elsewhere every byte stays.
pub(crate) struct Screen<W: Write> {
    out: W,
    escapes: bool,
    /// The bytes of a character that was begun and may be one to escape.
    begun: Vec<u8>,
}

/// The first byte of U+0080 to U+00BF in UTF-8; the first half of them are control characters.
const LEAD: u8 = 0xc2;
/// The first byte of U+2000 to U+2FFF in UTF-8.
const LEAD_OF_THREE: u8 = 0xe2;

impl Screen<StdoutLock<'static>> {
    /// The standard output, escaped where a person looks.
    pub(crate) fn stdout() -> Self {
        let out = io::stdout().lock();
        Self { escapes: out.is_terminal(), out, begun: Vec::new() }
    }

    /// The same; without `escapes` a terminal gets every byte too.
    pub(crate) fn stdout_if(escapes: bool) -> Self {
        let own = Self::stdout();
        Self { escapes: own.escapes && escapes, ..own }
    }

    /// Whether a person looks.
    pub(crate) fn is_terminal(&self) -> bool {
        self.out.is_terminal()
    }
}

impl<W: Write> Write for Screen<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.escapes {
            return self.out.write(bytes);
        }
        let mut text = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            let escaped = match (self.begun.as_slice(), byte) {
                ([LEAD_OF_THREE], 0x80 | 0x81) => {
                    self.begun.push(byte);
                    continue;
                }
                ([LEAD], 0x80..=0x9f) => Some(u16::from(byte)),
                // U+202A to U+202E embed and override a direction, U+2066 to U+2069 isolate one.
                ([LEAD_OF_THREE, 0x80], 0xaa..=0xae) => Some(0x2000 | u16::from(byte & 0x3f)),
                ([LEAD_OF_THREE, 0x81], 0xa6..=0xa9) => Some(0x2040 | u16::from(byte & 0x3f)),
                _ => None,
            };
            if let Some(character) = escaped {
                self.begun.clear();
                escape(character, &mut text);
                continue;
            }
            text.append(&mut self.begun);
            match byte {
                LEAD | LEAD_OF_THREE => self.begun.push(byte),
                b'\n' | b'\t' => text.push(byte),
                _ if byte.is_ascii_control() => escape(byte.into(), &mut text),
                _ => text.push(byte),
            }
        }
        self.out.write_all(&text)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Writes a character below U+10000 as JSON escapes it.
fn escape(character: u16, text: &mut Vec<u8>) {
    text.extend(format!("\\u{character:04x}").into_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(parts: &[&[u8]], escapes: bool) -> Vec<u8> {
        let mut screen = Screen { out: Vec::new(), escapes, begun: Vec::new() };
        for part in parts {
            screen.write_all(part).unwrap();
        }
        screen.flush().unwrap();
        screen.out
    }

    #[test]
    fn each_control_character_of_the_direction_is_escaped() {
        for character in (0x2000..0x20ff).filter_map(char::from_u32) {
            let shown = written(&[character.to_string().as_bytes()], true);
            let expected = match character {
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    format!("\\u{:04x}", u32::from(character))
                }
                _ => character.to_string(),
            };
            assert_eq!(shown, expected.as_bytes());
        }
    }

    #[test]
    fn control_characters_are_escaped_on_a_terminal_alone() {
        let steering = "a\u{1b}[2Jb\r\n\tc\u{7}\u{7f}\u{9b}31m é £ 中 \u{a0}\u{202e}d—";
        let shown = "a\\u001b[2Jb\\u000d\n\tc\\u0007\\u007f\\u009b31m é £ 中 \u{a0}\\u202ed—";
        assert_eq!(written(&[steering.as_bytes()], true), shown.as_bytes());
        assert_eq!(written(&[steering.as_bytes()], false), steering.as_bytes());
        // A character that comes in two parts is one.
        let parts: Vec<&[u8]> = steering.as_bytes().chunks(1).collect();
        assert_eq!(written(&parts, true), shown.as_bytes());
        // What is no UTF-8 keeps its bytes.
        for bytes in [&b"\xc2\xc2\xa3\xc2x"[..], b"\xe2\xe2\x80\xc2\xa3\xe2\x81x"] {
            assert_eq!(written(&[bytes], true), bytes);
        }
        // A line of JSON says the same.
        let line = serde_json::json!({ "text": steering }).to_string();
        let shown = String::from_utf8(written(&[line.as_bytes()], true)).unwrap();
        let read: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(read["text"], steering);
    }
}
