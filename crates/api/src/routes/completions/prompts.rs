//! The texts of a completion: its prompts and its suffix, as tokens.

use unmask_model::predictor::TokenId;

use super::super::fill::nearest;
use super::Prompt;
use crate::error::ApiError;
use crate::fair_pool::Abandoned;
use crate::prompt::{check_text, unseen_suffix};
use crate::request::ranges::out_of_range;
use crate::state::AppState;

/// The tokens of the text after the generated one. Of a text that may be `cut`, what is too far for any context is left out.
pub(super) fn tokens_after(
    suffix: Option<&str>,
    cut: bool,
    state: &AppState,
) -> Result<Vec<TokenId>, ApiError> {
    let model = &state.model;
    // Some editors send the document end where there is no suffix.
    let eos = model.profile.eos_token.as_deref();
    let Some(suffix) = suffix.filter(|suffix| Some(*suffix) != eos) else { return Ok(Vec::new()) };
    if !cut {
        check_text("suffix", suffix.len(), model)?;
    }
    let kept = if cut { nearest::after(suffix, model) } else { suffix };
    let tokens = model.tokenizer.encode_piece(kept)?;
    match model.block() {
        Some(block) if !tokens.is_empty() => Err(unseen_suffix("suffix", block)),
        _ => Ok(tokens),
    }
}

/// One prompt.
pub(super) struct Given {
    /// The prompt as given; `None` if it was given as ids.
    pub(super) text: Option<String>,
    pub(super) tokens: Vec<TokenId>,
    pub(super) ids_given: bool,
}

/// Tokenizes the prompts. Of texts that may be `cut`, what is too far from the end for any context is left out.
pub(super) fn prompts(
    prompt: Prompt,
    cut: bool,
    state: &AppState,
    abandoned: &Abandoned,
) -> Result<Vec<Given>, ApiError> {
    let (texts, lists) = match prompt {
        Prompt::Text(text) => (vec![text], Vec::new()),
        Prompt::Texts(texts) => (texts, Vec::new()),
        Prompt::Ids(ids) => (Vec::new(), vec![ids]),
        Prompt::IdLists(lists) => (Vec::new(), lists),
    };
    let most = state.limits.prompts;
    let given = texts.len() + lists.len();
    if !(1..=most).contains(&given) {
        return Err(out_of_range("prompt", format!("a list of {given}"), format!("a list of 1 to {most}")));
    }
    // All of them before any is tokenized.
    if !cut {
        texts.iter().try_for_each(|text| check_text("prompt", text.len(), &state.model))?;
    }
    let text = |text: String| {
        if abandoned.is_set() {
            return Err(ApiError::Abandoned);
        }
        let tokens = match cut {
            true => nearest::tokens_before(&text, &state.model)?,
            false => state.model.tokenizer.encode(&text)?,
        };
        Ok(Given { text: Some(text), tokens, ids_given: false })
    };
    let ids =
        |ids: &Vec<i64>| Ok(Given { text: None, tokens: token_ids(ids, "prompt", state)?, ids_given: true });
    texts.into_iter().map(text).chain(lists.iter().map(ids)).collect()
}

/// Ids that the model has; `param` is the field they are given in.
///
/// # Errors
/// One is out of range.
pub(in crate::routes) fn token_ids(
    ids: &[i64],
    param: &str,
    state: &AppState,
) -> Result<Vec<TokenId>, ApiError> {
    let rows = state.model.limits.vocabulary;
    let id = |&id: &i64| {
        let valid = TokenId::try_from(id).ok().filter(|id| (*id as usize) < rows);
        valid.ok_or_else(|| ApiError::Body {
            code: "invalid_token",
            param: Some(param.to_owned()),
            message: format!("token id {id} is out of range; this model's vocabulary is 0 to {}", rows - 1),
        })
    };
    ids.iter().map(id).collect()
}
