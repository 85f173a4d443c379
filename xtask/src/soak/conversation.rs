//! The plain model of a session: turns, and the text that they came to. The tokens of the models that are
//! soaked are characters, so that a position is a number of characters.

use serde_json::{Value, json};

use super::random::Random;

/// How many of a session's last turns the server keeps as checkpoints.
const CHECKPOINTS: usize = 4;
/// What random prompts are made of; the built-in sample has all of it.
const LETTERS: &[u8] = b"etaoin shrdlu cmfw ypvbg ";

/// One request of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Turn {
    pub(super) prompt: String,
    pub(super) max_tokens: usize,
    pub(super) stop: Option<String>,
    pub(super) streams: bool,
    temperature: f64,
    repetition_penalty: f64,
    presence_penalty: f64,
    texts: usize,
    seed: u64,
}

impl Turn {
    /// A turn of few tokens; one in 20 is longer than a pass of the model.
    pub(super) fn random(random: &mut Random) -> Self {
        let most = if random.once_in(20) { 400 } else { 20 };
        let length = 1 + random.below(most);
        let letter = |random: &mut Random| char::from(LETTERS[random.below(LETTERS.len())]);
        let stop = random.once_in(4).then(|| match random.below(3) {
            0 => "e".into(),
            1 => format!("{}{}", letter(random), letter(random)),
            // What never comes is withheld only as far as its beginning comes.
            _ => format!("{}\u{e9}", letter(random)),
        });
        Self {
            prompt: (0..length).map(|_| letter(random)).collect(),
            max_tokens: 1 + random.below(8),
            stop,
            streams: random.once_in(3),
            temperature: if random.once_in(4) { 0.0 } else { 1.0 },
            repetition_penalty: if random.once_in(4) { 1.3 } else { 1.0 },
            presence_penalty: if random.once_in(8) { 0.5 } else { 0.0 },
            texts: if random.once_in(8) { 2 } else { 1 },
            seed: random.next() >> 12,
        }
    }

    /// The same turn with its answer in one piece.
    pub(super) fn at_once(&self) -> Self {
        Self { streams: false, ..self.clone() }
    }

    /// The body of its request, with another prompt where the whole text is told. `unknown` is the
    /// token without a text of its own, which is never to be written.
    pub(super) fn request(&self, prompt: &str, unknown: u64) -> Value {
        let mut body = json!({
            "model": "soak", "prompt": prompt, "max_tokens": self.max_tokens, "seed": self.seed,
            "temperature": self.temperature, "repetition_penalty": self.repetition_penalty,
            "presence_penalty": self.presence_penalty, "n": self.texts, "logprobs": 1,
            "logit_bias": {unknown.to_string(): -100},
        });
        if let Some(stop) = &self.stop {
            body["stop"] = json!([stop]);
        }
        if self.streams {
            body["stream"] = json!(true);
            body["stream_options"] = json!({"include_usage": true});
        }
        body
    }
}

/// What a session must be.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Conversation {
    pub(super) turns: Vec<Turn>,
    /// All that was read and written.
    pub(super) text: String,
    /// The number of turns and the position at each place that it can go back to, the first one first.
    pub(super) checkpoints: Vec<(usize, u64)>,
}

impl Conversation {
    /// How many tokens it has.
    pub(super) fn position(&self) -> u64 {
        characters(&self.text)
    }

    /// Takes a turn and what was written.
    pub(super) fn take(&mut self, turn: Turn, written: &str) {
        self.text.push_str(&turn.prompt);
        self.text.push_str(written);
        self.turns.push(turn);
        self.checkpoints.push((self.turns.len(), self.position()));
        let surplus = self.checkpoints.len().saturating_sub(CHECKPOINTS);
        self.checkpoints.drain(..surplus);
    }

    /// Goes back to a checkpoint; the ones before it stay.
    pub(super) fn truncate(&mut self, (turns, position): (usize, u64)) {
        self.turns.truncate(turns);
        self.text = self.text.chars().take(position as usize).collect();
        self.checkpoints.retain(|&(turns, _)| turns <= self.turns.len());
    }

    /// A branch from a checkpoint, which is its only one.
    pub(super) fn branch(&self, checkpoint: (usize, u64)) -> Self {
        let mut branch = self.clone();
        branch.truncate(checkpoint);
        branch.checkpoints = vec![checkpoint];
        branch
    }

    /// The last checkpoint, which every conversation with a turn has.
    pub(super) fn last(&self) -> Option<(usize, u64)> {
        self.checkpoints.last().copied()
    }
}

pub(super) fn characters(text: &str) -> u64 {
    text.chars().count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk(turns: usize) -> Conversation {
        let mut random = Random::at(1, 1);
        let mut conversation = Conversation::default();
        for _ in 0..turns {
            conversation.take(Turn::random(&mut random), "a\u{e9}");
        }
        conversation
    }

    #[test]
    fn the_last_turns_are_checkpoints() {
        let conversation = talk(6);
        assert_eq!(conversation.checkpoints.len(), CHECKPOINTS);
        assert_eq!(conversation.checkpoints[3], (6, conversation.position()));
        assert_eq!(conversation.last(), Some(conversation.checkpoints[3]));
    }

    #[test]
    fn going_back_leaves_what_was_there_then() {
        let (mut conversation, short) = (talk(6), talk(5));
        let checkpoint = conversation.checkpoints[2];
        let branch = conversation.branch(checkpoint);
        assert_eq!((&branch.text, branch.checkpoints.len()), (&short.text, 1));
        conversation.truncate(checkpoint);
        assert_eq!(conversation.text, short.text);
        assert_eq!(conversation.turns, short.turns);
        assert_eq!(conversation.checkpoints[..], short.checkpoints[1..]);
    }
}
