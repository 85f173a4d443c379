//! The tag that marks what the assistant says.
//!
//! `transformers` knows a block `{% generation %} … {% endgeneration %}` around the text that a model
//! is to write. The engine here does not: each of both tags becomes a condition that always holds and
//! writes a variable, which strips white space on both of its sides as the tag itself would.

/// The variable that is written where a block begins, and the one where it ends.
pub(super) const VARIABLES: [&str; 2] = ["longhand_generation", "longhand_endgeneration"];
const TAGS: [&str; 2] = ["generation", "endgeneration"];

/// A template without those tags, and whether it had any.
pub(super) fn replaced(source: &str) -> (String, bool) {
    let (mut out, mut rest, mut found) = (String::with_capacity(source.len()), source, false);
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let end = tag.find("%}").map(|end| end + 2);
        let Some((end, (left, name, right))) = end.and_then(|end| Some((end, parts(&tag[..end])?)))
        else {
            out.push_str("{%");
            rest = &tag[2..];
            continue;
        };
        let variable = TAGS.iter().position(|&tag| tag == name).map(|at| VARIABLES[at]);
        match variable {
            Some(variable) => {
                found = true;
                out.push_str(&format!(
                    "{{%{left} if true %}}{{{{ {variable} }}}}{{% endif {right}%}}"
                ));
            }
            None => out.push_str(&tag[..end]),
        }
        rest = &tag[end..];
    }
    out.push_str(rest);
    (out, found)
}

/// The sign for white space before a tag, its words, and the sign behind it.
fn parts(tag: &str) -> Option<(&str, &str, &str)> {
    let inner = tag.strip_prefix("{%")?.strip_suffix("%}")?;
    let signs = ['-', '+'];
    let left = inner.len() - inner.strip_prefix(signs).unwrap_or(inner).len();
    let (left, inner) = inner.split_at(left);
    let right = inner.strip_suffix(signs).unwrap_or(inner).len();
    let (inner, right) = inner.split_at(right);
    Some((left, inner.trim(), right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_keep_their_signs_and_other_tags_stay() {
        let source =
            "{%- if a %}x{%- generation -%} y {% endgeneration +%}{%endgeneration%}{% endif %}{%";
        let (out, found) = replaced(source);
        assert!(found);
        let [begin, end] = VARIABLES;
        let expected = format!(
            "{{%- if a %}}x{{%- if true %}}{{{{ {begin} }}}}{{% endif -%}} y {{% if true %}}{{{{ {end} \
             }}}}{{% endif +%}}{{% if true %}}{{{{ {end} }}}}{{% endif %}}{{% endif %}}{{%"
        );
        assert_eq!(out, expected);
        assert!(!replaced("{% for x in y %}{{ generation }}").1);
    }
}
