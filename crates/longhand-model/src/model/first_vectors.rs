//! Vectors from elsewhere that the embedding begins with.

use super::Model;

impl Model {
    /// Begins the embedding with vectors of some tokens, each `[D]`. The other rows keep their
    /// random values, scaled so that their numbers have the same standard deviation as those of the
    /// given rows: no token stands out by its length alone. For a model whose weights were just
    /// drawn.
    ///
    /// # Panics
    /// If a token is not below V, or a vector is not D wide.
    pub fn begin_with_vectors<'a>(
        &mut self,
        vectors: impl IntoIterator<Item = (usize, &'a [f32])>,
    ) {
        let (width, embedding) = (self.config.width, self.embedding.0);
        let Some(table) = self.weights.iter_mut().nth(embedding) else { return };
        let mut given = vec![false; table.shape[0]];
        for (token, vector) in vectors {
            table.data[token * width..(token + 1) * width].copy_from_slice(vector);
            given[token] = true;
        }
        let rows = || table.data.chunks_exact(width).zip(&given);
        let of = |wanted| rows().filter(move |(_, given)| **given == wanted).map(|(row, _)| row);
        let (wanted, own) = (deviation(of(true)), deviation(of(false)));
        if wanted == 0.0 || own == 0.0 {
            return;
        }
        let scale = (wanted / own) as f32;
        let others = table.data.chunks_exact_mut(width).zip(&given).filter(|(_, given)| !**given);
        others.flat_map(|(row, _)| row).for_each(|x| *x *= scale);
    }
}

/// The standard deviation of all numbers of some rows; 0 for none.
fn deviation<'a>(rows: impl Iterator<Item = &'a [f32]>) -> f64 {
    let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for &x in rows.flatten() {
        let x = f64::from(x);
        (count, sum, squares) = (count + 1.0, sum + x, squares + x * x);
    }
    let count = f64::max(count, 1.0);
    (squares / count - (sum / count).powi(2)).max(0.0).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset::Preset;

    #[test]
    fn given_rows_are_taken_and_the_others_have_their_spread() {
        let fresh = Model::new(Preset::StackedLstmClassifier.config(200), 1).unwrap();
        let width = fresh.config().width;
        let vectors: Vec<Vec<f32>> = (0..50)
            .map(|i| (0..width).map(|d| ((i * 7 + d * 3) % 11) as f32 - 2.0).collect())
            .collect();
        let given = || vectors.iter().enumerate().map(|(i, vector)| (4 * i, vector.as_slice()));
        let mut model = fresh.clone();
        model.begin_with_vectors(given());
        let [before, after] =
            [&fresh, &model].map(|model| model.weights.get(model.embedding).data.to_vec());
        for (i, vector) in given() {
            assert_eq!(&after[i * width..(i + 1) * width], vector);
        }
        let others = |data: &'_ [f32]| -> Vec<f32> {
            let rows = data.chunks_exact(width).enumerate().filter(|(i, _)| i % 4 != 0);
            rows.flat_map(|(_, row)| row.to_vec()).collect()
        };
        let (before, after) = (others(&before), others(&after));
        let spread = deviation([after.as_slice()].into_iter());
        assert!((spread - deviation(given().map(|(_, vector)| vector))).abs() < 1e-4, "{spread}");
        let scale = after[0] / before[0];
        assert!(
            before.iter().zip(&after).all(|(x, y)| (y - x * scale).abs() < 1e-5 * y.abs().max(1.0))
        );
        // Nothing else changes.
        let rest = |model: &Model| {
            model.weights.iter().skip(1).map(|p| p.data.to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(rest(&fresh), rest(&model));
        // All rows may be given, or none.
        let same = vec![1.0; width];
        model.begin_with_vectors((0..200).map(|token| (token, same.as_slice())));
        assert!(model.weights.get(model.embedding).data.iter().all(|&x| x == 1.0));
    }
}
