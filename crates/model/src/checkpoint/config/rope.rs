//! The rotation of LLaMA: its base, and what would change it.

use serde_json::Value;

use super::fields::Fields;
use crate::error::LoadError;

/// transformers' own default.
const DEFAULT_THETA: f64 = 10_000.0;

/// The base of the rotation frequencies. Up to its version 4, transformers writes it as `rope_theta`; from version 5
/// on it stands in `rope_parameters`, with what older versions call `rope_scaling`.
///
/// # Errors
/// Two places contradict each other, or the rotation is scaled: that is not computed.
pub(super) fn theta(fields: &Fields<'_>) -> Result<f64, LoadError> {
    let mut found: Option<(&str, f64)> =
        fields.optional_number("rope_theta")?.map(|theta| ("rope_theta", theta));
    fields.expect_number("partial_rotary_factor", &[1.0])?;
    for name in ["rope_parameters", "rope_scaling"] {
        let Some(inner) = fields.object(name)? else { continue };
        expect_unscaled(&inner)?;
        let Some(theta) = inner.optional_number("rope_theta")? else { continue };
        match found {
            Some((other, value)) if value != theta => {
                let reason = format!("is {theta}, but `{other}` is {value}; remove the one that is wrong");
                return Err(inner.error("rope_theta", &reason));
            }
            _ => found = Some((name, theta)),
        }
    }
    Ok(found.map_or(DEFAULT_THETA, |(_, theta)| theta))
}

/// Refuses a rotation that is not computed. The type `default` and a factor of 1 ask for nothing.
fn expect_unscaled(fields: &Fields<'_>) -> Result<(), LoadError> {
    let kind = match fields.text("rope_type")? {
        Some(kind) => ("rope_type", kind),
        None => ("type", fields.text("type")?.unwrap_or("default")),
    };
    if !matches!(kind.1, "default" | "linear") {
        let reason = format!("is `{}`; supported are `default`, and `linear` with a factor of 1", kind.1);
        return Err(fields.error(kind.0, &reason));
    }
    fields.expect_number("factor", &[1.0])?;
    fields.expect_number("partial_rotary_factor", &[1.0])?;
    match fields.all().find(|(_, value)| matches!(value, Value::Object(_))) {
        Some((name, _)) => Err(fields.error(name, "is an object; one rotation for all layers is supported")),
        None => Ok(()),
    }
}
