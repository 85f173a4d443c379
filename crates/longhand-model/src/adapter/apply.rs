//! Adapters on their base: the change of one beside each matrix, or the sum of several.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use longhand_kernel::singular::reference::scaled;

use super::names::{Form, changed, module};
use super::{
    ADAPTER_CONFIG_FILE, Adapter, AdapterError, Origin, OtherFolder, check_shape, refused,
};
use crate::config::Config;
use crate::file::{self, WeightsError};
use crate::model::Model;
use crate::weights::{Builder, Change, Factor, Parameter};

/// The folder of an adapter that is to be applied.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterChoice {
    /// The name in messages.
    pub name: String,
    /// The folder that holds the adapter's two files.
    pub folder: PathBuf,
    /// Factor of its changes (1).
    pub weight: f32,
}

/// An adapter that is applied, perhaps beside others.
#[derive(Clone, Copy, Debug)]
pub struct Applied<'a> {
    /// The name in messages.
    pub name: &'a str,
    /// The adapter as it was read.
    pub adapter: &'a Adapter,
    /// Factor of its changes (1).
    pub weight: f32,
}

/// Reads a model folder, and applies the adapters that are given. A folder that holds an adapter
/// alone is read with the base model that it names.
///
/// # Errors
/// As [`Model::load`], [`Adapter::load`] and [`apply`]; a base model that is not in the place that the
/// adapter says.
pub fn load(folder: &Path, adapters: &[AdapterChoice]) -> Result<Model, AdapterError> {
    if !adapters.is_empty() {
        let read = adapters.iter().map(|choice| Adapter::load(&choice.folder));
        let read = read.collect::<Result<Vec<_>, _>>()?;
        let applied = adapters.iter().zip(&read).map(|(choice, adapter)| Applied {
            name: &choice.name,
            adapter,
            weight: choice.weight,
        });
        let applied: Vec<Applied<'_>> = applied.collect();
        return apply(&Model::load(folder)?, &applied).map_err(|error| {
            let own = |name: &String| adapters.iter().position(|choice| choice.name == *name);
            let place =
                if let AdapterError::Named { name, .. } = &error { own(name) } else { Some(0) };
            match place {
                Some(place) => in_folders(error, folder, &adapters[place].folder, &read[place]),
                None => error,
            }
        });
    }
    if !is_adapter(folder) {
        return Ok(Model::load(folder)?);
    }
    let adapter = Adapter::load(folder)?;
    let base = adapter.base_name();
    if !Path::new(&base).is_dir() {
        return Err(AdapterError::NoBase { adapter: folder.into(), base });
    }
    let base = Path::new(&base);
    adapter.apply(&Model::load(base)?).map_err(|error| in_folders(error, base, folder, &adapter))
}

/// An error about an adapter and a base that do not belong together, with the folders of both.
fn in_folders(error: AdapterError, base: &Path, folder: &Path, adapter: &Adapter) -> AdapterError {
    let what = match error {
        AdapterError::Named { what, .. } if matches!(*what, AdapterError::OtherBase { .. }) => {
            *what
        }
        error => error,
    };
    let AdapterError::OtherBase { expected, got } = what else { return what };
    let (adapter, base, once) = (folder.into(), base.into(), adapter.base_name());
    AdapterError::OtherFolder(Box::new(OtherFolder { adapter, base, once, expected, got }))
}

/// Whether a folder holds an adapter and no whole model.
pub fn is_adapter(folder: &Path) -> bool {
    folder.join(ADAPTER_CONFIG_FILE).is_file() && !folder.join(file::CONFIG_FILE).is_file()
}

/// The base model with adapters: beside each matrix the sum of their changes, each at its own scale
/// times its weight, and the own parameters of the one that has some. [`Model::merge_low_rank`]
/// makes a plain model of it.
///
/// # Errors
/// [`AdapterError`] for another base than that of an adapter, one that is packed for reading,
/// tensors that do not fit the base, or two adapters with parameters of their own or with one name.
pub fn apply(base: &Model, adapters: &[Applied<'_>]) -> Result<Model, AdapterError> {
    base.check_trainable().map_err(|_| AdapterError::Packed)?;
    if base.weights.has_low_rank() {
        return Err(AdapterError::Unmerged);
    }
    let several = adapters.len() > 1;
    let named = |applied: &Applied<'_>, error: AdapterError| match several {
        true => AdapterError::Named { name: applied.name.into(), what: Box::new(error) },
        false => error,
    };
    for (place, applied) in adapters.iter().enumerate() {
        if adapters[..place].iter().any(|other| other.name == applied.name) {
            return Err(AdapterError::SameName(applied.name.into()));
        }
        if applied.weight != 1.0 && applied.adapter.changes().is_empty() {
            return Err(AdapterError::NothingToWeigh(applied.name.into()));
        }
        applied.adapter.check_base(base).map_err(|error| named(applied, error))?;
    }
    let owner = owner(base, adapters)?;
    let config = owner.and_then(|owner| owner.adapter.model_config().transpose()).transpose()?;
    let mut model =
        Model::lay_out(config.unwrap_or_else(|| base.config().clone()), Builder::empty());
    let own = fill(&mut model, base, owner.map(|owner| owner.adapter))?;
    let mut used: Vec<BTreeSet<String>> = adapters.iter().map(|_| own.clone()).collect();
    let mut builder = Builder::of(std::mem::take(&mut model.weights), 0);
    for id in builder.weights().ids() {
        let parameter = builder.weights().get(id);
        let mut changes = Vec::new();
        for (applied, used) in adapters.iter().zip(&mut used) {
            let form = Form::of(parameter, applied.adapter.config.has_singular_values());
            let names = form.factors(module(&parameter.name));
            let change = applied.adapter.change_of(parameter, &names);
            let Some(change) = change.map_err(|error| named(applied, error))? else { continue };
            used.extend(names);
            if change.rank > 0 {
                changes.push((applied.weight, change));
            }
        }
        if matches!(changes.as_slice(), [(weight, _)] if *weight == 1.0) {
            changes.into_iter().for_each(|(_, change)| builder.change(id, change));
        } else if !changes.is_empty() {
            let sum = Sum::of(&changes, parameter.matrix());
            builder.change(id, sum.change());
        }
    }
    model.weights = builder.finish().0;
    for (applied, used) in adapters.iter().zip(&used) {
        applied.adapter.check_used(used).map_err(|error| named(applied, error))?;
    }
    model.check_trainable()?;
    Ok(model)
}

impl Adapter {
    /// The base model with this adapter, as [`apply`] makes it, with the errors of that function.
    pub fn apply(&self, base: &Model) -> Result<Model, AdapterError> {
        apply(base, &[Applied { name: "", adapter: self, weight: 1.0 }])
    }

    /// The folder or name of the base model, as of the adapter's training.
    fn base_name(&self) -> String {
        self.config.base_model_name_or_path.clone().unwrap_or_default()
    }

    /// Refuses another base than the adapter's own.
    fn check_base(&self, base: &Model) -> Result<(), AdapterError> {
        let Some(Origin { base: expected, .. }) = &self.config.longhand else { return Ok(()) };
        let (expected, got) = (expected.clone(), base.hash());
        if expected == got { Ok(()) } else { Err(AdapterError::OtherBase { expected, got }) }
    }

    /// The first parameter that is the adapter's own; an empty name where only the configuration is.
    fn owns(&self, base: &Config) -> Result<Option<&str>, AdapterError> {
        let own = self.tensors.keys().find(|name| changed(name).is_none());
        let other = self.model_config()?.is_some_and(|config| config != *base);
        Ok(own.map(String::as_str).or(other.then_some("")))
    }

    /// The change of low rank of one matrix, if there is one. Its rank can be 0 where the singular
    /// values that are left belong to other matrices.
    fn change_of(
        &self,
        parameter: &Parameter,
        names: &[String],
    ) -> Result<Option<Change<'_>>, AdapterError> {
        let module = module(&parameter.name);
        let initial = self.config.init_r.filter(|_| names.len() > 2);
        if names.iter().all(|name| !self.tensors.contains_key(name)) {
            return Ok(None);
        }
        let find = |name: &String| {
            let missing = || refused(WeightsError::Missing(name.clone()));
            self.tensors.get(name).ok_or_else(missing)
        };
        let factors = names.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        if parameter.is_tied() {
            return Err(AdapterError::Tied(module.into()));
        }
        if !parameter.can_be_changed() {
            return Err(AdapterError::NoMatrix(module.into()));
        }
        let (rank, [rows, columns]) = (factors[0].rows(), parameter.matrix());
        if rank > 0 || initial.is_none() {
            parameter.check_rank(rank)?;
        }
        let shapes = [[rank, columns], [rows, rank], [rank, 1]];
        for ((factor, name), shape) in factors.iter().zip(names).zip(shapes) {
            factor.check(name, &shape)?;
        }
        let given = |place: usize| Factor::Given(&factors[place].data);
        Ok(Some(Change {
            rank,
            scale: self.config.scale(module, rank),
            dropout: self.config.lora_dropout,
            factors: [given(0), given(1)],
            singular: initial.map(|initial| (given(2), initial)),
        }))
    }
}

/// The adapter with parameters of its own, if there is one.
fn owner<'a>(
    base: &Model,
    adapters: &'a [Applied<'a>],
) -> Result<Option<&'a Applied<'a>>, AdapterError> {
    let mut found: Option<&Applied<'_>> = None;
    for applied in adapters {
        let Some(parameter) = applied.adapter.owns(base.config())? else { continue };
        if let Some(other) = found.replace(applied) {
            let (one, other) = (other.name.into(), applied.name.into());
            return Err(AdapterError::TwoOwners { one, other, parameter: parameter.into() });
        }
    }
    Ok(found)
}

/// Fills the parameters of a model that is laid out: the adapter's own, whose names it returns, then
/// the base's.
fn fill(
    model: &mut Model,
    base: &Model,
    owner: Option<&Adapter>,
) -> Result<BTreeSet<String>, AdapterError> {
    let mut own = BTreeSet::new();
    for parameter in model.weights.iter_mut() {
        let name = &parameter.name;
        if let Some(tensor) = owner.and_then(|owner| owner.tensors.get(name)) {
            tensor.check(name, &parameter.shape)?;
            parameter.data = tensor.data.as_slice().into();
            own.insert(name.clone());
            continue;
        }
        let source = base.weights.iter().find(|source| source.name == *name);
        let source = source.ok_or_else(|| refused(WeightsError::Missing(name.clone())))?;
        check_shape(name, &parameter.shape, &source.shape)?;
        parameter.data = source.data.clone();
    }
    Ok(own)
}

/// A sum of changes, which is a change of the sum of their ranks: their A one above the other, and
/// their B side by side.
struct Sum {
    rank: usize,
    a: Vec<f32>,
    b: Vec<f32>,
}

impl Sum {
    fn of(changes: &[(f32, Change<'_>)], [rows, columns]: [usize; 2]) -> Self {
        let rank: usize = changes.iter().map(|(_, change)| change.rank).sum();
        let mut a = Vec::with_capacity(rank * columns);
        let mut b = vec![0.0; rows * rank];
        let mut first = 0;
        for (weight, Change { rank: own, scale, factors, singular, .. }) in changes {
            let [own_a, own_b] = factors.map(Factor::values);
            match singular {
                Some((e, _)) => a.extend(scaled(e.values(), own_a)),
                None => a.extend(own_a),
            }
            for (row, from) in own_b.chunks_exact(*own).enumerate() {
                let into = &mut b[row * rank + first..][..*own];
                into.iter_mut().zip(from).for_each(|(to, from)| *to = weight * scale * from);
            }
            first += own;
        }
        Self { rank, a, b }
    }

    fn change(&self) -> Change<'_> {
        let factors = [Factor::Given(&self.a), Factor::Given(&self.b)];
        Change { rank: self.rank, scale: 1.0, dropout: 0.0, factors, singular: None }
    }
}
