use super::*;
use crate::testing::{levels, values, wide};

/// What the fast form finds in some rows, `[R, V]`.
fn found(
    cpu: &Cpu,
    vocabulary: usize,
    logits: &[f32],
    excluded: Excluded<'_>,
    count: usize,
) -> (Vec<u32>, Vec<f32>, Vec<f64>) {
    let rows = logits.len() / vocabulary.max(1);
    let (mut ids, mut log_probabilities) = (vec![7; rows * count], vec![7.0; rows * count]);
    let mut log_sums = vec![7.0; rows];
    let to = Candidates {
        ids: &mut ids,
        log_probabilities: &mut log_probabilities,
        log_sums: &mut log_sums,
    };
    candidates(cpu, vocabulary, &mut logits.to_vec(), excluded, to);
    (ids, log_probabilities, log_sums)
}

#[test]
fn candidates_follow_the_reference() {
    for level in levels() {
        for threads in [1, 2, 5] {
            let cpu = Cpu::with_level(threads, level);
            for (rows, vocabulary) in
                [(0, 3), (1, 1), (5, 2), (3, 127), (4, 128), (3, 129), (2, 1000), (9, 8191)]
            {
                // Few different values, so that many are equal.
                let steps = [1e6, 8.0][vocabulary % 2];
                let logits: Vec<f32> = values(rows * vocabulary, vocabulary as u64)
                    .iter()
                    .map(|x| (x * steps).round() / steps * 20.0)
                    .collect();
                for count in [0, 1, 2, 5, 11, 200] {
                    let everywhere: Vec<u32> = if vocabulary > 1 { vec![1] } else { Vec::new() };
                    let of_row =
                        move |r: usize| (0..r as u32 % 3).map(move |i| i * 60 % vocabulary as u32);
                    let in_rows: Vec<u32> = (0..rows).flat_map(of_row).collect();
                    let ends: Vec<usize> = (0..rows)
                        .scan(0, |end, r| {
                            *end += of_row(r).count();
                            Some(*end)
                        })
                        .collect();
                    let excluded =
                        Excluded { everywhere: &everywhere, in_rows: &in_rows, ends: &ends };
                    let (ids, log_probabilities, log_sums) =
                        found(&cpu, vocabulary, &logits, excluded, count);
                    for (r, row) in logits.chunks(vocabulary).enumerate() {
                        let own: Vec<u32> = everywhere.iter().copied().chain(of_row(r)).collect();
                        let (exact_ids, exact, sum) =
                            reference::candidates(&wide(row), &own, count);
                        assert_eq!(ids[r * count..][..count], exact_ids);
                        assert!((log_sums[r] - sum).abs() < 1e-5 * (1.0 + sum.abs()));
                        for (got, exact) in log_probabilities[r * count..].iter().zip(exact) {
                            match exact {
                                None => assert_eq!(*got, f32::NEG_INFINITY),
                                Some(exact) => {
                                    let error = (f64::from(*got) - exact).abs();
                                    assert!(
                                        error < 1e-5 * (1.0 + exact.abs()),
                                        "{got} for {exact}"
                                    );
                                }
                            }
                        }
                        // Alone it is the same, bit for bit.
                        let ends = [own.len()];
                        let excluded = Excluded { everywhere: &[], in_rows: &own, ends: &ends };
                        let alone = found(&cpu, vocabulary, row, excluded, count);
                        assert_eq!(alone.0, ids[r * count..][..count]);
                        assert_eq!(alone.1, log_probabilities[r * count..][..count]);
                        assert_eq!(alone.2[0].to_bits(), log_sums[r].to_bits());
                    }
                }
            }
        }
    }
}

#[test]
fn far_apart_logits_neither_overflow_nor_lose_the_largest() {
    for level in levels() {
        let cpu = Cpu::with_level(1, level);
        let mut row = vec![-1e4; 300];
        (row[140], row[290]) = (1e4, 1e4);
        let (ids, log_probabilities, log_sums) = found(&cpu, 300, &row, Excluded::default(), 3);
        assert_eq!(ids, [140, 290, 0]);
        assert!((log_sums[0] - 1e4 - 2f64.ln()).abs() < 1e-9);
        assert!((log_probabilities[0] + 2f32.ln()).abs() < 1e-6);
        assert_eq!(log_probabilities[2], -2e4 - 2f32.ln());
    }
}

#[test]
fn a_logit_that_is_no_number_shows_in_the_sum_and_minus_infinity_is_no_candidate() {
    for level in levels() {
        let cpu = Cpu::with_level(1, level);
        for bad in [f32::NAN, f32::INFINITY] {
            let mut row = values(40, 3);
            row[17] = bad;
            assert!(!found(&cpu, 40, &row, Excluded::default(), 2).2[0].is_finite(), "{bad}");
        }
        let mut row = values(3, 3);
        row[1] = f32::NEG_INFINITY;
        let (ids, log_probabilities, log_sums) = found(&cpu, 3, &row, Excluded::default(), 3);
        assert!(log_sums[0].is_finite() && !ids.contains(&1));
        assert_eq!((ids[2], log_probabilities[2]), (NO_CANDIDATE, f32::NEG_INFINITY));
    }
}
