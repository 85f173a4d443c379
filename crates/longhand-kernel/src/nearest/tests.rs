use super::*;
use crate::testing::{levels, values, wide};

/// Keys in clusters, `[N, D]`, and rounded as they are stored.
fn clustered(count: usize, width: usize, clusters: usize, seed: u64) -> Vec<f32> {
    let (centers, noise) = (values(clusters * width, seed), values(count * width, seed + 1));
    let center = |row: usize| &centers[row * 7 % clusters * width..][..width];
    let near = |row: usize| {
        let noise = &noise[row * width..][..width];
        center(row).iter().zip(noise).map(|(c, x)| c + 0.3 * x).collect::<Vec<f32>>()
    };
    let rows: Vec<f32> = (0..count).flat_map(near).collect();
    let mut keys = vec![0.0; rows.len()];
    decode_keys(&encoded(&rows), &mut keys);
    keys
}

fn encoded(rows: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_keys(rows, &mut bytes);
    bytes
}

/// What is found for each query in keys that are cut into parts of `size`, all of which every query
/// looks into. The value of a key is three times its number.
fn scanned(
    cpu: &Cpu,
    width: usize,
    queries: &[f32],
    keys: &[f32],
    size: usize,
    most: usize,
) -> Vec<Vec<Found>> {
    let count = queries.len() / width;
    let rows: Vec<u32> = (0..count as u32).collect();
    let bytes = encoded(keys);
    let entries = bytes.len() / (2 * width);
    let values: Vec<u8> = (0..entries as u32).flat_map(|id| (3 * id).to_le_bytes()).collect();
    let parts: Vec<Part<'_>> = (0..entries.div_ceil(size))
        .map(|part| {
            let range = part * size..entries.min((part + 1) * size);
            Part {
                first: range.start as u32,
                keys: &bytes[range.start * 2 * width..range.end * 2 * width],
                values: &values[range.start * 4..range.end * 4],
                queries: &rows,
            }
        })
        .collect();
    let mut nearest = vec![Nearest::new(most); count];
    scan(cpu, width, queries, &parts, &mut nearest);
    nearest.iter_mut().map(|nearest| nearest.sorted().to_vec()).collect()
}

#[test]
fn a_scan_of_all_keys_follows_the_reference() {
    for level in levels() {
        for (threads, width, entries, count, most) in [
            (1, 1, 1, 1, 1),
            (2, 3, 40, 5, 7),
            (2, 16, 300, 30, 11),
            (5, 17, 301, 25, 64),
            (3, 40, 90, 24, 200),
            (2, 8, 0, 3, 4),
        ] {
            let cpu = Cpu::with_level(threads, level);
            let keys = clustered(entries, width, 9, 5);
            let queries = values(count * width, 3);
            let found = scanned(&cpu, width, &queries, &keys, 37, most);
            for (query, found) in queries.chunks(width).zip(&found) {
                let exact = reference::nearest(&wide(query), &wide(&keys), most);
                assert_eq!(found.len(), exact.len(), "{width} {entries}");
                for (found, (_, distance)) in found.iter().zip(&exact) {
                    let error = (f64::from(found.distance) - distance).abs();
                    assert!(error < 1e-5 * (width as f64 + 1.0), "{found:?} for {distance}");
                    assert_eq!(found.value, 3 * found.entry);
                    // The key it names is as far as it says.
                    let key = &keys[found.entry as usize * width..][..width];
                    let own = reference::nearest(&wide(query), &wide(key), 1)[0].1;
                    assert!((own - distance).abs() < 1e-5 * (width as f64 + 1.0));
                }
            }
        }
    }
}

#[test]
fn what_is_found_depends_neither_on_other_queries_nor_on_parts_and_threads() {
    for level in levels() {
        let (width, keys) = (19, clustered(500, 19, 6, 1));
        let queries = values(53 * width, 2);
        let one = Cpu::with_level(1, level);
        let all = scanned(&one, width, &queries, &keys, 500, 20);
        assert_eq!(all, scanned(&Cpu::with_level(3, level), width, &queries, &keys, 61, 20));
        for (query, all) in queries.chunks(width).zip(&all) {
            assert_eq!(&scanned(&one, width, query, &keys, 90, 20)[0], all);
        }
    }
}

#[test]
fn equally_near_keys_come_in_the_order_of_their_numbers() {
    let cpu = Cpu::new(2);
    let keys = [1.0, 0.0, 1.0, 0.0, 2.0, 1.0, 0.0, 1.0].repeat(9);
    let found = scanned(&cpu, 1, &[0.0], &keys, 5, 30);
    let entries: Vec<u32> = found[0].iter().map(|found| found.entry).collect();
    let mut expected: Vec<u32> = (0..72).collect();
    expected.sort_by(|&a, &b| keys[a as usize].total_cmp(&keys[b as usize]).then(a.cmp(&b)));
    assert_eq!(entries, expected[..30]);
}

#[test]
fn assigned_centroids_are_the_nearest_ones() {
    for level in levels() {
        for (threads, width, count, lists) in [(1, 1, 5, 1), (2, 7, 1100, 33), (3, 32, 90, 16)] {
            let cpu = Cpu::with_level(threads, level);
            let (rows, centroids) = (values(count * width, 1), values(lists * width, 2));
            let (mut ids, mut distances) = (vec![9; count], vec![-1.0; count]);
            let to = Assigned { lists: &mut ids, distances: &mut distances };
            assign(&cpu, width, &centroids, &rows, to);
            for ((row, id), distance) in rows.chunks(width).zip(ids).zip(distances) {
                let exact = reference::nearest(&wide(row), &wide(&centroids), lists);
                let own = exact.iter().find(|(list, _)| *list == id as usize).unwrap().1;
                assert!(own - exact[0].1 < 1e-4, "{id} for {:?}", exact[0]);
                assert!((f64::from(distance) - own).abs() < 1e-4 * (1.0 + own));
            }
        }
    }
}

/// Cuts keys into lists, and searches the P nearest lists of each query.
fn search(cpu: &Cpu, width: usize, keys: &[f32], queries: &[f32], probes: usize) -> Vec<Vec<u32>> {
    let lists = 40;
    let centroids = k_means(cpu, width, keys, lists, 8, &mut |_| true);
    let count = keys.len() / width;
    let (mut ids, mut distances) = (vec![0; count], vec![0.0; count]);
    let to = Assigned { lists: &mut ids, distances: &mut distances };
    assign(cpu, width, &centroids, keys, to);
    let probed = {
        let mut probed = vec![0; queries.len() / width * probes];
        nearest_lists(cpu, width, &centroids, queries, probes, &mut probed);
        probed
    };
    let of_query = |(query, lists): (&[f32], &[u32])| {
        assert!(lists.is_sorted());
        let own = (0..count).filter(|&key| lists.contains(&ids[key]));
        let own: Vec<usize> = own.collect();
        let rows: Vec<f32> =
            own.iter().flat_map(|&key| keys[key * width..][..width].to_vec()).collect();
        let found = scanned(cpu, width, query, &rows, 50, 10).remove(0);
        found.iter().map(|found| own[found.entry as usize] as u32).collect()
    };
    queries.chunks(width).zip(probed.chunks(probes)).map(of_query).collect()
}

#[test]
fn few_lists_hold_nine_of_ten_neighbours_and_all_lists_hold_all() {
    let (cpu, width) = (Cpu::new(2), 24);
    let keys = clustered(4000, width, 40, 11);
    // Queries beside some of the keys.
    let noise = values(60 * width, 12);
    let near = |(i, x): (usize, &f32)| keys[i / width * 61 * width + i % width] + 0.05 * x;
    let queries: Vec<f32> = noise.iter().enumerate().map(near).collect();
    let exact: Vec<Vec<u32>> = queries
        .chunks(width)
        .map(|query| {
            let found = reference::nearest(&wide(query), &wide(&keys), 10);
            found.into_iter().map(|(entry, _)| entry as u32).collect()
        })
        .collect();
    let recall = |found: &[Vec<u32>]| {
        let pairs = found.iter().zip(&exact);
        let hits = pairs.map(|(f, e)| f.iter().filter(|entry| e.contains(entry)).count());
        hits.sum::<usize>() as f64 / (10 * exact.len()) as f64
    };
    assert!(recall(&search(&cpu, width, &keys, &queries, 40)) > 0.99);
    let few = recall(&search(&cpu, width, &keys, &queries, 5));
    assert!(few > 0.9, "{few}");
    assert!(recall(&search(&cpu, width, &keys, &queries, 1)) <= few);
}

#[test]
fn no_centroid_stays_without_rows_and_equal_rows_do_no_harm() {
    let cpu = Cpu::new(2);
    // Two places, three centroids.
    let rows: Vec<f32> =
        (0..30).flat_map(|i| if i < 29 { [0.0, 0.0] } else { [8.0, 8.0] }).collect();
    let centroids = k_means(&cpu, 2, &rows, 3, 5, &mut |_| true);
    assert!(centroids.chunks(2).any(|c| c == [0.0, 0.0]), "{centroids:?}");
    assert!(centroids.chunks(2).any(|c| c == [8.0, 8.0]), "{centroids:?}");
    assert_eq!(centroids, k_means(&Cpu::new(1), 2, &rows, 3, 5, &mut |_| true));
    assert!(k_means(&cpu, 2, &[], 0, 5, &mut |_| true).is_empty());
}

#[test]
fn far_away_values_stay_finite() {
    let cpu = Cpu::new(1);
    let found = scanned(&cpu, 4, &[1e4; 4], &[-1e4; 8], 2, 2);
    assert!(found[0].iter().all(|found| found.distance.is_finite() && found.distance > 0.0));
}

#[test]
fn spread_places_rise_and_stay_within() {
    for (places, count) in [(1, 1), (1, 9), (7, 7), (5, 23), (64, 4096), (100, 101)] {
        let all: Vec<usize> = (0..places).map(|index| spread(index, places, count)).collect();
        assert!(all.is_sorted() && all.iter().all(|&place| place < count), "{all:?}");
        let stretch = |(index, &place): (usize, &usize)| {
            let bounds = [index * count / places, (index + 1) * count / places];
            (bounds[0]..=bounds[1]).contains(&place)
        };
        assert!(all.iter().enumerate().all(stretch), "{all:?}");
        assert!(places < count || all.iter().copied().eq(0..count));
    }
    let gaps: Vec<usize> = (1..50).map(|i| spread(i, 50, 5000) - spread(i - 1, 50, 5000)).collect();
    assert!(gaps.iter().any(|&gap| gap != gaps[0]));
}
