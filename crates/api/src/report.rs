//! An answer's report about its computation: `usage` and `diffusion`.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use unmask_model::diffusion::{Commit, Edit};
use unmask_model::predictor::Position;
use unmask_scheduler::Timings;
use utoipa::ToSchema;

use crate::clock::milliseconds;
use crate::generation::Progress;
use crate::metrics::labels::Ending;
use crate::policy::{OrderName, ResolvedPolicy};
use crate::request::kv_cache::KvCacheReport;
use crate::request::options::Settings;
use crate::request::scoring::ScoreReport;
use crate::seed::Seed;
use crate::state::ServedModel;
use crate::text_view::{HoleText, MASK};

/// Tokens of a request and its answer. The document start that the server puts in front is not counted, here as in
/// `count` of /tokenize and in errors about the context; neither is what a document end or a stop string cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Usage {
    /// Tokens given.
    pub prompt_tokens: usize,
    /// Tokens of the texts in the answer.
    pub completion_tokens: usize,
    /// Both.
    pub total_tokens: usize,
}

impl Usage {
    /// From its two parts.
    #[must_use]
    pub fn new(prompt_tokens: usize, completion_tokens: usize) -> Self {
        Self { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens }
    }
}

/// Report of the denoising: the resolved settings and the work they took.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct DiffusionReport {
    /// The decision rule.
    #[serde(flatten)]
    pub policy: ResolvedPolicy,
    /// Weight of classifier-free guidance.
    pub guidance: f64,
    /// Divides the logits.
    pub temperature: f64,
    /// Nucleus mass.
    pub top_p: f64,
    /// The seed; sending it again repeats the answer.
    pub seed: Seed,
    /// The keys and values that were kept between evaluations; `off` where every evaluation computed the whole canvas.
    #[serde(flatten)]
    pub kv_cache: KvCacheReport,
    /// Evaluations of the network, summed over samples.
    pub forward_passes: u32,
    /// Rows that went through the network: given and generated positions of every evaluation, less those whose keys and
    /// values were kept. With guidance, every canvas counts twice.
    pub rows_computed: u64,
    /// Rows of logits that were read. Planned orders read each position once.
    pub logit_rows: u64,
    /// Positions that were generated, summed over samples.
    pub generated_tokens: usize,
    /// Those of them that are in the texts.
    pub returned_tokens: usize,
    /// Why a sample ended before its schedule: `eos` (all that was open lay behind a document end), `stop`
    /// (the text holds a stop string), `time_budget` (one evaluation committed all that was open) or
    /// `timeout` (the text is what was settled at the deadline); null when none did. Of several samples, the
    /// first one that did. A text with one of the last two depends on time and not on the seed alone.
    pub early_exit: Option<&'static str>,
    /// Time in the queue, in milliseconds.
    pub queue_ms: f64,
    /// Time from the first evaluation to the last, in milliseconds.
    pub denoise_ms: f64,
    /// The most canvases that shared an evaluation with this request, itself included.
    pub batch_peak: usize,
    /// Report of the scoring of echoed prompts, if they were scored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<ScoreReport>,
    /// True if a completion's text was longer than the model's context, and the tokens nearest to the hole were kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncated: Option<bool>,
}

impl DiffusionReport {
    /// The report of a finished request.
    #[must_use]
    pub fn new(settings: &Settings, timings: &Timings, views: &[Progress], returned_tokens: usize) -> Self {
        let holes = views.iter().flat_map(|progress| progress.view.generated());
        Self {
            policy: settings.policy.into(),
            guidance: settings.guidance,
            temperature: settings.sampling.temperature,
            top_p: settings.sampling.top_p,
            seed: settings.seed,
            kv_cache: views
                .iter()
                .find_map(|progress| settings.kv_cache.on(progress.view.length()))
                .map_or(KvCacheReport::OFF, KvCacheReport::from),
            forward_passes: timings.evaluations,
            rows_computed: timings.rows,
            logit_rows: timings.reads,
            generated_tokens: holes.map(|hole| hole.range.len()).sum(),
            returned_tokens,
            early_exit: views.iter().find_map(|progress| progress.early_exit).map(Ending::name),
            queue_ms: milliseconds(timings.queued),
            denoise_ms: milliseconds(timings.denoising),
            batch_peak: timings.batch_peak,
            score: None,
            truncated: None,
        }
    }
}

/// A denoising state in a stream. Positions count through all generated positions of a sample, holes
/// joined left to right.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum StateEvent {
    /// A sample begins.
    Start {
        /// Index of the choice.
        choice: usize,
        /// Number of generated positions.
        length: usize,
        /// T, where the rule has one.
        steps: Option<u32>,
        /// Order of commits.
        order: OrderName,
        /// The text to show at open positions.
        mask: &'static str,
        /// The holes.
        holes: Vec<StateHole>,
    },
    /// Evaluations committed positions.
    Step {
        /// Index of the choice.
        choice: usize,
        /// Number of the evaluation, from 1.
        evaluation: u32,
        /// Evaluations that the sample takes at most.
        max_evaluations: u32,
        /// Positions still open after this state.
        remaining: usize,
        /// Positions committed.
        positions: Vec<usize>,
        /// Their token ids. The first token of a hole and its last one may also spell the text beside the hole
        /// (`token_healing`); `texts` are without it.
        token_ids: Vec<u32>,
        /// Their texts, for display.
        texts: Vec<String>,
        /// Their probabilities when they were drawn, from 0 to 1, rounded to hundredths.
        #[schema(minimum = 0, maximum = 1)]
        probabilities: Vec<f64>,
        /// Positions that are masked again, before those of `positions` are committed: a position in both was drawn
        /// again. Left out when there are none.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        remasked: Vec<usize>,
        /// With `stream_states: "draft"`: the text that each open position would have by now, as pairs of position and
        /// text. Only for display, and only until the next state.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        draft: Vec<(usize, String)>,
    },
    /// A sample is done.
    End {
        /// Index of the choice.
        choice: usize,
        /// Evaluations that the sample took.
        evaluations: u32,
        /// Leading generated positions that make up the text.
        returned_tokens: usize,
        /// `eos`, `stop`, `full`, `time_budget` or `timeout`.
        reason: &'static str,
    },
}

/// A hole as a state event describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct StateHole {
    /// Its name.
    pub id: String,
    /// Its first position.
    pub position: usize,
    /// Its length.
    pub length: usize,
}

impl StateEvent {
    /// The start of sample `choice`.
    #[must_use]
    pub fn start(choice: usize, progress: &Progress, settings: &Settings) -> Self {
        let mut position = 0;
        let mut holes = Vec::new();
        for hole in progress.view.generated() {
            let length = hole.range.len();
            holes.push(StateHole { id: hole.spec.id.clone(), position, length });
            position += length;
        }
        let ResolvedPolicy { steps, order, .. } = settings.policy.into();
        Self::Start { choice, length: position, steps, order, mask: MASK, holes }
    }

    /// A change of sample `choice`.
    #[must_use]
    pub fn step(choice: usize, progress: &Progress, change: &Change, model: &ServedModel) -> Self {
        let at = |position: u32| progress.view.generated_index(position as usize);
        let placed: Vec<(usize, &Commit)> =
            change.committed.iter().filter_map(|commit| Some((at(commit.position)?, commit))).collect();
        let text = |position: u32, token| progress.view.own_text(position as usize, token, &model.tokenizer);
        let rounded = |score: f32| f64::from((score.exp() * 100.0).round().clamp(0.0, 100.0)) / 100.0;
        Self::Step {
            choice,
            evaluation: progress.evaluations,
            max_evaluations: progress.planned,
            remaining: progress.remaining,
            positions: placed.iter().map(|(at, _)| *at).collect(),
            token_ids: placed.iter().map(|(_, commit)| commit.token).collect(),
            texts: placed.iter().map(|(_, commit)| text(commit.position, commit.token)).collect(),
            probabilities: placed.iter().map(|(_, commit)| rounded(commit.score)).collect(),
            remasked: change.taken_back.iter().filter_map(|position| at(*position)).collect(),
            draft: progress.draft.iter().filter_map(|(p, id)| Some((at(*p)?, text(*p, *id)))).collect(),
        }
    }

    /// The end of sample `choice`, whose first hole reads `text`.
    #[must_use]
    pub fn end(choice: usize, progress: &Progress, text: &HoleText) -> Self {
        let reason = progress.ending(text).name();
        Self::End { choice, evaluations: progress.evaluations, returned_tokens: text.tokens, reason }
    }
}

/// The changes of positions in a state. Folding them over the states before gives the canvas: first the positions
/// that are taken back are masked, then the others are committed, none of which is committed at that moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    committed: Vec<Commit>,
    taken_back: Vec<Position>,
}

/// Positions that each sample's states have told so far, and edits that are not told yet: those of evaluations that
/// are not reported by themselves (`state_every`), and of a revision between two evaluations.
#[derive(Debug, Default)]
pub struct Thinned {
    samples: Vec<Told>,
}

#[derive(Debug, Default)]
struct Told {
    committed: BTreeSet<Position>,
    held: Vec<Edit>,
}

impl Thinned {
    /// Adds a step's edits; returns what they change in all, if this evaluation is to be reported.
    pub fn due(&mut self, c: usize, edits: Vec<Edit>, progress: &Progress, every: u32) -> Option<Change> {
        if self.samples.len() <= c {
            self.samples.resize_with(c + 1, Told::default);
        }
        let told = &mut self.samples[c];
        told.held.extend(edits);
        let due = progress.done || progress.evaluations.is_multiple_of(every);
        due.then(|| told.change())
    }
}

impl Told {
    /// The edits that are not told yet. Only the last one of a position stands. One that was committed before is
    /// taken back even if it is committed again.
    fn change(&mut self) -> Change {
        let mut last: BTreeMap<Position, Option<Commit>> = BTreeMap::new();
        for edit in std::mem::take(&mut self.held) {
            match edit {
                Edit::Commit(commit) => last.insert(commit.position, Some(commit)),
                Edit::Remask(position) => last.insert(position, None),
            };
        }
        let mut change = Change::default();
        for (position, commit) in last {
            if self.committed.remove(&position) {
                change.taken_back.push(position);
            }
            if let Some(commit) = commit {
                self.committed.insert(position);
                change.committed.push(commit);
            }
        }
        change
    }
}
