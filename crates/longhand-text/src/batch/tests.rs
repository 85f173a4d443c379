use std::sync::Arc;

use super::*;
use crate::{TextError, Tokens};

fn counting(count: u32, documents: &[u64]) -> Arc<Tokens> {
    let ids = (0..count).collect();
    Arc::new(Tokens::from_ids(ids, documents.to_vec(), count as usize).unwrap())
}

#[test]
fn streams_go_on_from_chunk_to_chunk() {
    let mut streams = Streams::new(counting(1000, &[0, 500]), 4, 16, 7).unwrap();
    let mut chunk = Batch::default();
    let mut last: Option<Vec<u32>> = None;
    for number in 0..streams.chunks_per_epoch() {
        streams.next(&mut chunk).unwrap();
        assert_eq!(chunk.inputs.len(), 64);
        for at in 0..64 {
            // Another document's first token is not to be predicted.
            let last = chunk.inputs[at] == 499;
            let after = if last { IGNORED } else { chunk.inputs[at] + 1 };
            assert_eq!(chunk.targets[at], after);
            let begins = chunk.inputs[at] == 0 || chunk.inputs[at] == 500;
            assert_eq!(chunk.resets[at], begins || (number == 0 && at < 4));
        }
        for stream in 0..4 {
            if let Some(last) = &last {
                assert!(
                    last[stream] == chunk.inputs[stream]
                        || (last[stream] == IGNORED && chunk.inputs[stream] == 500)
                        || chunk.inputs[stream] == 0
                );
            }
            for step in 1..16 {
                let (before, after) =
                    (chunk.targets[(step - 1) * 4 + stream], chunk.inputs[step * 4 + stream]);
                let ends = before == IGNORED && after == 500;
                assert!(before == after || ends || (before == 999 && after == 0));
            }
        }
        last = Some(chunk.targets[60..].to_vec());
    }
    assert_eq!(streams.position(), StreamsPosition { epoch: 1, chunk: 0 });
}

#[test]
fn an_epoch_covers_each_pair_once() {
    let mut streams = Streams::new(counting(129, &[]), 4, 16, 3).unwrap();
    let mut chunk = Batch::default();
    for _ in 0..2 {
        let mut seen = Vec::new();
        for _ in 0..streams.chunks_per_epoch() {
            streams.next(&mut chunk).unwrap();
            seen.extend_from_slice(&chunk.inputs);
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..128).collect::<Vec<u32>>());
    }
}

#[test]
fn a_saved_position_goes_on_with_the_same_chunks() {
    let tokens = counting(777, &[0, 10, 300]);
    let mut streams = Streams::new(tokens.clone(), 3, 8, 11).unwrap();
    let mut chunk = Batch::default();
    for step in 0..100 {
        let mut resumed = Streams::new(tokens.clone(), 3, 8, 11).unwrap();
        resumed.seek(streams.position()).unwrap();
        let mut other = Batch::default();
        resumed.next(&mut other).unwrap();
        streams.next(&mut chunk).unwrap();
        assert_eq!(chunk, other, "step {step}");
        assert_eq!(resumed.position(), streams.position());
    }
    let beyond = StreamsPosition { epoch: 0, chunk: streams.chunks_per_epoch() };
    assert!(matches!(streams.seek(beyond), Err(TextError::Position { .. })));
}

#[test]
fn a_text_too_short_is_refused_or_fitted() {
    let error = Streams::new(counting(12, &[]), 4, 16, 0).unwrap_err().to_string();
    assert!(error.contains("has 12 tokens") && error.contains("needs 65"), "{error}");
    assert!(matches!(
        Streams::new(counting(1, &[]), 1, 1, 0),
        Err(TextError::TooShort { tokens: 1 })
    ));
    assert!(Streams::new(counting(9, &[]), 0, 1, 0).is_err());
    assert_eq!(Streams::fit(12, 4, 16), Some((1, 11)));
    assert_eq!(Streams::fit(100, 32, 16), Some((6, 16)));
    assert_eq!(Streams::fit(1, 4, 4), None);
}

#[test]
fn windows_ask_for_every_token_but_the_first_of_a_document_once() {
    let sizes = [(2, 1, 1, 9), (100, 1, 7, 7), (101, 4, 9, 4), (5, 8, 3, 1), (64, 3, 64, 10)];
    for (count, batch, time, most) in sizes {
        // The second of two documents begins with a token that nothing asks for.
        let middle = count / 2;
        let tokens = counting(count, &[0, u64::from(middle)]);
        let mut windows = Windows::new(tokens, batch, time, most).unwrap();
        let mut chunk = Batch::default();
        let mut seen = Vec::new();
        while windows.next(&mut chunk).unwrap() {
            assert_eq!(chunk.batch, windows.batch());
            assert!(chunk.time <= most);
            for at in 0..chunk.inputs.len() {
                if chunk.targets[at] == IGNORED {
                    continue;
                }
                assert_eq!(chunk.targets[at], chunk.inputs[at] + 1);
                seen.push(chunk.targets[at]);
                let begins = chunk.inputs[at] == 0 || chunk.inputs[at] == middle;
                let window = (chunk.inputs[at] as usize).is_multiple_of(time);
                assert_eq!(chunk.resets[at], window || begins);
            }
        }
        seen.sort_unstable();
        let expected: Vec<u32> = (1..count).filter(|&id| id != middle).collect();
        assert_eq!(seen, expected);
    }
}

#[test]
fn a_batch_has_examples_of_similar_length() {
    struct Words(usize);
    impl Measured for Words {
        fn size(&self) -> usize {
            self.0
        }
    }
    let lengths = (0..2000).map(|place| Words(place * 37 % 100)).collect();
    let mut batches = Bucketed::shuffled(lengths, 16, 3).unwrap();
    let (mut padded, mut all, mut first) = (0, 0, Vec::new());
    for _ in 0..batches.batches_per_epoch() {
        let places = batches.next_batch().to_vec();
        let sizes = || places.iter().map(|&place| batches.examples()[place].size());
        padded += sizes().max().unwrap() * places.len() - sizes().sum::<usize>();
        all += sizes().sum::<usize>();
        first.push(places[0]);
    }
    assert!(padded * 20 < all, "{padded} of {all} are padding");
    assert_eq!(batches.position(), BucketedPosition { epoch: 1, batch: 0 });
    let again: Vec<usize> = (0..5).map(|_| batches.next_batch()[0]).collect();
    assert_ne!(again, first[..5]);
    assert!(Bucketed::shuffled(Vec::<Words>::new(), 8, 0).is_err());
    assert!(Bucketed::in_order(vec![Words(1)], 0).is_err());
}

#[test]
fn labelled_batches_hold_every_example_once_and_resume() {
    let examples: Vec<LabelledIds> = (0..103)
        .map(|place| LabelledIds { ids: vec![place as u32; place % 7], label: place as u32 % 3 })
        .collect();
    let mut batches = LabelledBatches::shuffled(examples.clone(), 8, 999, 5).unwrap();
    let mut batch = LabelledBatch::default();
    let mut orders = Vec::new();
    for _ in 0..2 {
        let mut seen = Vec::new();
        for _ in 0..batches.batches_per_epoch() {
            let mut resumed = LabelledBatches::shuffled(examples.clone(), 8, 999, 5).unwrap();
            resumed.seek(batches.position()).unwrap();
            let mut other = LabelledBatch::default();
            resumed.next(&mut other);
            batches.next(&mut batch);
            assert_eq!(batch, other);
            for (stream, &place) in batch.examples.iter().enumerate() {
                let example = &examples[place];
                assert_eq!(batch.lengths[stream], example.ids.len().max(1));
                assert_eq!(batch.labels[stream], example.label);
                for step in 0..batch.time {
                    let expected = example.ids.get(step).copied().unwrap_or(999);
                    assert_eq!(batch.ids[step * batch.batch + stream], expected);
                }
            }
            seen.extend_from_slice(&batch.examples);
        }
        orders.push(seen.clone());
        seen.sort_unstable();
        assert_eq!(seen, (0..103).collect::<Vec<usize>>());
    }
    assert_ne!(orders[0], orders[1]);
    assert!(LabelledBatches::<u32>::shuffled(Vec::new(), 8, 0, 1).is_err());
}
