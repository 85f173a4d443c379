use longhand_kernel::random::split_mix64;

use super::*;

/// A KV cache in `precision`, a hidden state and a scalar for each of two heads.
fn layout(precision: Precision) -> Arc<StateLayout> {
    let mut layout = StateLayout::default();
    layout.carry("blocks.0.attention.keys".into(), &[2, 3, 4], precision);
    layout.carry("blocks.0.lstm.h".into(), &[5], Precision::F32);
    layout.carry("blocks.1.mlstm.m".into(), &[2], Precision::F32);
    Arc::new(layout)
}

/// A state whose every value and counter differs by stream and by seed.
fn numbered(layout: &Arc<StateLayout>, batch: usize, seed: u64) -> State {
    let state = State::new(layout, batch);
    let numbers = |count: u64, of: u64| (0..count).map(|b| seed * 100 + 10 * of + b).collect();
    let (positions, since): (Vec<u64>, Vec<u64>) =
        (numbers(batch as u64, 2), numbers(batch as u64, 1));
    let mut tensors = state.to_tensors();
    for (index, tensor) in tensors.iter_mut().enumerate() {
        for (i, value) in tensor.values.to_mut().iter_mut().enumerate() {
            // Few digits, so that bf16 holds them.
            *value = ((i + 7 * index) as f32 + seed as f32 / 4.0) % 16.0;
        }
    }
    State::from_tensors(layout, &positions, &since, tensors).unwrap()
}

fn contents(state: &State) -> (Vec<u64>, Vec<u64>, Vec<Vec<f32>>) {
    let tensors = state.tensors().map(|tensor| tensor.values().into_owned()).collect();
    (state.positions().to_vec(), state.since_reset().to_vec(), tensors)
}

#[test]
fn slots_hold_what_was_inserted_whatever_happens_to_the_others() {
    for precision in Precision::ALL {
        let layout = layout(precision);
        let slots = 4;
        let mut last = 5;
        let mut draw = |most: usize| {
            last = split_mix64(last);
            (last % most as u64) as usize
        };
        let mut state = State::new(&layout, slots);
        let mut model: Vec<State> = (0..slots).map(|_| State::new(&layout, 1)).collect();
        for seed in 1..200 {
            let slot = draw(slots);
            match draw(3) {
                0 => {
                    model[slot] = numbered(&layout, 1, seed % 40);
                    state.insert(slot, &model[slot]).unwrap();
                }
                1 => {
                    model[slot] = State::new(&layout, 1);
                    state.insert(slot, &model[slot]).unwrap();
                }
                _ => {
                    let from = draw(slots);
                    model[slot] = model[from].clone();
                    state.insert(slot, &state.extract(from).unwrap()).unwrap();
                }
            }
            for (slot, one) in model.iter().enumerate() {
                assert_eq!(contents(&state.extract(slot).unwrap()), contents(one));
            }
        }
        let some = state.select(&[2, 0, 2]).unwrap();
        assert_eq!(some.batch(), 3);
        for (slot, from) in [2, 0, 2].into_iter().enumerate() {
            assert_eq!(contents(&some.extract(slot).unwrap()), contents(&model[from]));
        }
    }
}

#[test]
fn states_that_do_not_fit_are_refused_and_change_nothing() {
    let layout = layout(Precision::F32);
    let mut state = numbered(&layout, 2, 3);
    let before = contents(&state);
    let one = numbered(&layout, 1, 4);
    assert_eq!(state.insert(2, &one), Err(StateError::Slot { slot: 2, slots: 2 }));
    assert_eq!(state.insert(0, &numbered(&layout, 2, 4)), Err(StateError::One(2)));
    assert_eq!(state.insert(0, &State::new(&layout, 0)), Err(StateError::One(0)));
    let bf16 = State::new(&self::layout(Precision::Bf16), 1);
    assert_eq!(state.insert(0, &bf16), Err(StateError::Layout));
    assert_eq!(state.extract(2).err(), Some(StateError::Slot { slot: 2, slots: 2 }));
    assert_eq!(state.select(&[0, 5]).err(), Some(StateError::Slot { slot: 5, slots: 2 }));
    assert_eq!(contents(&state), before);
    // Layouts with the same content are the same, wherever they come from.
    let again = numbered(&self::layout(Precision::F32), 1, 4);
    state.insert(1, &again).unwrap();
    assert_eq!(contents(&state.extract(1).unwrap()), contents(&one));
}

#[test]
fn tensors_that_are_no_state_are_refused() {
    for precision in Precision::ALL {
        let layout = layout(precision);
        let state = numbered(&layout, 2, 3);
        let refused = |change: &dyn Fn(&mut Vec<NamedTensor<'_>>)| {
            let mut tensors = state.to_tensors();
            change(&mut tensors);
            State::from_tensors(&layout, &[1, 2], &[1, 2], tensors).err()
        };
        assert_eq!(refused(&|tensors| tensors.reverse()), None);
        let h = "blocks.0.lstm.h".to_owned();
        let missing = refused(&|tensors| drop(tensors.remove(1)));
        assert_eq!(missing, Some(StateError::Missing(h.clone())));
        let twice = refused(&|tensors| tensors.push(tensors[1].clone()));
        assert_eq!(twice, Some(StateError::Unknown(h.clone())));
        let unknown = refused(&|tensors| tensors[1].name = "blocks.0.lstm.c".into());
        assert_eq!(unknown, Some(StateError::Unknown("blocks.0.lstm.c".into())));
        let shape = refused(&|tensors| tensors[1].shape = vec![5, 2]);
        let (expected, got) = (vec![2, 5], vec![5, 2]);
        assert_eq!(shape, Some(StateError::Shape { name: h.clone(), expected, got }));
        let short = refused(&|tensors| tensors[1].values = vec![0.0; 9].into());
        assert_eq!(short, Some(StateError::Length { name: h, expected: 10, got: 9 }));
        let keys = "blocks.0.attention.keys".to_owned();
        for wrong in [f32::NAN, f32::INFINITY] {
            let wrong = refused(&|tensors| tensors[0].values.to_mut()[3] = wrong);
            assert_eq!(wrong, Some(StateError::NotFinite(keys.clone())));
        }
        // What overflows when it is rounded is refused where it is rounded.
        let large = refused(&|tensors| tensors[0].values.to_mut()[3] = f32::MAX);
        let expected = (precision == Precision::Bf16).then(|| StateError::NotFinite(keys.clone()));
        assert_eq!(large, expected);
        let counters = State::from_tensors(&layout, &[1, 2], &[1], state.to_tensors()).err();
        assert_eq!(counters, Some(StateError::Streams { expected: 2, got: 1 }));
        // The shape of a single stream may leave out its leading 1.
        let one = state.extract(1).unwrap();
        let mut tensors = one.to_tensors();
        tensors.iter_mut().for_each(|tensor| tensor.shape = tensor.shape[1..].to_vec());
        let read = State::from_tensors(&layout, one.positions(), one.since_reset(), tensors);
        assert_eq!(contents(&read.unwrap()), contents(&one));
    }
}

#[test]
fn counters_follow_the_real_positions_and_the_last_reset() {
    let layout = layout(Precision::F32);
    let resets = [false, true, false, false, true, false, false, false, false];
    let lengths = [3, 1, 0];
    let sequence =
        Sequence { resets: Some(&resets), lengths: Some(&lengths), ..Sequence::new(3, 3) };
    let mut state = numbered(&layout, 3, 1);
    let (positions, since) = (state.positions().to_vec(), state.since_reset().to_vec());
    state.advance(&sequence);
    assert_eq!(state.positions(), [positions[0] + 3, positions[1] + 1, positions[2]]);
    // The second stream is reset at t = 0; its reset at t = 1 is padding.
    assert_eq!(state.since_reset(), [since[0] + 3, 1, since[2]]);
    state.advance(&Sequence { resets: Some(&resets), ..Sequence::new(3, 3) });
    assert_eq!(state.since_reset(), [since[0] + 6, 2, since[2] + 3]);
}
