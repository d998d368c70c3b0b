//! The rotation's settings, wherever they stand.

use serde_json::Value;

use super::fields::Fields;
use crate::checkpoint::spec::{Rotation, Scaling};
use crate::error::LoadError;

/// transformers' own default.
const DEFAULT_THETA: f64 = 10_000.0;

/// Up to its version 4, transformers writes `rope_theta` and `rope_scaling`; from version 5 on both stand in
/// `rope_parameters`. `context` is the number of positions, `head_width` the number of elements of a head, of which
/// `partial_rotary_factor` rotates the first ones.
///
/// # Errors
/// Two places contradict each other, or the rotation is one that is not computed.
pub(crate) fn read(fields: &Fields<'_>, context: usize, head_width: usize) -> Result<Rotation, LoadError> {
    let mut theta: Option<(&str, f64)> =
        fields.optional_number("rope_theta")?.map(|theta| ("rope_theta", theta));
    let mut scaling: Option<(&str, Scaling)> = None;
    for name in ["rope_parameters", "rope_scaling"] {
        let Some(inner) = fields.object(name)? else { continue };
        let found = scaling_of(&inner, context)?;
        match scaling {
            Some((other, value)) if value != found && found != Scaling::None => {
                let reason = format!("contradicts `{other}`; remove the one that is wrong");
                return Err(fields.error(name, &reason));
            }
            Some((_, value)) if value != Scaling::None => {}
            _ => scaling = Some((name, found)),
        }
        let Some(found) = inner.optional_number("rope_theta")? else { continue };
        match theta {
            Some((other, value)) if value != found => {
                let reason = format!("is {found}, but `{other}` is {value}; remove the one that is wrong");
                return Err(inner.error("rope_theta", &reason));
            }
            _ => theta = Some((name, found)),
        }
    }
    Ok(Rotation {
        theta: theta.map_or(DEFAULT_THETA, |(_, theta)| theta),
        scaling: scaling.map_or(Scaling::None, |(_, scaling)| scaling),
        part: part(fields, head_width)?,
    })
}

const FACTOR: &str = "partial_rotary_factor";

/// Refuses a rotation of a part of each head.
///
/// # Errors
/// A factor other than 1, or two that contradict each other.
pub(crate) fn expect_whole(fields: &Fields<'_>) -> Result<(), LoadError> {
    let (name, factor) = factor(fields)?;
    if factor == 1.0 {
        return Ok(());
    }
    Err(fields.error(&name, &format!("is {factor}; supported: 1")))
}

/// The share of each head that is rotated, which stands beside the other keys or among those of the rotation, and the name
/// of its key.
fn factor(fields: &Fields<'_>) -> Result<(String, f64), LoadError> {
    let mut found = fields.optional_number(FACTOR)?.map(|factor| (FACTOR.to_owned(), factor));
    for name in ["rope_parameters", "rope_scaling"] {
        let Some(inner) = fields.object(name)? else { continue };
        let Some(factor) = inner.optional_number(FACTOR)? else { continue };
        if let Some((place, other)) = found.filter(|(_, other)| *other != factor) {
            let reason = format!("is {factor}, but `{place}` is {other}; remove the one that is wrong");
            return Err(inner.error(FACTOR, &reason));
        }
        found = Some((format!("{name}.{FACTOR}"), factor));
    }
    Ok(found.unwrap_or_else(|| (FACTOR.to_owned(), 1.0)))
}

/// The number of a head's elements that are rotated; `None` for all.
fn part(fields: &Fields<'_>, head_width: usize) -> Result<Option<usize>, LoadError> {
    let (name, factor) = factor(fields)?;
    let part = head_width as f64 * factor;
    if part.fract() != 0.0 || part % 2.0 != 0.0 || factor > 1.0 {
        let reason = format!(
            "is {factor}, which makes {part} of {head_width} elements of a head; it must be an even number of them"
        );
        return Err(fields.error(&name, &reason));
    }
    Ok((factor < 1.0).then_some(part as usize))
}

/// The scaling that an object of settings asks for; a factor without a type is one of `default`, which has none.
fn scaling_of(fields: &Fields<'_>, context: usize) -> Result<Scaling, LoadError> {
    let (key, kind) = match fields.text("rope_type")? {
        Some(kind) => ("rope_type", kind),
        None => ("type", fields.text("type")?.unwrap_or("default")),
    };
    if let Some((name, _)) = fields.all().find(|(_, value)| matches!(value, Value::Object(_))) {
        return Err(fields.error(name, "is an object; one rotation for all layers is supported"));
    }
    let needed = |name: &str| {
        let reason = format!("is missing; a rotation of type `{kind}` needs it");
        fields.optional_number(name)?.ok_or_else(|| fields.error(name, &reason))
    };
    let at_least_1 = |name: &str| {
        let reason = "is below 1; scaling divides frequencies by at least 1";
        needed(name)
            .and_then(|factor| if factor < 1.0 { Err(fields.error(name, reason)) } else { Ok(factor) })
    };
    match kind {
        "default" => {
            fields.expect_number("factor", &[1.0])?;
            Ok(Scaling::None)
        }
        "linear" => {
            let factor = at_least_1("factor")?;
            Ok(if factor == 1.0 { Scaling::None } else { Scaling::Linear(factor) })
        }
        "llama3" => {
            let low = needed("low_freq_factor")?;
            let high = needed("high_freq_factor")?;
            if low >= high {
                let reason = format!("is {high}, not above low_freq_factor = {low}");
                return Err(fields.error("high_freq_factor", &reason));
            }
            let original = needed("original_max_position_embeddings")?;
            Ok(Scaling::Llama3 { factor: at_least_1("factor")?, low, high, original })
        }
        "yarn" => yarn(fields, at_least_1("factor")?, context),
        other => {
            let reason = format!("is `{other}`; supported are default, linear, llama3 and yarn");
            Err(fields.error(key, &reason))
        }
    }
}

fn yarn(fields: &Fields<'_>, factor: f64, context: usize) -> Result<Scaling, LoadError> {
    for name in ["mscale", "mscale_all_dim"] {
        if let Some(value) = fields.get(name) {
            return Err(fields.error(name, &format!("is {value}; only null is supported")));
        }
    }
    fields.expect_flag("truncate", true)?;
    let usual = if factor <= 1.0 { 1.0 } else { 0.1 * factor.ln() + 1.0 };
    Ok(Scaling::Yarn {
        factor,
        beta: (fields.number("beta_fast", 32.0)?, fields.number("beta_slow", 1.0)?),
        original: fields.number("original_max_position_embeddings", context as f64)?,
        attention: fields.number("attention_factor", usual)?,
    })
}
