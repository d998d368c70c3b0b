//! Token healing: words and blanks that a hole cuts.
//!
//! A tokenizer's words carry the blank before them. A text that ends in a blank, or inside a word, therefore ends in
//! a token that no text of the training ended in, and the model continues it badly. Healing gives such an end back
//! to the hole: its first token has to begin with the bytes that were cut (its last one to end with those that the
//! text after it begins with), and the caller's own text stays as it was.
//!
//! * A blank is cut always. The word that follows brings it, so the hole keeps its number of positions.
//! * A word is cut where the model says that it goes on: one evaluation, in which the last tokens of the text are open
//!   like the hole, finds the most probable token that begins like them. If that is the first of them itself, the word
//!   is whole, and the text stays. If it is a longer one, the hole's first token takes their place: the hole again has
//!   as many positions as were asked for.

use std::sync::Arc;

use unmask_model::diffusion::{Commit, DenoisingState, Noise, Policy, Span, StateSpec, Window};
use unmask_model::predictor::{Sampling, TokenId};
use unmask_model::tokenizer::TextTokenizer;
use unmask_scheduler::{DenoiseRequest, Timings};

pub(crate) mod cut;

use self::cut::{CutWord, Side, alike, cut_blank, cut_word, drawable};
use crate::error::ApiError;
use crate::fair_pool::Abandoned;
use crate::generation::{Found, evaluate};
use crate::observation::Observation;
use crate::prompt::{Layout, Piece};
use crate::request::options::Settings;
use crate::state::{AppState, ServedModel};

/// Tokens beside a hole that may be parts of a longer word.
#[derive(Debug)]
struct Edge {
    /// The layout, and the hole among its pieces.
    layout: usize,
    hole: usize,
    side: Side,
    cut: CutWord,
    /// The position of its first token (on the left of a hole) or its last one (on the right).
    position: usize,
}

/// Heals the holes of layouts that ask for it. Returns the layouts, and the time of the evaluation that decides which
/// words go on, if there was one.
///
/// # Errors
/// A time that is too long, or the engine did not evaluate.
pub async fn heal(
    mut layouts: Vec<Layout>,
    settings: &Settings,
    state: &AppState,
    observation: &Observation,
) -> Result<(Vec<Layout>, Option<Timings>), ApiError> {
    if !layouts.iter().any(Layout::heals) {
        return Ok((layouts, None));
    }
    let model = Arc::clone(&state.model);
    // A look through the vocabulary for each edge: too long for a thread that serves connections.
    let work = move |_: &Abandoned| {
        let mut cut = layouts.iter_mut().filter(|layout| layout.heals());
        cut.try_for_each(|layout| layout.cut_blanks(&model.tokenizer))?;
        let healed = layouts.iter().enumerate().filter(|(_, layout)| layout.heals());
        let edges = healed.map(|(number, layout)| edges(number, layout, &model));
        let edges: Vec<Vec<Edge>> = edges.filter(|edges| !edges.is_empty()).collect();
        let canvas = |edges: &Vec<Edge>| question(&layouts[edges[0].layout], edges, &model);
        let samples = edges.iter().map(canvas).collect::<Result<Vec<_>, ApiError>>()?;
        Ok::<_, ApiError>((layouts, edges, samples))
    };
    let done = state.pool.run(observation.client(), work).await.map_err(|_| ApiError::Internal)?;
    let (mut layouts, edges, samples) = done?;
    if edges.is_empty() {
        return Ok((layouts, None));
    }
    let charged = edges.iter().map(|edges| layouts[edges[0].layout].charged()).sum();
    let (found, timings) = longer_words(&edges, samples, charged, settings, state, observation).await?;
    for (edge, token) in edges.into_iter().flatten().zip(found) {
        if token.is_some_and(|token| token != edge.cut.token) {
            layouts[edge.layout].cut_word(&edge, &state.model.tokenizer);
        }
    }
    Ok((layouts, Some(timings)))
}

/// Layouts as they are looked at while their lengths are searched: with the blanks before their holes cut.
///
/// # Errors
/// The tokenizer refused the whitespace.
pub(crate) async fn without_blanks(
    mut layouts: Vec<Layout>,
    state: &AppState,
    observation: &Observation,
) -> Result<Vec<Layout>, ApiError> {
    let model = Arc::clone(&state.model);
    let work = move |_: &Abandoned| {
        layouts.iter_mut().try_for_each(|layout| layout.cut_blanks(&model.tokenizer))?;
        Ok(layouts)
    };
    state.pool.run(observation.client(), work).await.map_err(|_| ApiError::Internal)?
}

/// The most probable token at every edge, in order, of those that spell the same there; none where nothing may be
/// drawn. `samples` are the canvases of the edges, which are charged as `charged` tokens.
async fn longer_words(
    edges: &[Vec<Edge>],
    samples: Vec<DenoisingState>,
    charged: usize,
    settings: &Settings,
    state: &AppState,
    observation: &Observation,
) -> Result<(Vec<Option<TokenId>>, Timings), ApiError> {
    let request = DenoiseRequest { samples, ..DenoiseRequest::default() };
    let Found { commits, timings, .. } = evaluate(request, charged, settings, state, observation).await?;
    let token = |(edge, commits): (&Edge, &Vec<Commit>)| {
        let commit = commits.iter().find(|commit| commit.position as usize == edge.position);
        commit.map(|commit| commit.token)
    };
    let found = edges.iter().zip(&commits);
    let found = found.flat_map(|(edges, commits)| edges.iter().map(move |edge| token((edge, commits))));
    Ok((found.collect(), timings))
}

/// A canvas on which only the edges are open: holes stand on it as mask tokens that were given.
fn question(layout: &Layout, edges: &[Edge], model: &ServedModel) -> Result<DenoisingState, ApiError> {
    let mut given: Vec<Option<TokenId>> = layout.bos(model).into_iter().map(Some).collect();
    for piece in &layout.pieces {
        match piece {
            Piece::Given(tokens) => given.extend(tokens.iter().copied().map(Some)),
            Piece::Open(hole) => match &hole.decided {
                Some(tokens) => given.extend(tokens.iter().map(|(token, _)| Some(*token))),
                None => given.extend(std::iter::repeat_n(Some(model.limits.mask_token), hole.length)),
            },
        }
    }
    let mut spans = Vec::new();
    let mut allowed = Vec::new();
    for Edge { side, cut, position, .. } in edges {
        let word = match side {
            Side::Left => *position..position + cut.tokens,
            Side::Right => position + 1 - cut.tokens..position + 1,
        };
        given[word].fill(Some(model.limits.mask_token));
        given[*position] = None;
        let range = *position..position + 1;
        spans.push(Span { range, allowed: Some(allowed.len() as u32), ..Span::default() });
        let mut tokens = alike(*side, &cut.bytes, &model.tokenizer);
        tokens.push(cut.token);
        tokens.sort_unstable();
        tokens.dedup();
        allowed.push(tokens);
    }
    let banned = model.tokenizer.never_drawn().to_vec();
    let samplings = vec![Sampling { temperature: 0.0, banned, ..Sampling::default() }];
    let noise = Noise::Keyed { seed: 0, sample: 0 };
    let spec = StateSpec {
        given,
        samplings,
        spans,
        allowed,
        policy: Policy { window: model.block().map_or(Window::All, Window::Block), ..Policy::reference(1) },
        noise,
        ..StateSpec::default()
    };
    Ok(DenoisingState::new(spec, &model.limits)?)
}

/// Edges of a layout's holes at which a word may be cut.
fn edges(number: usize, layout: &Layout, model: &ServedModel) -> Vec<Edge> {
    let tokenizer = &model.tokenizer;
    let mut found = Vec::new();
    let mut start = usize::from(layout.bos(model).is_some());
    // Of a word between two holes, each has its own part.
    let mut taken = 0;
    for (place, piece) in layout.pieces.iter().enumerate() {
        let end = start + piece.length();
        if let Piece::Open(hole) = piece
            && hole.heals()
        {
            // What stands at the very start of a text is not spelled as it is elsewhere.
            let least = usize::from(place == 1);
            let before = place.checked_sub(1).and_then(|before| layout.pieces[before].given(least));
            let before = before.unwrap_or_default();
            let free = (before.len() - least.min(before.len())).min(start - taken);
            let before = &before[before.len() - free..];
            if let Some(cut) = cut_word(Side::Left, before, tokenizer).filter(|_| hole.shared.0.is_empty()) {
                let position = start - cut.tokens;
                found.push(Edge { layout: number, hole: place, side: Side::Left, cut, position });
            }
            let after = layout.pieces.get(place + 1).and_then(|after| after.given(1)).unwrap_or_default();
            if let Some(cut) = cut_word(Side::Right, after, tokenizer) {
                taken = end + cut.tokens;
                let position = taken - 1;
                found.push(Edge { layout: number, hole: place, side: Side::Right, cut, position });
            }
        }
        start = end;
    }
    found
}
impl Layout {
    /// Returns true if any of its holes is healed.
    fn heals(&self) -> bool {
        let heals = |piece: &Piece| matches!(piece, Piece::Open(hole) if hole.heals());
        !self.ids_given && self.pieces.iter().any(heals)
    }

    /// Takes the blank before each hole out of the text: the hole's first token brings it.
    fn cut_blanks(&mut self, tokenizer: &TextTokenizer) -> Result<(), ApiError> {
        for number in 1..self.pieces.len() {
            let (before, rest) = self.pieces.split_at_mut(number);
            let [.., Piece::Given(tokens)] = before else { continue };
            let Some(Piece::Open(hole)) = rest.first_mut() else { continue };
            let least = usize::from(number == 1 && tokenizer.drops_leading_space());
            if hole.heals() && hole.shared.0.is_empty() {
                let count = tokens.len();
                if cut_blank(tokens, least, tokenizer)? {
                    hole.shared.0 = b" ".to_vec();
                    self.healed += count - tokens.len();
                }
            }
        }
        Ok(())
    }

    /// Takes the token at an edge out of the text: the hole's own token at that end takes its place.
    fn cut_word(&mut self, edge: &Edge, tokenizer: &TextTokenizer) {
        let Piece::Open(hole) = &self.pieces[edge.hole] else { return };
        let mut shared = hole.shared.clone();
        let alone = hole.length == 1;
        match edge.side {
            Side::Left => shared.0.clone_from(&edge.cut.bytes),
            Side::Right => shared.1.clone_from(&edge.cut.bytes),
        }
        // One token may have to spell both ends.
        let both = tokenizer.spelled_like(&shared.0, &shared.1);
        if alone
            && drawable(&both, tokenizer)
                .all(|token| shared.0.len() + shared.1.len() > tokenizer.bytes(&[token], false).len())
        {
            return;
        }
        let beside = if edge.side == Side::Left { edge.hole - 1 } else { edge.hole + 1 };
        if let Piece::Given(tokens) = &mut self.pieces[beside] {
            match edge.side {
                Side::Left => tokens.truncate(tokens.len() - edge.cut.tokens),
                Side::Right => drop(tokens.drain(..edge.cut.tokens)),
            }
            self.healed += edge.cut.tokens;
        }
        if let Piece::Open(hole) = &mut self.pieces[edge.hole] {
            hole.shared = shared;
        }
    }
}
