//! A model away from where training begins, so that every parameter matters.

use longhand_model::{Config, Model};

/// A model whose parameters are its first ones, each moved by up to 0.4.
pub(crate) fn moved(config: Config) -> Model {
    let mut model = Model::new(config, 3).unwrap();
    let mut x = 1u32;
    for parameter in model.weights.iter_mut() {
        for value in parameter.data.iter_mut() {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *value += 0.4 * ((x >> 8) as f32 / (1 << 23) as f32 - 1.0);
        }
    }
    model
}
