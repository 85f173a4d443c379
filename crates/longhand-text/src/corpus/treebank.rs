//! Sentences whose phrases are rated, as in the Stanford Sentiment Treebank (Socher et al. 2013): one
//! tree a line, `(3 (2 It) (4 (2 is) (4 good)))`.
//!
//! A node has a rating from 0 (very negative) to 4 (very positive), and either a word or further
//! nodes. `-LRB-` and `-RRB-` are the words `(` and `)`, and `\/` and `\*` are `/` and `*`.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::example::Example;
use super::fault::RowFault;
use super::source::{Source, unwrap_error};
use crate::error::TextError;

/// How the trees of a treebank become examples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeOptions {
    /// Which nodes are examples (default: sentences).
    pub nodes: Nodes,
    /// How ratings become labels (default: fine).
    pub ratings: Ratings,
}

/// The nodes of a tree that are examples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Nodes {
    /// The root of each tree.
    #[default]
    Sentences,
    /// Every node. Of phrases with the same words and the same label one is kept.
    Phrases,
}

/// How the ratings of nodes become labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ratings {
    /// Each rating from 0 to 4 is a label.
    #[default]
    Fine,
    /// 0 and 1 are `negative`, 3 and 4 are `positive`; nodes of rating 2 are left out.
    Binary,
}

/// A tree: its words, and its nodes with the words that they cover, each parent behind its children.
pub(super) struct Tree {
    words: Vec<String>,
    nodes: Vec<(u8, Range<usize>)>,
}

/// Reads the examples of a treebank. Without labels they are all sentences, whatever their rating.
pub(super) fn examples(
    source: &Source,
    options: TreeOptions,
    (unlabelled, lossy): (bool, bool),
) -> Result<Vec<Example>, TextError> {
    let lines = BufReader::new(source.text(lossy)?).lines();
    let (mut examples, mut seen) = (Vec::new(), HashSet::new());
    for (row, line) in (1..).zip(lines) {
        let line = line.map_err(unwrap_error)?;
        if line.trim().is_empty() {
            continue;
        }
        let tree = Tree::parse(&line).map_err(|fault| {
            let name = source.name().to_owned();
            TextError::Row { name, row, fault }
        })?;
        if unlabelled {
            examples.push(Example { label: None, text: tree.sentence(), second: None });
            continue;
        }
        let root = tree.nodes.len() - 1;
        let nodes = match options.nodes {
            Nodes::Sentences => &tree.nodes[root..],
            Nodes::Phrases => &tree.nodes[..],
        };
        for (rating, words) in nodes {
            let Some(label) = options.ratings.label(*rating) else { continue };
            let text = tree.words[words.clone()].join(" ");
            if options.nodes == Nodes::Sentences || seen.insert((label.clone(), text.clone())) {
                examples.push(Example { label: Some(label), text, second: None });
            }
        }
    }
    Ok(examples)
}

impl Ratings {
    /// The label of a rating; none where the node is left out.
    fn label(self, rating: u8) -> Option<String> {
        match (self, rating) {
            (Self::Fine, _) => Some(rating.to_string()),
            (Self::Binary, 0 | 1) => Some("negative".into()),
            (Self::Binary, 2) => None,
            (Self::Binary, _) => Some("positive".into()),
        }
    }
}

impl Tree {
    /// Reads the tree of a line.
    pub(super) fn parse(line: &str) -> Result<Self, RowFault> {
        let fault = |reason, rest: &str| {
            let before = &line[..line.len() - rest.len()];
            RowFault::Tree { reason, column: before.chars().count() + 1 }
        };
        let (mut words, mut nodes) = (Vec::new(), Vec::new());
        // Ratings of the nodes that are not closed, and where their words begin.
        let mut open: Vec<(u8, usize)> = Vec::new();
        let mut rest = line.trim_start();
        while !rest.is_empty() {
            if let Some(inner) = rest.strip_prefix('(') {
                if open.is_empty() && !nodes.is_empty() {
                    return Err(fault("a second tree begins", rest));
                }
                let (rating, behind) = atom(inner.trim_start());
                let rating = rating.parse().ok().filter(|rating| *rating <= 4);
                let rating =
                    rating.ok_or_else(|| fault("a node has no rating from 0 to 4", inner))?;
                open.push((rating, words.len()));
                rest = behind.trim_start();
            } else if let Some(behind) = rest.strip_prefix(')') {
                match open.pop() {
                    None => return Err(fault("a parenthesis closes that none opened", rest)),
                    Some((_, start)) if start == words.len() => {
                        return Err(fault("a node without a word ends", rest));
                    }
                    Some((rating, start)) => nodes.push((rating, start..words.len())),
                }
                rest = behind.trim_start();
            } else {
                let (word, behind) = atom(rest);
                if open.is_empty() {
                    return Err(fault("a word is outside of a tree", rest));
                }
                words.push(plain(word));
                rest = behind.trim_start();
            }
        }
        if !open.is_empty() {
            return Err(fault("a parenthesis is not closed", rest));
        }
        if nodes.is_empty() {
            return Err(fault("there is no tree", rest));
        }
        Ok(Self { words, nodes })
    }

    /// The rating of the whole tree, as it is written.
    pub(super) fn rating(&self) -> String {
        self.nodes.last().map(|(rating, _)| rating.to_string()).unwrap_or_default()
    }

    /// The words of the whole tree, parted by spaces.
    pub(super) fn sentence(&self) -> String {
        self.words.join(" ")
    }
}

/// The characters up to white space or a parenthesis, and the text behind them.
fn atom(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| c.is_whitespace() || c == '(' || c == ')');
    text.split_at(end.unwrap_or(text.len()))
}

/// A word as a text has it.
fn plain(word: &str) -> String {
    match word {
        "-LRB-" => "(".into(),
        "-RRB-" => ")".into(),
        _ => word.replace("\\/", "/").replace("\\*", "*"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREES: &str = "(3 (2 It) (4 (2 is) (4 good)))\n\n(1 (2 (2 It) (2 is)) (0 (2 1\\/2) (1 -RRB-)))\n\
                         (2 (4 good) (4 good))\n";

    fn read(nodes: Nodes, ratings: Ratings, unlabelled: bool) -> Vec<String> {
        let source = Source::memory("trees", TREES.as_bytes().to_vec());
        let examples =
            examples(&source, TreeOptions { nodes, ratings }, (unlabelled, false)).unwrap();
        let line = |example: &Example| {
            format!("{}|{}", example.label.as_deref().unwrap_or("?"), example.text)
        };
        examples.iter().map(line).collect()
    }

    #[test]
    fn sentences_and_phrases_have_the_ratings_of_their_nodes() {
        let sentences = ["3|It is good", "1|It is 1/2 )", "2|good good"];
        assert_eq!(read(Nodes::Sentences, Ratings::Fine, false), sentences);
        let phrases = [
            "2|It",
            "2|is",
            "4|good",
            "4|is good",
            "3|It is good",
            "2|It is",
            "2|1/2",
            "1|)",
            "0|1/2 )",
            "1|It is 1/2 )",
            "2|good good",
        ];
        assert_eq!(read(Nodes::Phrases, Ratings::Fine, false), phrases);
        let binary = [
            "positive|good",
            "positive|is good",
            "positive|It is good",
            "negative|)",
            "negative|1/2 )",
            "negative|It is 1/2 )",
        ];
        assert_eq!(read(Nodes::Phrases, Ratings::Binary, false), binary);
        let two = ["positive|It is good", "negative|It is 1/2 )"];
        assert_eq!(read(Nodes::Sentences, Ratings::Binary, false), two);
        // What is to be predicted is every sentence.
        let all = ["?|It is good", "?|It is 1/2 )", "?|good good"];
        assert_eq!(read(Nodes::Phrases, Ratings::Binary, true), all);
    }

    #[test]
    fn a_line_that_is_no_tree_gets_one_sentence() {
        for (line, reason, column) in [
            ("(3 good) (2 bad)", "a second tree begins", 10),
            ("(3 good", "a parenthesis is not closed", 8),
            ("(3 good))", "a parenthesis closes that none opened", 9),
            ("(3 )", "a node without a word ends", 4),
            ("(5 good)", "a node has no rating from 0 to 4", 2),
            ("(3 (x bé) (good))", "a node has no rating from 0 to 4", 5),
            ("good", "a word is outside of a tree", 1),
            (")", "a parenthesis closes that none opened", 1),
        ] {
            let told = Tree::parse(line).err().unwrap().to_string();
            assert_eq!(told, format!("{reason} at its column {column}"), "{line}");
        }
        // Depth is no matter.
        let deep = format!("{}a{}", "(1 ".repeat(100_000), ")".repeat(100_000));
        assert_eq!(Tree::parse(&deep).unwrap().nodes.len(), 100_000);
    }
}
