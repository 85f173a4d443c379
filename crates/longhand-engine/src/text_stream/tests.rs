use longhand_text::Tokenizer;
use proptest::prelude::*;

use super::*;

/// Pushes bytes in pieces of a size and gives the texts.
fn texts(kind: TokenizerKind, lossy: bool, bytes: &[u8], size: usize) -> Vec<String> {
    let mut stream = TextStream::new(kind, lossy);
    let mut texts: Vec<String> =
        bytes.chunks(size).map(|piece| stream.push(piece).unwrap()).collect();
    texts.push(stream.finish().unwrap());
    texts
}

proptest! {
    #[test]
    fn tokens_of_the_parts_are_the_tokens_of_the_whole(
        text in "[ab ,.\n中é]{0,80}",
        size in 1usize..20,
    ) {
        for tokenizer in tokenizers() {
            let whole = tokenizer.encode(&text).unwrap();
            let mut parts = Vec::new();
            for part in texts(tokenizer.kind(), false, text.as_bytes(), size) {
                parts.extend(tokenizer.encode(&part).unwrap());
            }
            prop_assert_eq!(parts, whole, "{}", tokenizer.kind());
        }
    }
}

fn tokenizers() -> &'static [Tokenizer] {
    static TOKENIZERS: std::sync::OnceLock<Vec<Tokenizer>> = std::sync::OnceLock::new();
    TOKENIZERS.get_or_init(|| {
        let text = "ab, ab. aba\nb a,, 中 é 中中\n\na b  ab\n".repeat(20);
        let corpus = || std::iter::once(Ok(text.clone()));
        let kinds = TokenizerKind::ALL.into_iter();
        kinds
            .map(|kind| Tokenizer::train(kind, Some(450), corpus(), &mut |_| {}).unwrap())
            .collect()
    })
}

#[test]
fn a_stream_is_read_as_a_file_is() {
    let marked = texts(TokenizerKind::Byte, true, "\u{feff}a\u{feff}b\u{fffd}".as_bytes(), 2);
    assert_eq!(marked.concat(), "a\u{feff}b\u{fffd}");
    let lossy = texts(TokenizerKind::Byte, true, b"\xffa\xe4\xb8", 2);
    assert_eq!(lossy.concat(), "\u{fffd}a\u{fffd}");
    let zero = texts(TokenizerKind::Byte, true, b"a\0b", 2);
    assert_eq!(zero.concat(), "a\u{fffd}b");
    let error = TextStream::new(TokenizerKind::Byte, false).push(b"a\0").unwrap_err();
    assert!(error.to_string().contains("binary file (byte 0 at offset 1)"), "{error}");
}

#[test]
fn a_line_is_given_out_when_it_has_come() {
    let line = "GET /page 200";
    for kind in TokenizerKind::ALL {
        for end in ["\n", "\r\n", " \n", "\n\n"] {
            let mut stream = TextStream::new(kind, false);
            let mut given = String::new();
            for count in 1..20 {
                given += &stream.push(format!("{line}{end}").as_bytes()).unwrap();
                // At most white space and, of a last word, what may still be a part of it.
                let come = count * (line.len() + end.len());
                assert!(given.len() + end.len() + " 200".len() >= come, "{kind} with {end:?}");
            }
        }
    }
}

#[test]
fn invalid_bytes_are_named_by_their_offset() {
    let mut stream = TextStream::new(TokenizerKind::Byte, false);
    assert_eq!(stream.push(b"ab\xe4\xb8").unwrap(), "ab");
    let error = stream.push(b"x").unwrap_err();
    assert!(error.to_string().contains("at byte offset 2"), "{error}");
    let mut stream = TextStream::new(TokenizerKind::Byte, false);
    stream.push(b"a\xe4").unwrap();
    assert!(stream.finish().is_err());
}

#[test]
fn a_text_without_line_breaks_does_not_grow_without_end() {
    for piece in ["word ".repeat(200), "x".repeat(1000)] {
        let mut stream = TextStream::new(TokenizerKind::Bpe, false);
        // Where the last whitespace of all stands first, there is no other place to cut.
        let mut held = "data: ".len() - stream.push(b"data: ").unwrap().len();
        for _ in 0..4000 {
            held = held + piece.len() - stream.push(piece.as_bytes()).unwrap().len();
            assert!(held <= LONGEST + piece.len());
        }
    }
}
