//! Named parameters, their gradients, and how they begin.

use longhand_kernel::Buffer;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A parameter's place in [`Weights`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ParameterId(pub(crate) usize);

/// One tensor of the model, row-major, with PyTorch's name and layout.
#[derive(Clone)]
pub struct Parameter {
    /// Its name in `model.safetensors`.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values.
    pub data: Buffer,
    /// Whether training changes it. A frozen parameter costs no gradient work.
    pub trainable: bool,
}

/// Every parameter of a model, in the order of its layers.
#[derive(Clone, Default)]
pub struct Weights {
    parameters: Vec<Parameter>,
}

/// A gradient for every trainable parameter.
pub struct Gradients {
    buffers: Vec<Option<Buffer>>,
}

impl Weights {
    /// The parameters in order.
    pub fn iter(&self) -> impl Iterator<Item = &Parameter> {
        self.parameters.iter()
    }

    /// The parameters in order, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        self.parameters.iter_mut()
    }

    /// How many parameters (tensors) there are.
    pub fn len(&self) -> usize {
        self.parameters.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.parameters.is_empty()
    }

    /// How many numbers there are in all.
    pub fn count(&self) -> usize {
        self.parameters.iter().map(|p| p.data.len()).sum()
    }

    /// One parameter.
    pub fn get(&self, id: ParameterId) -> &Parameter {
        &self.parameters[id.0]
    }

    /// A hash of every name, shape and value: two models with the same hash give the same text.
    pub fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut bytes = Vec::new();
        for parameter in &self.parameters {
            hasher.update(parameter.name.as_bytes());
            hasher.update(format!("{:?}", parameter.shape).as_bytes());
            bytes.clear();
            bytes.extend(parameter.data.iter().flat_map(|x| x.to_le_bytes()));
            hasher.update(&bytes);
        }
        hasher.finalize().to_hex().to_string()
    }

    pub(crate) fn values(&self, id: ParameterId) -> &[f32] {
        &self.parameters[id.0].data
    }

    pub(crate) fn is_trainable(&self, id: ParameterId) -> bool {
        self.parameters[id.0].trainable
    }
}

impl Gradients {
    /// Zeros for every trainable parameter.
    pub fn zeros(weights: &Weights) -> Self {
        let zeros = |p: &Parameter| p.trainable.then(|| Buffer::zeros(p.data.len()));
        Self { buffers: weights.iter().map(zeros).collect() }
    }

    /// Sets every gradient to zero.
    pub fn clear(&mut self) {
        self.buffers.iter_mut().flatten().for_each(|buffer| buffer.fill(0.0));
    }

    /// The gradients in the parameters' order; none for frozen ones.
    pub fn iter(&self) -> impl Iterator<Item = Option<&[f32]>> {
        self.buffers.iter().map(|buffer| buffer.as_deref())
    }

    /// Takes one out to be added to; [`Gradients::put`] brings it back. Several gradients are
    /// written at once by one operation, which a borrow of the whole would not allow.
    pub(crate) fn take(&mut self, id: ParameterId) -> Option<Buffer> {
        self.buffers[id.0].take()
    }

    pub(crate) fn put(&mut self, id: ParameterId, buffer: Option<Buffer>) {
        self.buffers[id.0] = buffer;
    }
}

/// How a parameter begins.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Init {
    Zeros,
    Ones,
    /// Normal with this deviation.
    Normal(f32),
    /// Uniform in ± this bound.
    Uniform(f32),
    /// Zeros but for ones in the second quarter: an LSTM's forget gates.
    ForgetOne,
    /// Evenly from 3 to 6: forget gates that begin open, each head at another timescale.
    Open,
}

/// Collects parameters while layers are laid out.
pub(crate) struct Builder {
    weights: Weights,
    random: ChaCha8Rng,
    fill: bool,
}

impl Builder {
    /// A builder that draws initial values from a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self { weights: Weights::default(), random: ChaCha8Rng::seed_from_u64(seed), fill: true }
    }

    /// A builder that leaves values out, for weights that are read from a file.
    pub(crate) fn empty() -> Self {
        Self { fill: false, ..Self::new(0) }
    }

    pub(crate) fn add(&mut self, name: String, shape: &[usize], init: Init) -> ParameterId {
        let count = if self.fill { shape.iter().product() } else { 0 };
        let mut data = Buffer::zeros(count);
        self.draw(&mut data, init);
        let id = ParameterId(self.weights.parameters.len());
        self.weights.parameters.push(Parameter {
            name,
            shape: shape.to_vec(),
            data,
            trainable: true,
        });
        id
    }

    pub(crate) fn finish(self) -> Weights {
        self.weights
    }

    fn draw(&mut self, data: &mut [f32], init: Init) {
        let count = data.len();
        match init {
            Init::Zeros => {}
            Init::Ones => data.fill(1.0),
            Init::Normal(deviation) => data.fill_with(|| deviation * normal(&mut self.random)),
            Init::Uniform(bound) => {
                data.fill_with(|| bound * (2.0 * self.random.random::<f32>() - 1.0));
            }
            Init::ForgetOne => data[count / 4..count / 2].fill(1.0),
            Init::Open => {
                let last = count.saturating_sub(1).max(1) as f32;
                for (i, value) in data.iter_mut().enumerate() {
                    *value = 3.0 + 3.0 * i as f32 / last;
                }
            }
        }
    }
}

/// A normal variate by the method of Box and Muller, in double precision.
fn normal(random: &mut ChaCha8Rng) -> f32 {
    let (u, v): (f64, f64) = (random.random(), random.random());
    ((-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
}
