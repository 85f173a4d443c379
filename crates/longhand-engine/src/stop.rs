//! Texts that end a generation.

/// Text that is withheld because it may be the beginning of a stop text.
#[derive(Clone, Debug)]
pub(crate) struct StopTexts {
    withheld: String,
    stops: Vec<String>,
}

/// A stop text that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stopped {
    /// The text before it, not given out before.
    pub(crate) text: String,
    /// Which stop text it is.
    pub(crate) stop: String,
}

impl StopTexts {
    pub(crate) fn new(stops: Vec<String>) -> Self {
        Self { withheld: String::new(), stops }
    }

    /// Takes a piece of text, and gives what can be given out, or the stop text that came.
    pub(crate) fn push(&mut self, piece: &str) -> Result<String, Stopped> {
        self.withheld.push_str(piece);
        if let Some((at, stop)) = first_stop(&self.withheld, &self.stops) {
            let stop = stop.to_owned();
            self.withheld.truncate(at);
            return Err(Stopped { text: self.take(), stop });
        }
        let keep = begun_stop(&self.withheld, &self.stops);
        let tail = self.withheld.split_off(self.withheld.len() - keep);
        Ok(std::mem::replace(&mut self.withheld, tail))
    }

    /// Bytes that are withheld.
    pub(crate) fn withheld(&self) -> usize {
        self.withheld.len()
    }

    /// Gives out what is withheld: no stop text follows any more.
    pub(crate) fn take(&mut self) -> String {
        std::mem::take(&mut self.withheld)
    }
}

/// The first stop text in `text` and where it begins; of several at one place the longest.
fn first_stop<'s>(text: &str, stops: &'s [String]) -> Option<(usize, &'s str)> {
    let found = stops.iter().filter_map(|stop| text.find(stop.as_str()).map(|at| (at, &stop[..])));
    found.min_by_key(|&(at, stop)| (at, std::cmp::Reverse(stop.len())))
}

/// How many bytes at the text's end may be the beginning of a stop text.
fn begun_stop(text: &str, stops: &[String]) -> usize {
    let begun = |stop: &String| {
        let most = text.len().min(stop.len() - 1);
        (1..=most).rev().find(|&len| text.as_bytes().ends_with(&stop.as_bytes()[..len]))
    };
    stops.iter().filter_map(begun).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Text given out in pieces never shows any part of the stop text that comes.
        #[test]
        fn a_stop_text_is_never_given_out_in_part(
            text in "[abé中]{0,30}",
            stops in prop::collection::vec("[abé中]{1,5}", 1..4),
        ) {
            let mut held = StopTexts::new(stops.clone());
            let mut given = String::new();
            let mut stopped = None;
            for character in text.chars() {
                match held.push(character.encode_utf8(&mut [0; 4])) {
                    Ok(piece) => given.push_str(&piece),
                    Err(Stopped { text, stop }) => {
                        given.push_str(&text);
                        stopped = Some(stop);
                        break;
                    }
                }
            }
            given.push_str(&held.take());
            // The stop that ends first, as a reader of single characters sees it.
            let ends =
                stops.iter().filter_map(|stop| text.find(stop.as_str()).map(|at| at + stop.len()));
            match ends.min() {
                None => prop_assert!(stopped.is_none() && given == text),
                Some(end) => {
                    let stop = stopped.unwrap();
                    prop_assert!(text[..end].ends_with(&stop));
                    prop_assert_eq!(&given, &text[..end - stop.len()]);
                    prop_assert!(stops.iter().all(|stop| !given.contains(stop.as_str())));
                }
            }
        }
    }
}
