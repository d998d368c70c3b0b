//! Token healing: words and blanks that a hole cuts.
//!
//! A tokenizer's words carry the blank before them. A text that ends in a blank, or inside a word, therefore ends in
//! a token that no text of the training ended in, and the model continues it badly. Healing gives such an end back
//! to the hole: its first token has to begin with the bytes that were cut (its last one to end with those that the
//! text after it begins with), and the caller's own text stays as it was.
//!
//! * A blank is cut always. The word that follows brings it, so the hole keeps its number of positions.
//! * A word is cut where the model says that it goes on: one evaluation, in which the last token of the text is open
//!   like the hole, finds the most probable token that spells the same. If that is the token itself, the word is
//!   whole, and the text stays. If it is a longer one, the hole's first token takes its place: the hole again has as
//!   many positions as were asked for.

use unmask_model::diffusion::{DenoisingState, Edit, Noise, Policy, Span, StateSpec};
use unmask_model::predictor::{Sampling, TokenId};
use unmask_model::tokenizer::TextTokenizer;
use unmask_scheduler::{DenoiseRequest, DenoisingEvent, GenerationError, Timings};

use crate::deadlines::{Deadlines, longest};
use crate::error::ApiError;
use crate::generation::submit;
use crate::observation::Observation;
use crate::options::Settings;
use crate::prompt::{Layout, Piece};
use crate::state::{AppState, ServedModel};

/// A side of a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

/// A token beside a hole that may be part of a longer word.
#[derive(Debug)]
struct Edge {
    /// The layout, and the hole among its pieces.
    layout: usize,
    hole: usize,
    side: Side,
    token: TokenId,
    bytes: Vec<u8>,
    /// Where it stands on the canvas.
    position: usize,
}

/// Heals the holes of layouts that ask for it. Returns the time of the evaluation that decides which words go on,
/// if there was one.
///
/// # Errors
/// A time that is too long, or the engine did not evaluate.
pub async fn heal(
    layouts: &mut [Layout],
    settings: &Settings,
    state: &AppState,
    observation: &Observation,
) -> Result<Option<Timings>, ApiError> {
    let model = &state.model;
    for layout in layouts.iter_mut().filter(|layout| !layout.ids_given) {
        layout.cut_blanks(&model.tokenizer)?;
    }
    let healed = layouts.iter().enumerate().filter(|(_, layout)| !layout.ids_given);
    let edges: Vec<Vec<Edge>> = healed.map(|(number, layout)| edges(number, layout, model)).collect();
    let edges: Vec<Vec<Edge>> = edges.into_iter().filter(|edges| !edges.is_empty()).collect();
    if edges.is_empty() {
        return Ok(None);
    }
    let (found, timings) = longer_words(layouts, &edges, settings, state, observation).await?;
    for (edge, token) in edges.into_iter().flatten().zip(found) {
        if token != Some(edge.token) && token.is_some() {
            layouts[edge.layout].cut_word(&edge, &model.tokenizer);
        }
    }
    Ok(Some(timings))
}

/// The most probable token at every edge, in order, of those that spell the same there; none where nothing may be
/// drawn.
async fn longer_words(
    layouts: &[Layout],
    edges: &[Vec<Edge>],
    settings: &Settings,
    state: &AppState,
    observation: &Observation,
) -> Result<(Vec<Option<TokenId>>, Timings), ApiError> {
    let canvas = |edges: &Vec<Edge>| question(&layouts[edges[0].layout], edges, &state.model);
    let samples = edges.iter().map(canvas).collect::<Result<Vec<_>, _>>()?;
    let charged = edges.iter().map(|edges| layouts[edges[0].layout].charged()).sum();
    let times = settings.times.resolve(observation.arrived(), longest(&samples, &[], state))?;
    let Deadlines { deadline, .. } = times;
    let request = DenoiseRequest { samples, deadline, ..DenoiseRequest::default() };
    let mut events = submit(request, charged, state, observation)?;
    let mut found: Vec<Vec<Option<TokenId>>> = edges.iter().map(|edges| vec![None; edges.len()]).collect();
    loop {
        match events.next().await {
            Some(DenoisingEvent::Step { sample, edits, .. }) => {
                let sample = sample as usize;
                for edit in edits {
                    let Edit::Commit(commit) = edit else { continue };
                    let place =
                        edges[sample].iter().position(|edge| edge.position == commit.position as usize);
                    if let Some(place) = place {
                        found[sample][place] = Some(commit.token);
                    }
                }
            }
            Some(DenoisingEvent::Scored { .. }) => {}
            Some(DenoisingEvent::Finished(timings)) => {
                return Ok((found.into_iter().flatten().collect(), timings));
            }
            Some(DenoisingEvent::Expired(_)) => return Err(observation.timed_out(deadline)),
            Some(DenoisingEvent::Failed(error)) => return Err(error.into()),
            None => return Err(GenerationError::EngineStopped.into()),
        }
    }
}

/// A canvas on which only the edges are open: holes stand on it as mask tokens that were given.
fn question(layout: &Layout, edges: &[Edge], model: &ServedModel) -> Result<DenoisingState, ApiError> {
    let mut given: Vec<Option<TokenId>> = layout.bos(model).into_iter().map(Some).collect();
    for piece in &layout.pieces {
        match piece {
            Piece::Given(tokens) => given.extend(tokens.iter().copied().map(Some)),
            Piece::Open(blank) => match &blank.decided {
                Some(tokens) => given.extend(tokens.iter().map(|(token, _)| Some(*token))),
                None => given.extend(std::iter::repeat_n(Some(model.limits.mask_token), blank.length)),
            },
        }
    }
    let (mut spans, mut allowed) = (Vec::new(), Vec::new());
    for edge in edges {
        given[edge.position] = None;
        let range = edge.position..edge.position + 1;
        spans.push(Span { range, allowed: Some(allowed.len() as u32), ..Span::default() });
        allowed.push(alike(edge.side, &edge.bytes, &model.tokenizer));
    }
    let banned = model.tokenizer.never_drawn().to_vec();
    let samplings = vec![Sampling { temperature: 0.0, banned, ..Sampling::default() }];
    let noise = Noise::Keyed { seed: 0, sample: 0 };
    let spec = StateSpec {
        given,
        samplings,
        spans,
        allowed,
        policy: Policy::reference(1),
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
    let mut taken = None;
    for (place, piece) in layout.pieces.iter().enumerate() {
        let end = start + piece.length();
        if let Piece::Open(blank) = piece
            && blank.heals()
        {
            let mut add = |side, token: TokenId, position| {
                let bytes = tokenizer.bytes(&[token], false);
                if taken != Some(position) && is_cut(side, token, &bytes, tokenizer) {
                    taken = Some(position);
                    found.push(Edge { layout: number, hole: place, side, token, bytes, position });
                }
            };
            // What stands at the very start of a text is not spelled as it is elsewhere.
            let least = if place == 1 { 2 } else { 1 };
            let before = place.checked_sub(1).and_then(|before| layout.pieces[before].given(least));
            if let Some(token) = before.and_then(<[_]>::last).filter(|_| blank.shared.0.is_empty()) {
                add(Side::Left, *token, start - 1);
            }
            let after = layout.pieces.get(place + 1).and_then(|after| after.given(1));
            if let Some(token) = after.and_then(<[_]>::first) {
                add(Side::Right, *token, end);
            }
        }
        start = end;
    }
    found
}

/// Whether a token ends (on the left of a hole) or begins (on its right) inside of what may be a longer word.
fn is_cut(side: Side, token: TokenId, bytes: &[u8], tokenizer: &TextTokenizer) -> bool {
    let edge = if side == Side::Left { bytes.last() } else { bytes.first() };
    // Bytes of other alphabets are those of letters.
    let within = edge.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_' || !byte.is_ascii());
    within && drawable(&alike(side, bytes, tokenizer), tokenizer).any(|other| other != token)
}

/// Tokens that begin (on the left of a hole) or end (on its right) with some bytes.
fn alike(side: Side, bytes: &[u8], tokenizer: &TextTokenizer) -> Vec<TokenId> {
    match side {
        Side::Left => tokenizer.spelled_like(bytes, &[]),
        Side::Right => tokenizer.spelled_like(&[], bytes),
    }
}

fn drawable<'a>(tokens: &'a [TokenId], tokenizer: &'a TextTokenizer) -> impl Iterator<Item = TokenId> + 'a {
    tokens.iter().copied().filter(|token| !tokenizer.never_drawn().contains(token))
}

impl Layout {
    /// Takes the blank before each hole out of the text: the hole's first token brings it.
    fn cut_blanks(&mut self, tokenizer: &TextTokenizer) -> Result<(), ApiError> {
        for hole in 1..self.pieces.len() {
            let (before, rest) = self.pieces.split_at_mut(hole);
            let [.., Piece::Given(tokens)] = before else { continue };
            let Some(Piece::Open(blank)) = rest.first_mut() else { continue };
            let least = usize::from(hole == 1 && tokenizer.drops_leading_space());
            if blank.heals() && blank.shared.0.is_empty() {
                let count = tokens.len();
                if cut_blank(tokens, least, tokenizer)? {
                    blank.shared.0 = b" ".to_vec();
                    self.healed += count - tokens.len();
                }
            }
        }
        Ok(())
    }

    /// Takes the token at an edge out of the text: the hole's own token at that end takes its place.
    fn cut_word(&mut self, edge: &Edge, tokenizer: &TextTokenizer) {
        let Piece::Open(blank) = &self.pieces[edge.hole] else { return };
        let (mut shared, alone) = (blank.shared.clone(), blank.length == 1);
        match edge.side {
            Side::Left => shared.0.clone_from(&edge.bytes),
            Side::Right => shared.1.clone_from(&edge.bytes),
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
                Side::Left => drop(tokens.pop()),
                Side::Right => drop(tokens.remove(0)),
            }
            self.healed += 1;
        }
        if let Piece::Open(blank) = &mut self.pieces[edge.hole] {
            blank.shared = shared;
        }
    }
}

/// Takes one blank from the end of some tokens, of which the first `least` stay as they are. The whitespace before it
/// is tokenized anew, as it is in a text where a word follows.
///
/// # Errors
/// The tokenizer refused the whitespace.
pub(crate) fn cut_blank(
    tokens: &mut Vec<TokenId>,
    least: usize,
    tokenizer: &TextTokenizer,
) -> Result<bool, ApiError> {
    let white = |token: &&TokenId| {
        let bytes = tokenizer.bytes(&[**token], false);
        !bytes.is_empty() && bytes.iter().all(u8::is_ascii_whitespace)
    };
    let count = tokens[least.min(tokens.len())..].iter().rev().take_while(white).count();
    let run = tokenizer.bytes(&tokens[tokens.len() - count..], false);
    let words = tokenizer.spelled_like(b" ", &[]);
    if run.last() != Some(&b' ') || drawable(&words, tokenizer).next().is_none() {
        return Ok(false);
    }
    let rest = String::from_utf8_lossy(&run[..run.len() - 1]).into_owned();
    tokens.truncate(tokens.len() - count);
    tokens.extend(tokenizer.encode_piece(&rest)?);
    Ok(true)
}

/// Bytes of the text before a hole that an alternative for the hole is tokenized with: a blank or a cut word, which
/// is taken from `before`.
///
/// # Errors
/// As [`cut_blank`].
pub(crate) fn cut_before(
    before: &mut Vec<TokenId>,
    least: usize,
    tokenizer: &TextTokenizer,
) -> Result<Vec<u8>, ApiError> {
    if cut_blank(before, least, tokenizer)? {
        return Ok(b" ".to_vec());
    }
    let last = before.last().copied().filter(|_| before.len() > least.max(1));
    let bytes = |token: TokenId| tokenizer.bytes(&[token], false);
    let cut = last.filter(|token| is_cut(Side::Left, *token, &bytes(*token), tokenizer));
    Ok(cut.map_or_else(Vec::new, |token| {
        before.pop();
        bytes(token)
    }))
}

/// The same of the text after a hole: a cut word.
pub(crate) fn cut_after(after: &mut Vec<TokenId>, tokenizer: &TextTokenizer) -> Vec<u8> {
    let bytes = |token: TokenId| tokenizer.bytes(&[token], false);
    let cut = after.first().copied().filter(|token| is_cut(Side::Right, *token, &bytes(*token), tokenizer));
    cut.map_or_else(Vec::new, |token| {
        after.remove(0);
        bytes(token)
    })
}
