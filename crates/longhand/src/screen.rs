//! The standard output for texts that a model wrote: on a terminal, control characters would steer it.

use std::io::{self, IsTerminal, StdoutLock, Write};

/// Writes texts. On a terminal each control character but a line break and a tab is escaped as JSON
/// escapes it, `\u001b`, so that lines of JSON say what they said; elsewhere every byte stays.
pub(crate) struct Screen<W: Write> {
    out: W,
    escapes: bool,
    /// Whether a character of two bytes was begun that may be a control character.
    begun: bool,
}

/// The first byte of U+0080 to U+00BF in UTF-8; the first half of them are control characters.
const LEAD: u8 = 0xc2;

impl Screen<StdoutLock<'static>> {
    /// The standard output, escaped where a person looks.
    pub(crate) fn stdout() -> Self {
        let out = io::stdout().lock();
        Self { escapes: out.is_terminal(), out, begun: false }
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
            let begun = std::mem::replace(&mut self.begun, byte == LEAD);
            match byte {
                LEAD if !begun => {}
                0x80..=0x9f if begun => escape(byte, &mut text),
                _ => {
                    text.extend(begun.then_some(LEAD));
                    match byte {
                        b'\n' | b'\t' => text.push(byte),
                        LEAD => {}
                        _ if byte.is_ascii_control() => escape(byte, &mut text),
                        _ => text.push(byte),
                    }
                }
            }
        }
        self.out.write_all(&text)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// All control characters of Unicode are below U+0100.
fn escape(character: u8, text: &mut Vec<u8>) {
    text.extend(format!("\\u{character:04x}").into_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(parts: &[&[u8]], escapes: bool) -> Vec<u8> {
        let mut screen = Screen { out: Vec::new(), escapes, begun: false };
        for part in parts {
            screen.write_all(part).unwrap();
        }
        screen.flush().unwrap();
        screen.out
    }

    #[test]
    fn control_characters_are_escaped_on_a_terminal_alone() {
        let steering = "a\u{1b}[2Jb\r\n\tc\u{7}\u{7f}\u{9b}31m é £ 中 \u{a0}";
        let shown = "a\\u001b[2Jb\\u000d\n\tc\\u0007\\u007f\\u009b31m é £ 中 \u{a0}";
        assert_eq!(written(&[steering.as_bytes()], true), shown.as_bytes());
        assert_eq!(written(&[steering.as_bytes()], false), steering.as_bytes());
        // A character that comes in two parts is one.
        let parts: Vec<&[u8]> = steering.as_bytes().chunks(1).collect();
        assert_eq!(written(&parts, true), shown.as_bytes());
        // What is no UTF-8 keeps its bytes.
        assert_eq!(written(&[b"\xc2\xc2\xa3\xc2x"], true), b"\xc2\xc2\xa3\xc2x");
        // A line of JSON says the same.
        let line = serde_json::json!({ "text": steering }).to_string();
        let shown = String::from_utf8(written(&[line.as_bytes()], true)).unwrap();
        let read: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(read["text"], steering);
    }
}
