//! A text with holes after its checks: names, lengths and settings of every hole.

use std::collections::HashSet;

use unmask_model::predictor::TokenId;
use unmask_model::tokenizer::TextTokenizer;

use super::checked::{CheckedHole, DEFAULT_MOST, Wanted};
use super::forms::{Form, GivenText, conflict};
use super::nearest::{after, between, tokens_before};
use super::request::Length;
use crate::error::ApiError;
use crate::fair_pool::Abandoned;
use crate::healing::cut::{cut_after, cut_before};
use crate::prompt::{check_text, too_long, unseen_suffix};
use crate::request::options::Settings;
use crate::state::{AppState, ServedModel};

/// A text that is cut keeps at least this share of the context: 1 / this many.
const KEPT_SHARE: usize = 8;

/// A text with a hole between each two of its texts.
#[derive(Debug)]
pub(super) struct HoledText {
    pub(super) form: Form,
    pub(super) texts: Vec<String>,
    /// The characters of each text.
    pub(super) characters: Vec<usize>,
    pub(super) holes: Vec<CheckedHole>,
}

impl HoledText {
    /// Checks what the holes ask for. `length` is for those that do not say theirs.
    ///
    /// # Errors
    /// A value outside its range, or a name that two holes have.
    pub(super) fn of(
        given: GivenText,
        length: Option<Length>,
        settings: &Settings,
        state: &AppState,
    ) -> Result<Self, ApiError> {
        let GivenText { form, texts, holes } = given;
        let first = |number: usize| number == 0 && texts.first().is_some_and(String::is_empty);
        let hole = |(number, given)| CheckedHole::of(number, given, length, first(number), settings, state);
        let holes: Vec<CheckedHole> = holes.into_iter().enumerate().map(hole).collect::<Result<_, _>>()?;
        let mut names = HashSet::new();
        if let Some(twice) = holes.iter().find(|hole| !names.insert(&hole.spec.id)) {
            let message =
                format!("two holes are named `{}` (a hole without a name has its number)", twice.spec.id);
            return Err(conflict(form.length_field(), &message));
        }
        let characters = texts.iter().map(|text| text.chars().count()).collect();
        Ok(Self { form, texts, characters, holes })
    }

    /// The tokens of each text, by itself. Of texts that may be `cut`, what is too far from the holes for any
    /// context is left out.
    ///
    /// # Errors
    /// The texts are too long for the context, or the tokenizer refused one.
    pub(super) fn tokens(
        &self,
        cut: bool,
        model: &ServedModel,
        abandoned: &Abandoned,
    ) -> Result<Vec<Vec<TokenId>>, ApiError> {
        let tokenizer = &model.tokenizer;
        if cut {
            return self.nearest_tokens(model, abandoned);
        }
        check_text(self.form.text_field(), self.texts.iter().map(String::len).sum(), model)?;
        let encode = |(number, text): (usize, &String)| match number {
            _ if abandoned.is_set() => Err(ApiError::Abandoned),
            0 => Ok(tokenizer.encode(text)?),
            _ => Ok(tokenizer.encode_piece(text)?),
        };
        self.texts.iter().enumerate().map(encode).collect()
    }

    /// The tokens of texts that may be cut, without what is too far from any hole.
    fn nearest_tokens(
        &self,
        model: &ServedModel,
        abandoned: &Abandoned,
    ) -> Result<Vec<Vec<TokenId>>, ApiError> {
        let tokenizer = &model.tokenizer;
        let last = self.texts.len() - 1;
        let encode = |(number, text): (usize, &String)| match number {
            _ if abandoned.is_set() => Err(ApiError::Abandoned),
            0 => tokens_before(text, model),
            _ if number == last => Ok(tokenizer.encode_piece(after(text, model))?),
            _ => {
                let kept = between(text, model);
                let mut tokens = tokenizer.encode_piece(kept.head)?;
                if let Some(tail) = kept.tail {
                    tokens.extend(tokenizer.encode_piece(tail)?);
                }
                Ok(tokens)
            }
        };
        self.texts.iter().enumerate().map(encode).collect()
    }

    /// The range of every hole's length, given the `tokens` around them. `cut` says that the text may be
    /// cut. Holes that asked for nothing share what is left.
    ///
    /// # Errors
    /// The holes do not fit beside the text, or beside what is kept of it.
    pub(super) fn fit(
        &self,
        tokens: &[Vec<TokenId>],
        cut: bool,
        state: &AppState,
    ) -> Result<Vec<(usize, usize)>, ApiError> {
        let context = state.model.limits.context;
        let bos = usize::from(state.model.tokenizer.document_start().is_some());
        let text: usize = tokens.iter().map(Vec::len).sum();
        let kept = if cut { text.min(context / KEPT_SHARE) } else { text };
        let free = context.saturating_sub(kept + bos).min(state.limits.canvas);
        let asked = |hole: &CheckedHole| if let Wanted::Between(_, max) = hole.length { max } else { 0 };
        let asked: usize = self.holes.iter().map(asked).sum();
        let silent = self.holes.iter().filter(|hole| hole.length == Wanted::Default).count();
        let wanted = asked + silent;
        if wanted > free {
            let param = if free == 0 { self.form.text_field() } else { self.form.length_field() };
            if kept < text {
                let message = format!(
                    "{wanted} positions were asked for, but this model's context is {context}, of which {kept} are kept \
                     for the text around the holes; ask for at most {free}"
                );
                return Err(ApiError::ContextLength { param, message });
            }
            return Err(too_long(param, (text, bos), wanted, state));
        }
        let share = ((free - asked) / silent.max(1)).min(DEFAULT_MOST);
        let range = |hole: &CheckedHole| match hole.length {
            Wanted::Between(min, max) => (min, max),
            Wanted::Default => (1, share),
        };
        Ok(self.holes.iter().map(range).collect())
    }

    /// The lengths of its holes, for a network whose attention is causal between blocks of `block` positions: a hole that
    /// gives no length may be as long as it gets, since a document end ends its text.
    ///
    /// # Errors
    /// Text stands after a hole, which the hole cannot see; or the length of one is to be found, which what follows it
    /// would tell.
    pub(super) fn at_end(
        &self,
        ranges: Vec<(usize, usize)>,
        block: usize,
    ) -> Result<Vec<(usize, usize)>, ApiError> {
        if self.holes.len() > 1 || self.texts.iter().skip(1).any(|text| !text.is_empty()) {
            let param = if self.form == Form::Around { "suffix" } else { self.form.text_field() };
            return Err(unseen_suffix(param, block));
        }
        let exact = |(hole, (min, max)): (&CheckedHole, (usize, usize))| match hole.length {
            Wanted::Between(..) if min < max => {
                let message = format!(
                    "a range of lengths is searched by what follows a hole, and this model's attention is causal between \
                     blocks of {block} positions, so that nothing follows it; give one length, which is a maximum"
                );
                Err(conflict(self.form.length_field(), &message))
            }
            _ => Ok((max, max)),
        };
        self.holes.iter().zip(ranges).map(exact).collect()
    }

    /// Tokenizes choices with what the text around them cuts: a blank or a part of a word, which is taken from
    /// `tokens`.
    ///
    /// # Errors
    /// The tokenizer refused a text.
    pub(super) fn heal_choices(
        &mut self,
        tokens: &mut [Vec<TokenId>],
        tokenizer: &TextTokenizer,
    ) -> Result<(), ApiError> {
        for (number, hole) in self.holes.iter_mut().enumerate().filter(|(_, hole)| hole.spec.healing) {
            // The first words of a text are not spelled as they are elsewhere.
            let Some(choices) = hole.choices.as_mut().filter(|_| number > 0 || !self.texts[0].is_empty())
            else {
                continue;
            };
            let least = usize::from(number == 0);
            let left = cut_before(&mut tokens[number], least, tokenizer)?;
            let right = cut_after(&mut tokens[number + 1], tokenizer);
            choices.join(&left, &right, tokenizer)?;
            hole.length = Wanted::Between(choices.longest(), choices.longest());
            hole.spec.shared = (left, right);
        }
        Ok(())
    }

    /// The whole text, its holes filled with `fillings`.
    pub(super) fn spliced<'a>(&'a self, fillings: impl Iterator<Item = &'a str>) -> String {
        let (first, rest) =
            self.texts.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
        let filled = fillings.zip(rest).flat_map(|(filling, text)| [filling, text.as_str()]);
        std::iter::once(first).chain(filled).collect()
    }
}
