//! An explanation as a line for a terminal, and as markup for a page.
//!
//! Tokens that speak for the answer are blue, those against it orange. The strongest have their share
//! written beside them, so that nothing is told by colour alone.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;
use longhand_model::file;
use longhand_tasks::Explanation;
use longhand_tasks::explain::Token;
use longhand_tasks::task::Part;
use maud::{DOCTYPE, Markup, PreEscaped, html};

/// The share of the largest from which on a token's own is written.
const STRONG: f64 = 0.2;
const FOR: &str = "\x1b[1;34m";
const AGAINST: &str = "\x1b[1;33m";
const PLAIN: &str = "\x1b[0m";

/// The tokens in one line, then what each kind of memory did.
pub(crate) fn line(explanation: &Explanation, coloured: bool) -> String {
    let largest = largest(explanation);
    // The third cell marks a comment in CoNLL columns.
    let part = |Part { kind, text, .. }: &Part| format!("{kind} = {text}: ");
    let mut line = explanation.part.as_ref().map(part).unwrap_or_default();
    for Token { text, share } in &explanation.tokens {
        let text = text.replace(['\n', '\r', '\t'], " ");
        let part = match is_strong(*share, largest) {
            true => format!("{text}[{share:+.2}]"),
            false => text,
        };
        let colour = if *share > 0.0 { FOR } else { AGAINST };
        // Writing to a string cannot fail.
        let _ = match coloured && share.abs() > STRONG / 2.0 * largest {
            true => write!(line, "{colour}{part}{PLAIN} "),
            false => write!(line, "{part} "),
        };
    }
    line + &memories(explanation)
}

/// The tokens, shaded by their shares, and what each kind of memory did.
pub(crate) fn markup(explanation: &Explanation) -> Markup {
    let largest = largest(explanation);
    let style = |share: f64| {
        let colour = if share > 0.0 { "0, 114, 178" } else { "230, 159, 0" };
        format!("background: rgba({colour}, {:.2})", 0.6 * (share / largest).abs())
    };
    html! {
        p {
            @for Token { text, share } in &explanation.tokens {
                span style=(style(*share)) title=(format!("{share:+.4}")) {
                    (text) @if is_strong(*share, largest) { sub { (format!("{share:+.2}")) } }
                }
                " "
            }
        }
        p { small { (memories(explanation)) } }
    }
}

/// Answers with their explanations as one page, which needs no other file.
pub(crate) fn write_page(path: &Path, answers: &[(String, Explanation)]) -> Result<()> {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { "Answers and their reasons" }
                style { (PreEscaped("body { font: 16px/1.6 system-ui, sans-serif; max-width: 50rem; \
                                     margin: 2rem auto; padding: 0 1rem }")) }
            }
            body {
                h1 { "Answers and their reasons" }
                p {
                    "Blue tokens speak for the answer, orange ones against it. A number is the token's "
                    "share of the logarithm of the answer's probability."
                }
                @for (answer, explanation) in answers {
                    h2 { (answer) }
                    (markup(explanation))
                }
            }
        }
    };
    Ok(file::write(path, page.into_string().as_bytes())?)
}

fn memories(explanation: &Explanation) -> String {
    let Explanation { working_memory, long_memory, completeness_error, .. } = explanation;
    format!(
        "(working memory {working_memory:+.2}, long memory {long_memory:+.2}; completeness error \
         {completeness_error:+.3})"
    )
}

/// The largest magnitude of a share.
fn largest(explanation: &Explanation) -> f64 {
    let shares = explanation.tokens.iter().map(|token| token.share.abs());
    shares.fold(f64::MIN_POSITIVE, f64::max)
}

fn is_strong(share: f64, largest: f64) -> bool {
    share.abs() >= STRONG * largest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explanation() -> Explanation {
        let token = |(text, share): (&str, f64)| Token { text: text.into(), share };
        Explanation {
            part: None,
            tokens: [("a", 0.001), ("<good>", 1.5), ("dull\n", -0.75)].map(token).into(),
            log_probability: -0.1,
            without_tokens: -0.8,
            completeness_error: 0.004,
            working_memory: 0.25,
            long_memory: 1.0,
        }
    }

    #[test]
    fn the_strongest_tokens_have_their_shares_beside_them() {
        let memories = "(working memory +0.25, long memory +1.00; completeness error +0.004)";
        let expected = format!("a <good>[+1.50] dull [-0.75] {memories}");
        assert_eq!(line(&explanation(), false), expected);
        let coloured = line(&explanation(), true);
        assert!(coloured.contains("\x1b[1;34m<good>[+1.50]\x1b[0m"), "{coloured:?}");
        assert!(coloured.contains("\x1b[1;33mdull [-0.75]\x1b[0m"), "{coloured:?}");
    }

    #[test]
    fn a_part_is_named_as_a_comment_of_columns() {
        let (kind, text) = ("PER".to_owned(), "Bo Ra".to_owned());
        let part = Some(Part { kind, first: 0, last: 1, text, predicate: None });
        let line = line(&Explanation { part, ..explanation() }, false);
        assert!(line.starts_with("PER = Bo Ra: a <good>[+1.50]"), "{line}");
    }

    #[test]
    fn nothing_of_a_token_is_markup() {
        let markup = markup(&explanation()).into_string();
        assert!(markup.contains("&lt;good&gt;") && !markup.contains("<good>"), "{markup}");
        assert!(markup.contains("+1.50") && !markup.contains("<sub>+0.00"), "{markup}");
    }
}
