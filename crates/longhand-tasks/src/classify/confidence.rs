//! Self-training: the answers of a model that become labels of texts without any (Lee,
//! "Pseudo-label: the simple and efficient semi-supervised learning method for deep neural
//! networks", 2013), the same number of each label (Zou et al., "Unsupervised domain adaptation for
//! semantic segmentation via class-balanced self-training", 2018).

use std::num::NonZeroUsize;

use super::Prediction;

/// How sure an answer must be to become a label, and how many do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Confidence {
    /// The least probability of the answer, at least 0 and below 1.
    pub threshold: f64,
    /// The most answers of each label; without it, as many as the label has that is given least
    /// often (but at all), so that labels keep the same number.
    pub per_label: Option<NonZeroUsize>,
}

impl Confidence {
    /// The places of the answers that become labels, in order: of each label the most probable ones
    /// from the threshold on. Of equal probabilities the earlier one comes first.
    pub fn choose(self, answers: &[Option<Prediction>]) -> Vec<usize> {
        let mut of_label: Vec<Vec<(usize, f64)>> = Vec::new();
        for (place, answer) in answers.iter().enumerate() {
            let Some(answer) = answer else { continue };
            let (label, probability) = (answer.label as usize, answer.probability());
            if probability >= self.threshold {
                of_label.resize(of_label.len().max(label + 1), Vec::new());
                of_label[label].push((place, probability));
            }
        }
        let fewest = of_label.iter().map(Vec::len).filter(|&count| count > 0).min();
        let most = self.per_label.map_or(fewest.unwrap_or(0), NonZeroUsize::get);
        let mut chosen = Vec::new();
        for mut places in of_label {
            places.sort_by(|(_, a), (_, b)| b.total_cmp(a));
            chosen.extend(places.into_iter().take(most).map(|(place, _)| place));
        }
        chosen.sort_unstable();
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(given: &[(u32, f32)]) -> Vec<Option<Prediction>> {
        let answer = |&(label, probability): &(u32, f32)| {
            let mut probabilities = vec![(1.0 - probability) / 2.0; 3];
            probabilities[label as usize] = probability;
            Some(Prediction { label, probabilities })
        };
        given.iter().map(answer).collect()
    }

    #[test]
    fn the_most_probable_answers_of_each_label_are_chosen() {
        let mut answers =
            answers(&[(0, 0.95), (2, 0.99), (0, 0.91), (0, 0.97), (2, 0.89), (0, 0.95), (2, 0.96)]);
        // A blank text has no answer.
        answers.insert(1, None);
        let choose = |threshold, most| {
            Confidence { threshold, per_label: NonZeroUsize::new(most) }.choose(&answers)
        };
        // Label 1 is never given; label 2 is given twice from 0.9 on.
        assert_eq!(choose(0.9, 0), [0, 2, 4, 7]);
        assert_eq!(choose(0.9, 1), [2, 4]);
        assert_eq!(choose(0.9, 9), [0, 2, 3, 4, 6, 7]);
        assert_eq!(choose(0.0, 0), [0, 2, 4, 5, 6, 7][..].to_vec());
        assert_eq!(choose(0.999, 0), [0; 0]);
    }
}
