//! Speed of the LSTM: `cargo run --release -p longhand-kernel --example recurrent_speed`.
//!
//! Prints floating-point operations per second of forward and backward, counting the products
//! alone, and the time of one decoding step.

#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use longhand_kernel::lstm::{self, Gradients, Sizes, State, StateMut, WeightGradients, Weights};
use longhand_kernel::{Buffer, Cpu, Sequence};

fn main() {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cpu = Cpu::new(threads);
    println!("{threads} threads, {:?}", cpu.level());
    for (width, batch, time) in [(650, 32, 64), (160, 32, 64), (160, 1, 1), (650, 1, 1)] {
        measure(&cpu, Sizes { input: width, hidden: width }, &Sequence::new(time, batch));
    }
}

fn measure(cpu: &Cpu, sizes: Sizes, sequence: &Sequence) {
    let (n, rows) = (sizes.hidden, sequence.rows());
    let values = |len: usize, scale: f32| {
        let mut buffer = Buffer::zeros(len);
        buffer.iter_mut().enumerate().for_each(|(i, x)| *x = scale * (i as f32 * 0.7).sin());
        buffer
    };
    let scale = 1.0 / (n as f32).sqrt();
    let (input, recurrent) = (values(4 * n * sizes.input, scale), values(4 * n * n, scale));
    let bias = values(4 * n, 0.1);
    let weights =
        Weights { input: &input, recurrent: &recurrent, bias_input: &bias, bias_recurrent: &bias };
    let x = values(rows * sizes.input, 1.0);
    let d_y = values(rows * n, 0.1);
    let zeros = Buffer::zeros(sequence.batch * n);
    let state = State { h: &zeros, c: &zeros };
    let (mut h, mut c) = (zeros.clone(), zeros.clone());
    let mut y = Buffer::zeros(rows * n);
    let mut saved = Buffer::zeros(lstm::saved_len(sizes, sequence));
    let mut d = [
        Buffer::zeros(input.len()),
        Buffer::zeros(recurrent.len()),
        Buffer::zeros(bias.len()),
        Buffer::zeros(bias.len()),
        Buffer::zeros(x.len()),
    ];
    let (mut forward, mut backward) = (Duration::MAX, Duration::MAX);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(3) {
        let start = Instant::now();
        let next = StateMut { h: &mut h, c: &mut c };
        lstm::forward(cpu, sizes, sequence, weights, &x, state, &mut y, next, &mut saved);
        forward = forward.min(start.elapsed());
        if sequence.time == 1 {
            continue;
        }
        let start = Instant::now();
        let [input, recurrent, bias_input, bias_recurrent, d_x] = &mut d;
        let gradients = Gradients {
            weights: Some(WeightGradients { input, recurrent, bias_input, bias_recurrent }),
            x: Some(d_x),
            state: None,
        };
        lstm::backward(
            cpu, sizes, sequence, weights, &x, state, &y, &mut saved, &d_y, None, gradients,
        );
        backward = backward.min(start.elapsed());
    }
    println!("D = N = {n}, B = {}, T = {}", sequence.batch, sequence.time);
    let operations = 2.0 * rows as f64 * 4.0 * n as f64 * (sizes.input + n) as f64;
    let rate = |time: Duration, operations: f64| operations / time.as_secs_f64() / 1e9;
    println!("  forward  {forward:>10.1?}  {:>6.1} GFLOP/s", rate(forward, operations));
    if sequence.time > 1 {
        println!("  backward {backward:>10.1?}  {:>6.1} GFLOP/s", rate(backward, 2.0 * operations));
        let both = rate(forward + backward, 3.0 * operations);
        println!("  together {:>10.1?}  {both:>6.1} GFLOP/s", forward + backward);
    }
}
