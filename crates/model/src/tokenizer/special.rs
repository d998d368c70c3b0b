//! The special tokens of a tokenizer: the mask, the ends of a text, a document start.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use tokenizers::Tokenizer;

use crate::checkpoint::Profile;
use crate::error::LoadError;
use crate::predictor::TokenId;

/// The special tokens of a model.
pub(super) struct SpecialTokens {
    /// All of them: those that the profile names, and those that the tokenizer's file calls special.
    pub(super) ids: HashSet<TokenId>,
    pub(super) mask: TokenId,
    pub(super) bos: Option<TokenId>,
    pub(super) eos: Option<TokenId>,
    /// Those that end a text, ascending.
    pub(super) ends: Vec<TokenId>,
}

impl SpecialTokens {
    /// Those of the tokenizer in the file `path`.
    ///
    /// # Errors
    /// It does not know the mask token, or that ends a text.
    pub(super) fn of(text: &Tokenizer, profile: &Profile, path: &Path) -> Result<Self, LoadError> {
        let lookup = |token: &Option<String>| token.as_ref().and_then(|token| text.token_to_id(token));
        let mask = mask(text, profile, path)?;
        let bos = lookup(&profile.bos_token);
        let eos = lookup(&profile.eos_token);
        let named = profile.special_tokens.iter().filter_map(|token| text.token_to_id(token));
        let added = text.get_added_tokens_decoder();
        let added = added.iter().filter(|(_, token)| token.special).map(|(id, _)| *id);
        let ids: HashSet<TokenId> = named.chain(added).collect();
        let ends = ends(text, profile, &ids, (eos, mask));
        if ends.contains(&mask) {
            let reason = format!(
                "names one token, number {mask}, as mask and as end of a text; --mask-token names another mask"
            );
            return Err(LoadError::MaskToken { path: path.to_owned(), reason });
        }
        Ok(Self { ids, mask, bos, eos, ends })
    }
}

/// The texts that `template` recognises as special tokens, in order.
pub(super) fn special_texts(template: &Tokenizer) -> Vec<String> {
    let recognised = template.get_added_tokens_decoder();
    let recognised = recognised.into_values().filter(|token| token.special && !token.content.is_empty());
    let mut texts: Vec<String> = recognised.map(|token| token.content).collect();
    texts.sort();
    texts
}

/// The mask token, which the tokenizer must know by the number that the configuration gives it.
fn mask(text: &Tokenizer, profile: &Profile, path: &Path) -> Result<TokenId, LoadError> {
    let spelled = profile.mask_token.escape_debug();
    let refuse = |reason| Err(LoadError::MaskToken { path: PathBuf::from(path), reason });
    match (text.token_to_id(&profile.mask_token), profile.mask_token_id) {
        (None, _) => {
            refuse(format!("does not know the mask token `{spelled}` ({} names it)", profile.mask_origin))
        }
        (Some(mask), Some(named)) if mask != named => refuse(format!(
            "gives the mask token `{spelled}` number {mask}, but `mask_token_id` of config.json is {named}; \
             --mask-token decides"
        )),
        (Some(mask), _) => Ok(mask),
    }
}

/// The tokens that end a text, ascending; those that the tokenizer does not know are none. A number in a configuration
/// counts if it is a special token's: configurations keep the defaults of their class, which may be any word here. It
/// does not count if it is the mask's: in LLaDA2's autoregressive relative that token ends a text.
fn ends(
    text: &Tokenizer,
    profile: &Profile,
    special: &HashSet<TokenId>,
    (eos, mask): (Option<TokenId>, TokenId),
) -> Vec<TokenId> {
    let known = profile.ends.iter().filter_map(|end| text.token_to_id(end));
    let listed = profile.end_ids.iter().copied().filter(|id| special.contains(id) && *id != mask);
    let mut ends: Vec<TokenId> = known.chain(listed).chain(eos).collect();
    ends.sort_unstable();
    ends.dedup();
    ends
}
