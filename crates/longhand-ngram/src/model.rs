//! The model: sorted arrays, one set for each length of n-grams, and the look-up of tokens there.

use crate::discount::Discounts;

/// An n-gram model over a vocabulary of V tokens.
///
/// The n-grams of a length are sorted by their words. Those that begin with the same words, a
/// context, lie side by side, and the context itself, one word shorter, says where: together the
/// arrays are a trie. Memory: 16 bytes for each n-gram, 8 for each of the highest order.
#[derive(Clone, Debug, PartialEq)]
pub struct Ngram {
    pub(crate) vocabulary: usize,
    /// The n-grams of 1 word, of 2 words, and so on to N.
    pub(crate) levels: Vec<Level>,
    /// What was taken from the counts of each length; empty for a model that was read from ARPA.
    pub(crate) discounts: Vec<Discounts>,
}

/// All n-grams of one length, in the order of their words.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Level {
    /// The last word of each. Of length 1 there is every word, and this is empty.
    pub(crate) words: Vec<u32>,
    /// ln p(last word | the words before it).
    pub(crate) log_probabilities: Vec<f32>,
    /// ln γ of each as a context: what shorter contexts' probabilities are multiplied by. The
    /// highest order has none.
    pub(crate) backoffs: Vec<f32>,
    /// Where the n-grams that begin with each one start among the next longer ones, and at last their
    /// number. Empty in the highest order.
    pub(crate) children: Vec<u32>,
}

/// ln p of a document's start, which no context predicts; 10^-99, as ARPA files have it.
pub(crate) const NEVER: f32 = -99.0 * std::f32::consts::LN_10;

impl Level {
    /// How many n-grams there are.
    pub(crate) fn len(&self) -> usize {
        self.log_probabilities.len()
    }
}

impl Ngram {
    /// N: words of the longest n-gram.
    pub fn order(&self) -> usize {
        self.levels.len()
    }

    /// V: tokens of the vocabulary; every id is below it.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// The mark of a document's start. Contexts can begin with it; it is never predicted.
    pub fn start(&self) -> u32 {
        self.vocabulary as u32
    }

    /// What was taken from the counts of each length, from 1 on.
    pub fn discounts(&self) -> &[Discounts] {
        &self.discounts
    }

    /// How many different n-grams there are of each length, from 1 on. The start of a document is
    /// one of the first.
    pub fn counts(&self) -> impl Iterator<Item = usize> {
        self.levels.iter().map(Level::len)
    }

    /// Numbers in the model: probabilities and backoffs.
    pub fn parameters(&self) -> usize {
        self.levels.iter().map(|level| level.len() + level.backoffs.len()).sum()
    }

    /// Size of the arrays in memory, in bytes.
    pub fn bytes(&self) -> usize {
        let numbers = |level: &Level| level.words.len() + level.children.len();
        4 * (self.parameters() + self.levels.iter().map(numbers).sum::<usize>())
    }

    /// ln p(`word` | `context`), in nats. Of the context the last N−1 words count; it holds ids and
    /// [`Ngram::start`], which may be its first word. N(N−1)/2 binary searches at most.
    ///
    /// # Panics
    /// For a word that is no id, or a context's word that is neither.
    pub fn log_probability(&self, context: &[u32], word: u32) -> f32 {
        let context = self.suffix(context);
        let mut backoff = 0.0;
        for start in 0..context.len() {
            let suffix = &context[start..];
            let Some(node) = self.node(suffix) else { continue };
            if let Some(child) = self.child(suffix.len(), node, word) {
                return backoff + self.levels[suffix.len()].log_probabilities[child];
            }
            backoff += self.levels[suffix.len() - 1].backoffs[node];
        }
        backoff + self.levels[0].log_probabilities[word as usize]
    }

    /// ln p(w | `context`) of every id w, as [`Ngram::log_probability`] gives them, in `out`.
    ///
    /// # Panics
    /// For a context's word that is neither an id nor the start.
    pub fn log_probabilities(&self, context: &[u32], out: &mut [f32]) {
        let context = self.suffix(context);
        // For each suffix, from the shortest on, where it stands, and what all longer ones multiply by.
        let nodes = (0..context.len()).rev().map(|start| self.node(&context[start..]));
        let nodes: Vec<Option<usize>> = nodes.collect();
        let mut backoffs = vec![0.0; nodes.len() + 1];
        for k in (0..nodes.len()).rev() {
            backoffs[k] =
                nodes[k].map_or(0.0, |node| self.levels[k].backoffs[node]) + backoffs[k + 1];
        }
        for (out, log_probability) in out.iter_mut().zip(&self.levels[0].log_probabilities) {
            *out = backoffs[0] + log_probability;
        }
        for (k, node) in nodes.iter().enumerate() {
            let level = &self.levels[k + 1];
            for child in node.map_or(0..0, |node| self.range(k + 1, node)) {
                out[level.words[child] as usize] = backoffs[k + 1] + level.log_probabilities[child];
            }
        }
    }

    /// Whether any n-gram begins with a word and goes on, so that the word is a context.
    ///
    /// # Panics
    /// For a word that is neither an id nor the start.
    pub fn is_followed(&self, word: u32) -> bool {
        self.order() > 1 && !self.range(1, word as usize).is_empty()
    }

    /// The last N−1 words.
    fn suffix<'a>(&self, context: &'a [u32]) -> &'a [u32] {
        &context[context.len().saturating_sub(self.order() - 1)..]
    }

    /// Where an n-gram of at most N words stands among those of its length.
    pub(crate) fn node(&self, words: &[u32]) -> Option<usize> {
        let (&first, rest) = words.split_first()?;
        let mut node = first as usize;
        for (k, &word) in rest.iter().enumerate() {
            node = self.child(k + 1, node, word)?;
        }
        Some(node)
    }

    /// Where the n-gram stands that is one of `k` words and `word` behind it.
    fn child(&self, k: usize, node: usize, word: u32) -> Option<usize> {
        let range = self.range(k, node);
        let found = self.levels[k].words[range.clone()].binary_search(&word);
        found.ok().map(|place| range.start + place)
    }

    /// The n-grams that begin with one of `k` words, among those of k + 1.
    fn range(&self, k: usize, node: usize) -> std::ops::Range<usize> {
        let children = &self.levels[k - 1].children;
        children[node] as usize..children[node + 1] as usize
    }
}
