//! `logit_bias`: additions to the logits of tokens.

use std::collections::BTreeMap;

use unmask_model::predictor::TokenId;

use crate::error::ApiError;
use crate::request::ranges::{number, out_of_range};

/// Entries of `logit_bias`.
pub(crate) const MOST_BIASES: usize = 1024;

/// Additions to the logits, by token; a model has `rows` tokens.
///
/// # Errors
/// Not a token, outside −100 to 100, or too many.
pub fn biases(
    param: &str,
    given: Option<&BTreeMap<String, f64>>,
    rows: usize,
) -> Result<Vec<(TokenId, f32)>, ApiError> {
    let given = given.into_iter().flatten();
    let mut biases = Vec::new();
    for (id, &bias) in given {
        // Of two ways to write a number, the later one would win.
        let token =
            id.parse::<TokenId>().ok().filter(|token| (*token as usize) < rows && token.to_string() == *id);
        let token = token.ok_or_else(|| {
            let shown: String = id.chars().filter(|c| !c.is_control()).take(32).collect();
            out_of_range(
                param,
                format!("given for `{shown}`"),
                format!("given for ids from 0 to {}", rows - 1),
            )
        })?;
        number(param, Some(bias), -100.0..=100.0)?;
        biases.push((token, bias as f32));
    }
    if biases.len() > MOST_BIASES {
        return Err(out_of_range(
            param,
            format!("{} entries", biases.len()),
            format!("at most {MOST_BIASES}"),
        ));
    }
    Ok(biases)
}
