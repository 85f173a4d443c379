//! Several sequences in one pass, and passes that refuse what they are given.

use std::sync::Arc;

use longhand_model::{
    Cpu, Gradients, IGNORE, LossOptions, Mode, Model, ModelError, Preset, Sequence, State, Tape,
    Targets, Total, Var,
};

const VOCABULARY: usize = 37;

fn model(preset: Preset, seed: u64) -> Model {
    Model::new(preset.config(VOCABULARY), seed).unwrap()
}

fn ids(count: usize, step: u32) -> Vec<u32> {
    (0..count as u32).map(|i| (i * i * step + i) % VOCABULARY as u32).collect()
}

fn tape() -> Tape {
    Tape::new(Arc::new(Cpu::new(2)))
}

fn values(state: &State) -> Vec<Vec<f32>> {
    state.tensors().map(|tensor| tensor.values().into_owned()).collect()
}

/// A sequence of a test: ids, sizes, and the model that reads it.
struct Read<'a> {
    model: &'a Model,
    ids: Vec<u32>,
    time: usize,
    lengths: Option<Vec<u32>>,
}

impl Read<'_> {
    fn sequence(&self) -> Sequence<'_> {
        let batch = self.ids.len() / self.time;
        Sequence { lengths: self.lengths.as_deref(), ..Sequence::new(self.time, batch) }
    }
}

/// Reads every sequence in one pass and runs one backward pass; logits and the state of each.
fn together(reads: &[Read], gradients: &mut [Gradients]) -> Vec<(Vec<f32>, State)> {
    let mut tape = tape();
    let mut pass = tape.pass(Mode::Record);
    let mut states: Vec<State> =
        reads.iter().map(|read| read.model.state(read.sequence().batch)).collect();
    let mut read_one = |(read, state): (&Read, &mut State)| {
        read.model.forward(&mut pass, &read.ids, &read.sequence(), state).unwrap()
    };
    let rows: Vec<Var> = reads.iter().zip(&mut states).map(&mut read_one).collect();
    let mut all = Vec::new();
    for ((read, x), gradients) in reads.iter().zip(rows).zip(gradients.iter_mut()) {
        let mut logits = Vec::new();
        read.model.logits(&mut pass, x, 0..read.ids.len(), &mut logits);
        all.push(logits);
        let real: Vec<usize> = read.sequence().real_rows().collect();
        let mut targets = vec![IGNORE; read.ids.len()];
        real.iter().for_each(|&row| targets[row] = read.ids[row]);
        let options = LossOptions { gradients: Some((0.1, gradients)), ..LossOptions::default() };
        let targets = Targets::Tokens(&targets);
        let Total { count, .. } = read.model.loss(&mut pass, x, targets, options).unwrap();
        assert_eq!(count, real.len());
    }
    let mut models: Vec<_> =
        reads.iter().zip(gradients).map(|(read, g)| (&read.model.weights, g)).collect();
    pass.backward_all(&mut models).unwrap();
    all.into_iter().zip(states).collect()
}

#[test]
fn sequences_of_one_pass_are_as_if_each_had_a_pass_of_its_own() {
    let others = [Preset::Xlstm, Preset::AttentionLstm, Preset::TanhLstm, Preset::Transformer];
    for other in others {
        let (first, second) = (model(Preset::LonghandNano, 3), model(other, 5));
        let reads = [
            Read { model: &first, ids: ids(3 * 17, 5), time: 17, lengths: Some(vec![17, 2, 9]) },
            Read { model: &second, ids: ids(2 * 6, 7), time: 6, lengths: None },
        ];
        let cpu = Arc::new(Cpu::new(2));
        let new = |read: &Read| Gradients::new(cpu.clone(), &read.model.weights);
        let mut gradients: Vec<Gradients> = reads.iter().map(new).collect();
        let read = together(&reads, &mut gradients);
        for ((one, (logits, state)), gradients) in reads.iter().zip(&read).zip(&gradients) {
            let mut alone = [new(one)];
            let expected = together(std::slice::from_ref(one), &mut alone);
            assert_eq!(*logits, expected[0].0, "{other}");
            assert_eq!(state.positions(), expected[0].1.positions(), "{other}");
            assert_eq!(values(state), values(&expected[0].1), "{other}");
            let pairs = gradients.iter().zip(alone[0].iter()).zip(one.model.weights.iter());
            for ((together, alone), parameter) in pairs {
                assert_eq!(together.unwrap(), alone.unwrap(), "{other}: {}", parameter.name);
            }
        }
    }
}

/// The same model may read several sequences: their gradients add up.
#[test]
fn a_model_reads_two_sequences_in_one_pass() {
    let model = model(Preset::LonghandNano, 3);
    let sequences = [(ids(20, 5), 20), (ids(3 * 5, 7), 5)];
    let run = |sequences: &[(Vec<u32>, usize)]| {
        let mut tape = tape();
        let mut gradients = Gradients::new(tape.cpu().clone(), &model.weights);
        let mut pass = tape.pass(Mode::Record);
        let mut rows = Vec::new();
        for (ids, time) in sequences {
            let sequence = Sequence::new(*time, ids.len() / time);
            let mut state = model.state(sequence.batch);
            rows.push(model.forward(&mut pass, ids, &sequence, &mut state).unwrap());
        }
        for (x, (ids, _)) in rows.into_iter().zip(sequences) {
            let gradients = Some((0.1, &mut gradients));
            let options = LossOptions { gradients, ..LossOptions::default() };
            model.loss(&mut pass, x, Targets::Tokens(ids), options).unwrap();
        }
        pass.backward(&model.weights, &mut gradients).unwrap();
        let gradients = gradients.iter().map(|g| g.unwrap().to_vec());
        gradients.collect::<Vec<_>>()
    };
    let both = run(&sequences);
    let apart = [run(&sequences[..1]), run(&sequences[1..])];
    for (parameter, (both, (a, b))) in
        model.weights.iter().zip(both.iter().zip(apart[0].iter().zip(&apart[1])))
    {
        let scale = both.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        for (both, (a, b)) in both.iter().zip(a.iter().zip(b)) {
            assert!((both - (a + b)).abs() <= 1e-5 * scale, "{}", parameter.name);
        }
    }
}

#[test]
fn what_is_refused_leaves_state_and_pass_as_they_were() {
    for preset in [Preset::LonghandNano, Preset::Xlstm, Preset::TanhLstm] {
        let model = model(preset, 3);
        let mut tape = tape();
        let mut state = model.state(2);
        let sequence = Sequence::new(5, 2);
        let mut pass = tape.pass(Mode::Read);
        let x = model.forward(&mut pass, &ids(10, 3), &sequence, &mut state).unwrap();
        let (before, rows) = (values(&state), pass.data(x).to_vec());

        let mut wrong = ids(10, 3);
        wrong[7] = VOCABULARY as u32;
        let expected = ModelError::Token { id: VOCABULARY as u32, vocab_size: VOCABULARY };
        let error = model.forward(&mut pass, &wrong, &sequence, &mut state).unwrap_err();
        assert_eq!(error, expected);
        let error = model.forward(&mut pass, &ids(9, 3), &sequence, &mut state).unwrap_err();
        assert_eq!(error, ModelError::Length { got: 9, time: 5, batch: 2 });
        let three = Sequence::new(5, 3);
        let error = model.forward(&mut pass, &ids(15, 3), &three, &mut state).unwrap_err();
        assert_eq!(error, ModelError::State { expected: 3, got: 2 });

        assert_eq!(values(&state), before, "{preset}");
        assert_eq!((state.positions(), state.since_reset()), (&[5, 5][..], &[5, 5][..]));
        assert_eq!(pass.data(x), rows, "{preset}");
    }
}

#[test]
fn a_backward_pass_needs_every_model_of_its_pass() {
    let (first, second) = (model(Preset::Lstm, 3), model(Preset::Lstm, 3).clone());
    let mut tape = tape();
    let mut gradients = [&first, &second].map(|m| Gradients::new(tape.cpu().clone(), &m.weights));
    let sequence = Sequence::new(4, 1);
    let mut pass = tape.pass(Mode::Record);
    for model in [&first, &second] {
        model.forward(&mut pass, &ids(4, 3), &sequence, &mut model.state(1)).unwrap();
    }
    let [one, two] = &mut gradients;
    assert_eq!(pass.backward(&first.weights, one), Err(ModelError::Backward));
    assert!(one.iter().all(|gradient| gradient.is_none()), "nothing was added");
    // A copy is another model.
    let copy = first.clone();
    let mut models = [(&copy.weights, &mut *one), (&second.weights, &mut *two)];
    assert_eq!(pass.backward_all(&mut models), Err(ModelError::Backward));
    pass.backward_all(&mut [(&first.weights, one), (&second.weights, two)]).unwrap();
}
