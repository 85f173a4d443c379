//! Named parameters, their gradients, and how they begin.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use longhand_kernel::Precision;
use longhand_kernel::recurrence::{input_order, recurrent_order};
use longhand_kernel::weights::{Format, Panels, Rows};
use longhand_kernel::{Buffer, Cpu, low_rank};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::ModelError;
use crate::state::{StateId, StateLayout};

/// A parameter's place in [`Weights`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ParameterId(pub(crate) usize);

impl ParameterId {
    /// The place among the parameters in order.
    pub fn place(self) -> usize {
        self.0
    }
}

/// One tensor of the model, row-major, with PyTorch's name and layout.
#[derive(Clone)]
pub struct Parameter {
    /// Its name in `model.safetensors`.
    pub name: String,
    /// Sizes of the parameter's axes.
    pub shape: Vec<usize>,
    /// Its values; empty where they are held for reading alone, in `packed`.
    pub data: Buffer,
    /// How it is trained.
    pub group: Group,
    /// Its values as [`Model::pack`](crate::Model::pack) or a compressed file left them.
    /// Models that differ in other matrices share it.
    pub packed: Option<Arc<Packed>>,
    /// The change of low rank that the matrix is used with (none).
    pub(crate) low_rank: Option<LowRank>,
    pub(crate) role: Role,
}

/// How a parameter is trained, as the other ones of its group are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Group {
    /// Factor of the learning rate (1).
    pub rate: f32,
    /// Factor of the weight decay (1).
    pub decay: f32,
    /// Whether training changes it (true). A frozen parameter costs no gradient work.
    pub trainable: bool,
}

impl Default for Group {
    fn default() -> Self {
        Self { rate: 1.0, decay: 1.0, trainable: true }
    }
}

/// A change of low rank, scale · B·A or scale · B·diag(e)·A, whose factors are parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LowRank {
    /// r: rows of A, columns of B.
    pub(crate) rank: usize,
    /// A, the inner factor: `[r, columns]`.
    pub(crate) a: ParameterId,
    /// B, the outer factor: `[rows, r]`.
    pub(crate) b: ParameterId,
    /// The singular values between the two (none).
    pub(crate) singular: Option<Singular>,
    /// Factor of the product.
    pub(crate) scale: f32,
    /// Share of the change's input that is dropped in training (0).
    pub(crate) dropout: f32,
}

/// The singular values of a change of low rank.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Singular {
    /// e, a factor for each row of A: `[r, 1]`.
    pub(crate) e: ParameterId,
    /// The rank that training began with, which the scale stays that of.
    pub(crate) initial: usize,
}

/// A matrix that is only read: compressed or not, and laid out for what the model does with it.
#[derive(Clone)]
pub struct Packed {
    /// Rows of a table, which are looked up.
    pub(crate) rows: Option<Rows<'static>>,
    /// Panels of a matrix, for products.
    pub(crate) panels: Option<Panels>,
}

/// The use of a parameter in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Biases and scales of norms: too small to be worth compressing.
    Vector,
    /// Rows are looked up.
    Table,
    /// Rows are looked up, and it is multiplied with.
    TiedTable,
    /// It is multiplied with, for the answer.
    Head,
    /// It is multiplied with.
    Matrix,
    /// A factor of another parameter's change of low rank.
    Factor,
    /// It is multiplied with, and its rows are the gates of a recurrence's units.
    Gates { gates: usize, heads: usize, units: usize, recurrent: bool },
}

/// A matrix with fewer rows stays in `f32`: it takes no room, and what it steers (a classifier, the
/// gates of a matrix memory's heads) is worth its digits.
const FEWEST_COMPRESSED_ROWS: usize = 16;

/// Every parameter of a model, in the order of its layers.
#[derive(Default)]
pub struct Weights {
    parameters: Vec<Parameter>,
    /// Another one after every change: what is kept of the values belongs to one version.
    version: u64,
}

/// A copy changes apart from the original, and has a version of its own.
impl Clone for Weights {
    fn clone(&self) -> Self {
        Self { parameters: self.parameters.clone(), version: next_version() }
    }
}

/// A gradient for every trainable parameter. Each takes memory from when something first flows into
/// it until it is cleared, so that a pass can use the same memory for other things before that.
pub struct Gradients {
    cpu: Arc<Cpu>,
    slots: Vec<Slot>,
}

/// The place of one parameter's gradient.
struct Slot {
    len: usize,
    trainable: bool,
    /// Empty until something flows into it.
    buffer: Option<Buffer>,
}

impl Weights {
    /// The parameters in order.
    pub fn iter(&self) -> impl Iterator<Item = &Parameter> {
        self.parameters.iter()
    }

    /// The parameters in order, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        self.version = next_version();
        self.parameters.iter_mut()
    }

    /// Puts every parameter into the group that is given for it. Gradients, optimisers and
    /// averages of the weights are then refitted.
    pub fn regroup(&mut self, mut group: impl FnMut(&Parameter) -> Group) {
        for parameter in &mut self.parameters {
            parameter.group = group(parameter);
        }
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
        self.parameters.iter().map(|p| p.shape.iter().product::<usize>()).sum()
    }

    /// Bytes that the values take in memory.
    pub fn bytes(&self) -> usize {
        let of = |p: &Parameter| 4 * p.data.len() + p.packed.as_deref().map_or(0, Packed::bytes);
        self.parameters.iter().map(of).sum()
    }

    /// The parameter at an id's place.
    pub fn get(&self, id: ParameterId) -> &Parameter {
        &self.parameters[id.0]
    }

    /// The parameter at an id's place, to be changed.
    pub fn get_mut(&mut self, id: ParameterId) -> &mut Parameter {
        self.version = next_version();
        &mut self.parameters[id.0]
    }

    /// A hash of every name, shape and value, and of how much of a change of low rank is added: two
    /// models with the same hash give the same text.
    pub fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut bytes = Vec::new();
        for parameter in &self.parameters {
            hasher.update(parameter.name.as_bytes());
            hasher.update(format!("{:?}", parameter.shape).as_bytes());
            // The factors are parameters of their own. A model without changes has the hash it had.
            if let Some(LowRank { scale, .. }) = &parameter.low_rank {
                hasher.update(b"changed").update(&scale.to_le_bytes());
            }
            match &parameter.packed {
                None => {
                    for part in parameter.data.chunks(1 << 14) {
                        bytes.clear();
                        bytes.extend(part.iter().flat_map(|x| x.to_le_bytes()));
                        hasher.update(&bytes);
                    }
                }
                Some(packed) => {
                    let rows = packed.to_rows();
                    hasher.update(rows.codes()).update(rows.scales());
                }
            }
        }
        hasher.finalize().to_hex().to_string()
    }

    pub(crate) fn values(&self, id: ParameterId) -> &[f32] {
        &self.parameters[id.0].data
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn packed(&self, id: ParameterId) -> Option<&Packed> {
        self.parameters[id.0].packed.as_deref()
    }

    /// The panels of a packed matrix.
    pub(crate) fn panels(&self, id: ParameterId) -> Option<&Panels> {
        self.packed(id)?.panels.as_ref()
    }

    pub(crate) fn is_trainable(&self, id: ParameterId) -> bool {
        self.parameters[id.0].group.trainable
    }

    /// The change of low rank of a matrix.
    pub(crate) fn low_rank(&self, id: ParameterId) -> Option<LowRank> {
        self.parameters[id.0].low_rank
    }

    /// The singular values of a matrix's change of low rank.
    pub(crate) fn singular_values(&self, id: ParameterId) -> Option<&[f32]> {
        Some(self.values(self.low_rank(id)?.singular?.e))
    }

    /// The change of low rank of a matrix with the values of A and B.
    pub(crate) fn change(&self, id: ParameterId) -> Option<low_rank::LowRank<'_>> {
        let LowRank { rank, a, b, scale, .. } = self.low_rank(id)?;
        let [output, input] = self.get(id).matrix();
        let (a, b) = (self.values(a), self.values(b));
        Some(low_rank::LowRank { output, input, rank, scale, a, b })
    }

    /// Whether training changes a matrix, or its change of low rank.
    pub(crate) fn is_weight_trainable(&self, id: ParameterId) -> bool {
        let factors = self.low_rank(id).into_iter().flat_map(|change| {
            let e = change.singular.map(|singular| singular.e);
            [change.a, change.b].into_iter().chain(e)
        });
        [id].into_iter().chain(factors).any(|id| self.is_trainable(id))
    }

    /// Whether any matrix has a change of low rank.
    pub fn has_low_rank(&self) -> bool {
        self.parameters.iter().any(|parameter| parameter.low_rank.is_some())
    }

    /// The id of every parameter, in order.
    pub(crate) fn ids(&self) -> impl Iterator<Item = ParameterId> + use<> {
        (0..self.parameters.len()).map(ParameterId)
    }

    /// Replaces the values of matrices that have a change of low rank, and removes all changes.
    pub(crate) fn replace_changed(&mut self, values: Vec<Option<Vec<f32>>>) {
        for (parameter, values) in self.iter_mut().zip(values) {
            if let Some(values) = values {
                parameter.data.copy_from_slice(&values);
            }
        }
        self.remove_changes();
    }

    /// Takes each matrix that is not packed yet, and equals the packed one of `other` with
    /// its name, from there.
    pub(crate) fn share(&mut self, other: &Weights) {
        let there: HashMap<&str, &Parameter> =
            other.iter().map(|parameter| (parameter.name.as_str(), parameter)).collect();
        for parameter in self.iter_mut().filter(|parameter| parameter.packed.is_none()) {
            let Some(other) = there.get(parameter.name.as_str()) else { continue };
            if let Some(packed) = &other.packed
                && other.role == parameter.role
                && *packed.to_rows() == parameter.to_rows()
            {
                parameter.hold(packed.clone());
            }
        }
    }

    /// Removes all changes of low rank.
    pub(crate) fn remove_changes(&mut self) {
        self.iter_mut().for_each(|parameter| parameter.low_rank = None);
        // They come after every other parameter: no other place changes.
        self.parameters.retain(|parameter| parameter.role != Role::Factor);
    }
}

impl Parameter {
    /// How a model with weights of `format` holds this parameter.
    pub(crate) fn format(&self, format: Format) -> Format {
        let large = self.rows() >= FEWEST_COMPRESSED_ROWS;
        if self.role == Role::Vector || !large { Format::F32 } else { format }
    }

    /// Rows and columns: a shape of more than two sizes is one matrix after another.
    pub fn matrix(&self) -> [usize; 2] {
        [self.rows(), self.shape.last().copied().unwrap_or(1)]
    }

    /// The number of matrices between hidden layers in it, one after another: each gate of a
    /// recurrence is one. None in what touches tokens or the answer, and in vectors.
    pub fn hidden_matrices(&self) -> usize {
        match self.role {
            Role::Vector | Role::Table | Role::TiedTable | Role::Head | Role::Factor => 0,
            Role::Matrix => 1,
            Role::Gates { gates, recurrent: false, .. } => gates,
            Role::Gates { gates, heads, recurrent: true, .. } => heads * gates,
        }
    }

    /// Whether it can have a change of low rank: a matrix between layers, or a table of which
    /// nothing but rows is used.
    pub fn can_be_changed(&self) -> bool {
        matches!(self.role, Role::Matrix | Role::Gates { .. } | Role::Table)
    }

    /// Whether it is a table whose rows are looked up, and nothing else.
    pub fn is_table(&self) -> bool {
        self.role == Role::Table
    }

    /// Whether it is an embedding that is a head too.
    pub fn is_tied(&self) -> bool {
        self.role == Role::TiedTable
    }

    /// Checks that a change of low rank fits the matrix.
    pub(crate) fn check_rank(&self, rank: usize) -> Result<(), ModelError> {
        let [rows, columns] = self.matrix();
        if (1..=rows.min(columns)).contains(&rank) {
            return Ok(());
        }
        Err(ModelError::Rank { name: self.name.clone(), rank, rows, columns })
    }

    fn rows(&self) -> usize {
        self.shape.split_last().map_or(1, |(_, rows)| rows.iter().product())
    }

    /// The values row after row, where it is a matrix.
    pub(crate) fn to_rows(&self) -> Rows<'static> {
        match &self.packed {
            Some(packed) => packed.to_rows().into_owned(),
            None => Rows::encode(Format::F32, self.matrix(), &self.data),
        }
    }

    /// Holds a matrix for reading alone.
    pub(crate) fn pack(&mut self, rows: Rows) {
        let panels = match self.role {
            Role::Vector | Role::Table | Role::Factor => None,
            Role::TiedTable | Role::Head | Role::Matrix => Some(Panels::new(&rows)),
            Role::Gates { gates, heads, units, recurrent } => {
                let order = if recurrent { recurrent_order } else { input_order };
                Some(Panels::in_order(&rows, order(gates, heads, units)))
            }
        };
        let table = matches!(self.role, Role::Table | Role::TiedTable);
        let rows = table.then(|| rows.into_owned());
        self.hold(Arc::new(Packed { rows, panels }));
    }

    fn hold(&mut self, packed: Arc<Packed>) {
        self.packed = Some(packed);
        self.data = Buffer::default();
        self.group.trainable = false;
    }
}

impl Packed {
    /// How the values are held.
    pub fn format(&self) -> Format {
        let of_rows = self.rows.as_ref().map(Rows::format);
        of_rows.or(self.panels.as_ref().map(Panels::format)).unwrap_or_default()
    }

    /// The values row after row.
    pub(crate) fn to_rows(&self) -> std::borrow::Cow<'_, Rows<'static>> {
        use std::borrow::Cow;
        match (&self.rows, &self.panels) {
            (Some(rows), _) => Cow::Borrowed(rows),
            (None, Some(panels)) => Cow::Owned(panels.to_rows()),
            (None, None) => Cow::Owned(Rows::encode(Format::F32, [0, 0], &[])),
        }
    }

    fn bytes(&self) -> usize {
        let rows = self.rows.as_ref().map_or(0, |rows| rows.codes().len() + rows.scales().len());
        rows + self.panels.as_ref().map_or(0, Panels::bytes)
    }
}

impl Gradients {
    /// Room for a gradient of every trainable parameter, for passes on `cpu`.
    pub fn new(cpu: Arc<Cpu>, weights: &Weights) -> Self {
        let mut gradients = Self { cpu, slots: Vec::new() };
        gradients.refit(weights);
        gradients
    }

    /// Follows a change of the parameters' groups: every gradient is cleared, and frozen parameters
    /// have none from now on.
    pub fn refit(&mut self, weights: &Weights) {
        self.clear();
        let slot = |p: &Parameter| {
            let trainable = p.group.trainable;
            Slot { len: p.data.len(), trainable, buffer: None }
        };
        self.slots = weights.iter().map(slot).collect();
    }

    /// Sets every gradient to zero.
    pub fn clear(&mut self) {
        for buffer in self.slots.iter_mut().filter_map(|slot| slot.buffer.take()) {
            self.cpu.buffers().give(buffer);
        }
    }

    /// The gradients in the parameters' order; none for frozen ones, and none at all before the
    /// first backward pass since they were cleared.
    pub fn iter(&self) -> impl Iterator<Item = Option<&[f32]>> {
        self.slots.iter().map(|slot| slot.buffer.as_deref())
    }

    /// The gradient of a parameter, where something has flowed into it.
    pub fn get(&self, id: ParameterId) -> Option<&[f32]> {
        self.slots[id.0].buffer.as_deref()
    }

    /// Lets `flow` add to the gradient of a parameter, if it is trained.
    pub fn add(&mut self, id: ParameterId, flow: impl FnOnce(&mut [f32])) {
        let mut gradient = self.take(id);
        if let Some(gradient) = &mut gradient {
            flow(gradient);
        }
        self.put(id, gradient);
    }

    /// Takes one out to be added to; [`Gradients::put`] brings it back. Several gradients are
    /// written at once by one operation, which a borrow of the whole would not allow.
    pub(crate) fn take(&mut self, id: ParameterId) -> Option<Buffer> {
        let Self { cpu, slots } = self;
        let slot = &mut slots[id.0];
        slot.trainable.then(|| slot.buffer.take().unwrap_or_else(|| cpu.zeros(slot.len)))
    }

    pub(crate) fn put(&mut self, id: ParameterId, buffer: Option<Buffer>) {
        self.slots[id.0].buffer = buffer;
    }

    /// Zeros for every trainable parameter that nothing has flowed into.
    pub(crate) fn complete(&mut self) {
        for id in (0..self.slots.len()).map(ParameterId) {
            let gradient = self.take(id);
            self.put(id, gradient);
        }
    }
}

impl Drop for Gradients {
    fn drop(&mut self) {
        self.clear();
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
    /// Zeros but for an LSTM's input and forget gates: units remember for at most this many tokens.
    Timescales(u32),
    /// Evenly from 3 to 6: forget gates that begin open, each head at another timescale.
    Open,
}

/// The first values of one factor of a change of low rank.
#[derive(Clone, Copy)]
pub(crate) enum Factor<'a> {
    Drawn(Init),
    Given(&'a [f32]),
}

impl<'a> Factor<'a> {
    /// The values that are given.
    pub(crate) fn values(self) -> &'a [f32] {
        match self {
            Factor::Drawn(_) => &[],
            Factor::Given(values) => values,
        }
    }
}

/// A change of low rank that a matrix is given.
pub(crate) struct Change<'a> {
    pub(crate) rank: usize,
    pub(crate) scale: f32,
    pub(crate) dropout: f32,
    /// A and B.
    pub(crate) factors: [Factor<'a>; 2],
    /// The singular values, and the rank that training began with (none).
    pub(crate) singular: Option<(Factor<'a>, usize)>,
}

/// Collects parameters and state tensors while layers are laid out.
pub(crate) struct Builder {
    weights: Weights,
    state: StateLayout,
    random: ChaCha8Rng,
    fill: bool,
}

impl Builder {
    /// A builder that draws initial values from a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            weights: Weights::default(),
            state: StateLayout::default(),
            random: ChaCha8Rng::seed_from_u64(seed),
            fill: true,
        }
    }

    /// A builder that leaves values out, for weights that are read from a file.
    pub(crate) fn empty() -> Self {
        Self { fill: false, ..Self::new(0) }
    }

    /// A builder that goes on with weights.
    pub(crate) fn of(weights: Weights, seed: u64) -> Self {
        Self { weights, ..Self::new(seed) }
    }

    /// The weights so far.
    pub(crate) fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Gives a matrix a change of low rank.
    pub(crate) fn change(&mut self, id: ParameterId, change: Change<'_>) {
        let Change { rank, scale, dropout, factors: [a, b], singular } = change;
        let parameter = self.weights.get(id);
        let (name, [rows, columns]) = (parameter.name.clone(), parameter.matrix());
        let mut add =
            |end: &str, shape, factor| self.factor(format!("{name}.{end}"), shape, factor);
        let a = add("lora_a", [rank, columns], a);
        let b = add("lora_b", [rows, rank], b);
        let singular =
            singular.map(|(e, initial)| Singular { e: add("lora_e", [rank, 1], e), initial });
        let change = LowRank { rank, a, b, singular, scale, dropout };
        self.weights.parameters[id.0].low_rank = Some(change);
    }

    fn factor(&mut self, name: String, shape: [usize; 2], factor: Factor<'_>) -> ParameterId {
        let init = match factor {
            Factor::Drawn(init) => init,
            Factor::Given(_) => Init::Zeros,
        };
        let id = self.add(name, &shape, init);
        if let Factor::Given(data) = factor {
            self.weights.parameters[id.0].data.copy_from_slice(data);
        }
        // It is no matrix between layers: an optimiser takes it as it is.
        self.role(id, Role::Factor);
        id
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
            group: Group::default(),
            packed: None,
            low_rank: None,
            role: if shape.len() < 2 { Role::Vector } else { Role::Matrix },
        });
        id
    }

    /// Declares a tensor that a layer carries from pass to pass, of `shape` for each stream.
    pub(crate) fn carry(&mut self, name: String, shape: &[usize], precision: Precision) -> StateId {
        self.state.carry(name, shape, precision)
    }

    /// As [`Builder::carry`], for a KV cache.
    pub(crate) fn cache(&mut self, name: String, shape: &[usize], precision: Precision) -> StateId {
        self.state.cache(name, shape, precision)
    }

    /// Says what the model does with a parameter, where it is no plain matrix or vector.
    pub(crate) fn role(&mut self, id: ParameterId, role: Role) {
        self.weights.parameters[id.0].role = role;
    }

    pub(crate) fn finish(self) -> (Weights, Arc<StateLayout>) {
        let weights = Weights { version: next_version(), ..self.weights };
        (weights, Arc::new(self.state))
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
            Init::Timescales(longest) => {
                let units = count / 4;
                for unit in 0..units {
                    let time = 1.0 + (longest.max(2) - 2) as f32 * self.random.random::<f32>();
                    data[units + unit] = time.ln();
                    data[unit] = -time.ln();
                }
            }
            Init::Open => {
                let last = count.saturating_sub(1).max(1) as f32;
                for (i, value) in data.iter_mut().enumerate() {
                    *value = 3.0 + 3.0 * i as f32 / last;
                }
            }
        }
    }
}

/// A number that no weights of this process have had.
fn next_version() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// A normal variate by the method of Box and Muller, in double precision.
fn normal(random: &mut ChaCha8Rng) -> f32 {
    let (u, v): (f64, f64) = (random.random(), random.random());
    ((-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
}
