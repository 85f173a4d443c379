//! Groups of parameters: which are trained, from when on, and how fast.

use longhand_model::{Group, Parameter, Weights};
use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::bounds::{SettingsError, bound};

/// How some parameters are trained: `[[training.groups]]` in a recipe. Of two groups that name the
/// same parameter, the later one holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GroupSettings {
    /// Names of parameters as in `model.safetensors`; `*` matches any characters, as in
    /// `blocks.0.*`. At least one.
    pub parameters: Vec<String>,
    /// Factor of the learning rate (1).
    pub rate: f32,
    /// Factor of the weight decay (1).
    pub decay: f32,
    /// Whether training changes them (true). Frozen parameters cost no gradient memory or time.
    pub trainable: bool,
    /// Share of the budget during which they stay frozen (0): a later group for each lower block
    /// unfreezes a model step by step.
    pub from: f64,
}

impl Default for GroupSettings {
    fn default() -> Self {
        let Group { rate, decay, trainable } = Group::default();
        Self { parameters: Vec::new(), rate, decay, trainable, from: 0.0 }
    }
}

impl GroupSettings {
    /// Parameters that are never trained.
    pub fn frozen(pattern: &str) -> Self {
        Self { parameters: vec![pattern.into()], trainable: false, ..Self::default() }
    }

    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        if self.parameters.is_empty() {
            let (name, allowed) = ("groups.parameters", "a list of at least one name");
            return Err(SettingsError { name, value: "[]".into(), allowed });
        }
        for (name, factor) in [("groups.rate", self.rate), ("groups.decay", self.decay)] {
            bound(name, f64::from(factor), factor >= 0.0, "at least 0")?;
        }
        let within = (0.0..1.0).contains(&self.from);
        bound("groups.from", self.from, within, "at least 0 and less than 1")
    }

    /// Checks that every pattern names a parameter of the model.
    pub(crate) fn check_names(&self, weights: &Weights) -> Result<(), TrainError> {
        let unmatched =
            |pattern: &&String| !weights.iter().any(|parameter| matches(pattern, &parameter.name));
        let Some(pattern) = self.parameters.iter().find(unmatched) else { return Ok(()) };
        let example = weights.iter().last().map_or_else(String::new, |last| last.name.clone());
        Err(TrainError::NoParameter { pattern: pattern.clone(), example })
    }
}

/// The group of a parameter when this share of the budget is spent.
pub(crate) fn group_of(groups: &[GroupSettings], parameter: &Parameter, spent: f64) -> Group {
    let names = |group: &&GroupSettings| {
        group.parameters.iter().any(|pattern| matches(pattern, &parameter.name))
    };
    groups.iter().rev().find(names).map_or_else(Group::default, |group| Group {
        rate: group.rate,
        decay: group.decay,
        trainable: group.trainable && spent >= group.from,
    })
}

/// The next share of the budget at which a group begins to be trained.
pub(crate) fn next_change(groups: &[GroupSettings], spent: f64) -> f64 {
    let later = groups.iter().map(|group| group.from).filter(|&from| from > spent);
    later.fold(f64::INFINITY, f64::min)
}

/// Whether a pattern names a parameter; `*` matches any characters.
pub fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    let Some(mut middle) = rest.strip_suffix(last) else { return false };
    parts.all(|part| match middle.find(part) {
        Some(at) => {
            middle = &middle[at + part.len()..];
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_matches_any_characters() {
        for (pattern, name, expected) in [
            ("head.weight", "head.weight", true),
            ("head.weight", "head.bias", false),
            ("*", "", true),
            ("blocks.1.*", "blocks.1.lstm.bias_ih_l0", true),
            ("blocks.1.*", "blocks.10.lstm.bias_ih_l0", false),
            ("*.bias*", "blocks.1.lstm.bias_ih_l0", true),
            ("*.bias", "blocks.1.lstm.bias_ih_l0", false),
            ("blocks.*.norm.*ight", "blocks.3.norm.weight", true),
            ("é*", "éa", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn values_out_of_bounds_are_named() {
        let check = |change: fn(&mut GroupSettings), name| {
            let mut group = GroupSettings::frozen("head.*");
            group.check().unwrap();
            change(&mut group);
            assert_eq!(group.check().unwrap_err().name, name);
        };
        check(|group| group.parameters.clear(), "groups.parameters");
        check(|group| group.rate = -0.1, "groups.rate");
        check(|group| group.decay = f32::INFINITY, "groups.decay");
        check(|group| group.from = 1.0, "groups.from");
    }

    #[test]
    fn a_group_has_its_next_change_when_it_begins() {
        let from = |from| GroupSettings { from, ..GroupSettings::default() };
        let groups = [from(0.5), from(0.0), from(0.25)];
        assert_eq!(next_change(&groups, 0.0), 0.25);
        assert_eq!(next_change(&groups, 0.25), 0.5);
        assert_eq!(next_change(&groups, 0.5), f64::INFINITY);
    }
}
