//! The operations against values that PyTorch and the `xlstm` package computed in double precision.
//! `make.py` beside this file made them and says what each holds.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod attention;
mod mlstm;
mod norm;
mod recurrent;
mod slstm;
mod training;

use longhand_kernel::{Cpu, Level};
use safetensors::SafeTensors;

/// The largest error allowed, relative to [`Case::check`]'s measure.
const TOLERANCE: f64 = 1e-5;

/// One case of a file.
struct Case {
    file: SafeTensors<'static>,
    name: &'static str,
}

impl Case {
    fn new(file: &'static [u8], name: &'static str) -> Self {
        let file = SafeTensors::deserialize(file).expect("make.py wrote the file");
        Self { file, name }
    }

    /// A tensor's elements, read as `f32`.
    fn values(&self, name: &str) -> Vec<f32> {
        self.words(name).into_iter().map(f32::from_le_bytes).collect()
    }

    /// A tensor of whole numbers.
    fn numbers(&self, name: &str) -> Vec<u32> {
        self.words(name).into_iter().map(u32::from_le_bytes).collect()
    }

    fn shape(&self, name: &str) -> Vec<usize> {
        self.tensor(name).shape().to_vec()
    }

    /// Asserts that `got` is the tensor. Each error is at most [`TOLERANCE`] of the exact element,
    /// or of the root mean square of all elements if that is larger: an element near zero is a
    /// difference of larger ones.
    #[track_caller]
    fn check(&self, name: &str, got: &[f32]) {
        let exact = self.values(name);
        assert_eq!(got.len(), exact.len(), "{}.{name}: lengths", self.name);
        let squares: f64 = exact.iter().map(|&x| f64::from(x).powi(2)).sum();
        let mean = (squares / exact.len().max(1) as f64).sqrt();
        let error = |(&got, &exact): (&f32, &f32)| {
            (f64::from(got) - f64::from(exact)).abs() / f64::from(exact).abs().max(mean).max(1e-30)
        };
        let errors: Vec<f64> = got.iter().zip(&exact).map(error).collect();
        let worst = (0..errors.len()).max_by(|&a, &b| errors[a].total_cmp(&errors[b]));
        if let Some(i) = worst {
            // Shown by `--nocapture`: what was measured.
            eprintln!("{:10.2e}  {}.{name}", errors[i], self.name);
            assert!(
                // Not a number fails as well.
                errors.iter().all(|&error| error <= TOLERANCE),
                "{}.{name}[{i}] is {} instead of {}: off by {:.1e}",
                self.name,
                got[i],
                exact[i],
                errors[i]
            );
        }
    }

    fn tensor(&self, name: &str) -> safetensors::tensor::TensorView<'_> {
        let name = format!("{}.{name}", self.name);
        self.file.tensor(&name).unwrap_or_else(|_| panic!("make.py wrote no {name}"))
    }

    fn words(&self, name: &str) -> Vec<[u8; 4]> {
        self.tensor(name).data().as_chunks::<4>().0.to_vec()
    }
}

/// Processors of one and of two threads, with each instruction set this machine has.
fn processors() -> impl Iterator<Item = Cpu> {
    Level::available().flat_map(|level| [1, 2].map(|threads| Cpu::with_level(threads, level)))
}
