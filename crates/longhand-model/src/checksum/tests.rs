use std::collections::HashMap;

use longhand_kernel::weights::Format;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::file::{Values, serialize};
use crate::{Model, Preset, WeightsError};

/// Two tensors and one entry of metadata.
fn small() -> Vec<u8> {
    let (one, two) = ([1.0, -2.0, 0.0, 4.5], [0.25; 24]);
    let tensors = [("one", Values::exact(&[2, 2], &one)), ("two", Values::exact(&[24], &two))];
    serialize(tensors, BTreeMap::from([("purpose".into(), "a test".into())]))
}

fn flip(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    changed[bit / 8] ^= 1 << (bit % 8);
    changed
}

#[test]
fn every_flipped_bit_is_refused() {
    let bytes = small();
    for bit in 0..8 * bytes.len() {
        assert!(from_bytes(&flip(&bytes, bit)).is_err(), "bit {bit} of {}", bytes.len());
    }
    let last = from_bytes(&flip(&bytes, 8 * bytes.len() - 1)).err();
    assert_eq!(last, Some(ChecksumError::Tensor("two".into())));
}

#[test]
fn a_flipped_bit_of_weights_is_refused_in_every_format() {
    let mut random = ChaCha8Rng::seed_from_u64(5);
    for format in [Format::F32, Format::Bf16, Format::Int8, Format::Int4] {
        let model = Model::new(Preset::Lstm.config(40), 3).unwrap().compress(format);
        let bytes = model.to_bytes();
        assert!(Model::from_bytes(model.config().clone(), &bytes).is_ok());
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        for begin in [0, 8 * header].into_iter().cycle().take(300) {
            let end = if begin == 0 { 8 * header } else { 8 * bytes.len() };
            let bit = random.random_range(begin..end);
            let read = Model::from_bytes(model.config().clone(), &flip(&bytes, bit));
            let error = read.err().unwrap_or_else(|| panic!("bit {bit} of {format:?}"));
            let named = matches!(error, WeightsError::Damaged(ChecksumError::Tensor(_)));
            assert!(begin == 0 || named, "{error}");
        }
    }
}

#[test]
fn neither_key_alone_switches_the_check_off() {
    // The values are text as well, so that the file may be edited as text.
    let text = [0x41; 16];
    let words = text.as_chunks::<4>().0.iter().map(|&word| f32::from_le_bytes(word));
    let words: Vec<f32> = words.collect();
    let bytes = serialize(
        [("one", Values::exact(&[4], &words))],
        BTreeMap::from([("purpose".into(), "a test".into())]),
    );
    let length = bytes[..8].to_vec();
    let header = std::str::from_utf8(&bytes[8..]).unwrap();
    let refusal = |from: &str, to: &str| {
        assert!(header.contains(from));
        let changed = [&length[..], header.replace(from, to).as_bytes()].concat();
        from_bytes(&changed).expect_err("a refusal")
    };
    assert_eq!(refusal(CHECKSUMS, "longhand.checkzumz"), ChecksumError::Metadata);
    assert_eq!(refusal(CHECKED, "longhand.chequed"), ChecksumError::Metadata);
    assert_eq!(refusal("a test", "a rest"), ChecksumError::Metadata);
    assert_eq!(refusal("\"one\":{", "\"own\":{"), ChecksumError::Tensor("own".into()));
    assert_eq!(refusal("AAAA", "AABA"), ChecksumError::Tensor("one".into()));
}

#[test]
fn equal_arguments_give_equal_bytes_and_an_empty_file_is_read() {
    assert_eq!(small(), small());
    let bytes = to_bytes(Vec::<(String, Values)>::new(), []);
    assert_eq!(from_bytes(&bytes).unwrap().len(), 0);
}

#[test]
fn a_file_of_another_program_is_read() {
    let model = Model::new(Preset::Lstm.config(40), 3).unwrap();
    let bytes = model.to_bytes();
    let ours = from_bytes(&bytes).unwrap();
    assert!(has_checksums(&bytes) && !has_checksums(&bytes[..9]));
    for metadata in [None, Some(HashMap::from([("format".into(), "pt".into())]))] {
        let theirs = safetensors::serialize(ours.tensors(), metadata).unwrap();
        assert!(!has_checksums(&theirs));
        let read = Model::from_bytes(model.config().clone(), &theirs).unwrap();
        assert_eq!(read.weights.hash(), model.weights.hash());
    }
}
