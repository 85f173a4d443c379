//! `longhand bench gemm`: how fast matrices are multiplied, the measure of everything else.

use anyhow::Result;
use clap::Args;
use longhand_kernel::gemm::{Into, gemm};
use longhand_kernel::{Buffer, Matrix, MatrixMut};
use longhand_model::Cpu;

use super::ids;
use super::measure::{Line, Measuring, Rates, windows};

/// Measures matrix products: squares, and the products inside recurrent networks.
#[derive(Args)]
#[command(after_help = "Example:\n  longhand bench gemm --precision bf16\n  longhand bench gemm \
                        --size 2048x650x2600\n\nOne line for each product, C[m,n] = \
                        A[m,k]·B[k,n]. Of the squares the best one counts as the machine's peak.")]
pub(crate) struct Arguments {
    /// One product, as m x k x n, instead of all
    #[arg(long, value_name = "MxKxN", value_parser = size)]
    size: Option<Size>,
    #[command(flatten)]
    measuring: Measuring,
}

/// M, K and N.
#[derive(Clone, Copy)]
struct Size {
    m: usize,
    k: usize,
    n: usize,
}

/// Squares large enough to be fast, of which some suffer from a stride that is a power of two.
const SQUARES: [usize; 5] = [512, 768, 1000, 1024, 1536];
/// One position of an LSTM of 650, 256 and 200 units, and all positions' inputs of the first.
const RECURRENT: [Size; 4] = [
    Size { m: 32, k: 650, n: 2600 },
    Size { m: 64, k: 256, n: 1024 },
    Size { m: 20, k: 200, n: 800 },
    Size { m: 2048, k: 650, n: 2600 },
];
/// Windows of a square, and their seconds, where only the best one is wanted.
const PEAK_WINDOWS: (usize, f64) = (5, 0.2);

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        let cpu = self.measuring.cpu()?;
        let squares = SQUARES.map(|n| Size { m: n, k: n, n });
        let sizes: Vec<Size> = match self.size {
            Some(size) => vec![size],
            None => squares.into_iter().chain(RECURRENT).collect(),
        };
        for size in sizes {
            let mut operands = Operands::new(size);
            let rates = self.measuring.windows(|| Ok(operands.multiply(&cpu)))?;
            let mut line = Line::new("gemm", &cpu);
            line.add("m", size.m).add("k", size.k).add("n", size.n);
            line.operations(&rates);
            line.print()?;
        }
        Ok(())
    }
}

/// Operations a second of the best square.
pub(crate) fn peak(cpu: &Cpu) -> Result<f64> {
    let (count, seconds) = PEAK_WINDOWS;
    let mut best = 0.0f64;
    for n in SQUARES {
        let mut operands = Operands::new(Size { m: n, k: n, n });
        let Rates { median, .. } = windows(count, seconds, || Ok(operands.multiply(cpu)))?;
        best = best.max(median);
    }
    Ok(best)
}

struct Operands {
    size: Size,
    a: Buffer,
    b: Buffer,
    c: Buffer,
}

impl Operands {
    fn new(size: Size) -> Self {
        let Size { m, k, n } = size;
        let mut source = ids(1000);
        let mut values = |len: usize| {
            let mut buffer = Buffer::zeros(len);
            buffer.iter_mut().zip(&mut source).for_each(|(x, id)| *x = id as f32 / 500.0 - 1.0);
            buffer
        };
        Self { size, a: values(m * k), b: values(k * n), c: values(m * n) }
    }

    /// C = A·B; how many operations that is.
    fn multiply(&mut self, cpu: &Cpu) -> u64 {
        let Size { m, k, n } = self.size;
        let (a, b) = (Matrix::new(&self.a, m, k), Matrix::new(&self.b, k, n));
        gemm(cpu, a, b, MatrixMut::new(&mut self.c, m, n), Into::Replace);
        2 * (m * k * n) as u64
    }
}

/// A size that is not three numbers.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no size: give three numbers up to 65536, as 32x650x2600")]
struct SizeError(String);

fn size(text: &str) -> Result<Size, SizeError> {
    let parts: Vec<usize> = text.split('x').map_while(|part| part.parse().ok()).collect();
    match parts[..] {
        [m, k, n] if [m, k, n].iter().all(|size| (1..=1 << 16).contains(size)) => {
            Ok(Size { m, k, n })
        }
        _ => Err(SizeError(text.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_three_numbers() {
        let Size { m, k, n } = size("32x650x2600").unwrap();
        assert_eq!((m, k, n), (32, 650, 2600));
        for text in ["", "3x4", "3x4x5x6", "0x1x1", "3x-4x5", "70000x1x1"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_product_counts_its_operations() {
        let mut operands = Operands::new(Size { m: 3, k: 4, n: 5 });
        assert_eq!(operands.multiply(&Cpu::new(1)), 120);
        assert!(operands.c.iter().all(|x| x.is_finite()));
    }
}
