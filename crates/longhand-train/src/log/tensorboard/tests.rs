use super::*;

/// Takes a file apart, checking every checksum on the way.
fn events(mut bytes: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let checksum = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!(checksum(8), record::masked_checksum(&bytes[..8]));
        let data = &bytes[12..12 + length];
        assert_eq!(checksum(12 + length), record::masked_checksum(data));
        events.push(Event::decode(data).unwrap());
        bytes = &bytes[16 + length..];
    }
    events
}

fn only_value(event: &Event) -> &Value {
    match &event.what {
        Some(What::Summary(summary)) if summary.value.len() == 1 => &summary.value[0],
        other => panic!("not one value: {other:?}"),
    }
}

#[test]
fn checksums_are_the_published_ones() {
    // RFC 3720, B.4: 32 bytes of zeros, and of ones.
    assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
    assert_eq!(crc32c::crc32c(&[0xff; 32]), 0x62a8_ab43);
    let unmasked = record::masked_checksum(b"longhand").wrapping_sub(0xa282_ead8).rotate_left(15);
    assert_eq!(unmasked, crc32c::crc32c(b"longhand"));
}

#[test]
fn scalars_and_text_come_back() {
    let mut writer = EventWriter::new(Vec::new(), 1.5).unwrap();
    writer.scalar("train/loss", 7, 2.5, 0.25).unwrap();
    writer.text("sample", 8, "从前有一个人").unwrap();
    writer.restart(9).unwrap();
    let events = events(&writer.into_inner());
    assert_eq!(events.len(), 4);

    assert_eq!(events[0].what, Some(What::FileVersion("brain.Event:2".into())));
    assert_eq!((events[0].wall_time, events[0].step), (1.5, 0));

    assert_eq!((events[1].wall_time, events[1].step), (2.5, 7));
    let scalar = only_value(&events[1]);
    assert_eq!((scalar.tag.as_str(), scalar.simple_value), ("train/loss", Some(0.25)));

    let text = only_value(&events[2]);
    let tensor = text.tensor.as_ref().unwrap();
    assert_eq!(tensor.dtype, messages::STRING);
    assert_eq!(tensor.string_val, ["从前有一个人".as_bytes()]);
    let plugin = text.metadata.as_ref().unwrap().plugin_data.as_ref().unwrap();
    assert_eq!(plugin.plugin_name, "text");

    assert_eq!(events[3].step, 9);
    assert!(matches!(&events[3].what, Some(What::SessionLog(log)) if log.status == 1));
}

#[test]
fn a_histogram_counts_every_finite_value_once() {
    let values: Vec<f32> = (0..=300).map(|i| i as f32 / 300.0).chain([f32::NAN]).collect();
    let mut writer = EventWriter::new(Vec::new(), 0.0).unwrap();
    writer.histogram("gates/forget", 3, &values).unwrap();
    let events = events(&writer.into_inner());
    let histogram = only_value(&events[1]).histo.clone().unwrap();

    assert_eq!((histogram.min, histogram.max, histogram.num), (0.0, 1.0, 301.0));
    assert_eq!(histogram.bucket.len(), BUCKETS);
    assert_eq!(histogram.bucket.iter().sum::<f64>(), 301.0);
    assert!(histogram.bucket_limit.is_sorted());
    assert_eq!(histogram.bucket_limit.last(), Some(&1.0));
    assert!((histogram.sum - 150.5).abs() < 1e-4);
}

#[test]
fn histograms_of_awkward_values_have_one_bucket() {
    for (values, count) in [(&[][..], 0.0), (&[f32::INFINITY], 0.0), (&[2.0, 2.0, 2.0], 3.0)] {
        let histogram = histogram(values);
        assert_eq!(histogram.bucket, [count]);
        assert_eq!(histogram.num, count);
    }
}

#[test]
fn files_of_one_folder_never_collide() {
    let folder = tempfile::tempdir().unwrap();
    let below = folder.path().join("a/b");
    for step in 0..3 {
        EventWriter::create(&below).unwrap().scalar("x", step, 0.0, 1.0).unwrap();
    }
    let files: Vec<_> = fs_err::read_dir(&below).unwrap().map(|entry| entry.unwrap()).collect();
    assert_eq!(files.len(), 3);
    for file in files {
        assert!(file.file_name().to_string_lossy().contains("tfevents"));
        assert_eq!(events(&fs_err::read(file.path()).unwrap()).len(), 2);
    }
}
