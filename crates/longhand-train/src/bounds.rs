//! Bounds of settings, and the error that names the one that is broken.

/// A setting out of its bounds.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("`{name}` is {value}; it must be {allowed}")]
pub struct SettingsError {
    /// Name of the refused setting.
    pub name: &'static str,
    /// The value that was given.
    pub value: String,
    /// The allowed values, in words.
    pub allowed: &'static str,
}

pub(crate) fn positive(name: &'static str, value: f64) -> Result<(), SettingsError> {
    bound(name, value, value > 0.0, "above 0")
}

pub(crate) fn not_negative(name: &'static str, value: f64) -> Result<(), SettingsError> {
    bound(name, value, value >= 0.0, "at least 0")
}

pub(crate) fn share(name: &'static str, value: f64) -> Result<(), SettingsError> {
    bound(name, value, (0.0..1.0).contains(&value), "at least 0 and less than 1")
}

pub(crate) fn bound(
    name: &'static str,
    value: f64,
    holds: bool,
    allowed: &'static str,
) -> Result<(), SettingsError> {
    if holds && value.is_finite() {
        Ok(())
    } else {
        Err(SettingsError { name, value: value.to_string(), allowed })
    }
}
