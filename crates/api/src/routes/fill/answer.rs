//! The answer of `/fill`, and how it is put together.

use serde::Serialize;
use unmask_scheduler::Timings;
use utoipa::ToSchema;

use super::holes::HoledText;
use super::request::{Parts, ScoreName};
use super::search::best;
use crate::generation::Running;
use crate::metrics::labels::Ending;
use crate::options::Settings;
use crate::report::{DiffusionReport, Usage};
use crate::state::AppState;
use crate::text_view::HoleText;

/// The answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Filled {
    /// `fill-` and the request's id.
    id: String,
    /// `fill`.
    object: &'static str,
    /// Seconds since 1970.
    created: u64,
    /// The model.
    model: String,
    /// Names the build, the weights and where they are computed.
    system_fingerprint: String,
    /// The answers.
    choices: Vec<FilledChoice>,
    /// Whether text around the hole was left out of what the model saw.
    truncated: bool,
    /// Tokens used.
    usage: Usage,
    /// How it was denoised.
    diffusion: DiffusionReport,
}

/// One way to fill the holes.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct FilledChoice {
    /// Sample number.
    index: usize,
    /// The whole text. The caller's own text in it comes back byte for byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// Mean log-probability (nats) of the tokens in the holes, or their sum, as `length_search.score` says;
    /// null when there are none.
    score: Option<f64>,
    /// The holes.
    #[serde(skip_serializing_if = "Option::is_none")]
    holes: Option<Vec<FilledHole>>,
}

/// One hole.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct FilledHole {
    /// Its name.
    id: String,
    /// Its text.
    text: String,
    /// Where it starts in the whole text, in Unicode scalar values.
    start: usize,
    /// Where it ends.
    end: usize,
    /// Tokens of its text.
    tokens: usize,
    /// Positions that were generated.
    length: usize,
    /// `filled`; `stop` or `eos`, which cut the text; `time_budget`, when one evaluation committed what was
    /// open; `timeout`, when the text is what was settled at the deadline.
    finish_reason: &'static str,
    /// Mean log-probability (nats) of its tokens; null when it is empty.
    mean_logprob: Option<f64>,
    /// The lengths that were tried, when it was given a range.
    #[serde(skip_serializing_if = "Option::is_none")]
    candidates: Option<Vec<Candidate>>,
}

/// A length that was tried.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Candidate {
    /// Positions.
    length: usize,
    /// The choice's `score` with it; the best one is the answer.
    score: Option<f64>,
}

/// What all of an answer's parts share.
pub(super) struct Answer {
    pub(super) id: String,
    pub(super) state: AppState,
    pub(super) settings: Settings,
    pub(super) text: HoledText,
    /// Lengths of the holes, candidate by candidate.
    pub(super) lengths: Vec<Vec<usize>>,
    pub(super) score: ScoreName,
    pub(super) created: u64,
    pub(super) parts: Parts,
    pub(super) truncated: bool,
    pub(super) prompt_tokens: usize,
}

impl Answer {
    /// Whether lengths are searched, so that nothing is known of a choice before the end.
    pub(super) fn searches(&self) -> bool {
        self.lengths.len() > 1
    }

    /// Which sample is the choice: of every candidate there is one for it.
    fn winner(&self, running: &Running, choice: usize) -> usize {
        let of = |candidate: usize| candidate * self.settings.samples + choice;
        let rated = (0..self.lengths.len()).map(|candidate| {
            let sample = of(candidate);
            (running.views[sample].done, self.score(running, sample))
        });
        of(best(rated))
    }

    /// How good a sample is; `None` without a token.
    fn score(&self, running: &Running, sample: usize) -> Option<f64> {
        let view = &running.views[sample].view;
        let texts = running.texts(sample);
        let tokens: usize = texts.iter().map(|text| text.tokens).sum();
        let holes = view.holes().iter().zip(&texts);
        let sum: f64 = holes.map(|(hole, text)| view.logprob(hole, text.tokens)).sum();
        (tokens > 0).then(|| match self.score {
            ScoreName::MeanLogprob => sum / tokens as f64,
            ScoreName::SumLogprob => sum,
        })
    }

    /// The lengths that were tried for a hole of a choice.
    fn candidates(&self, running: &Running, choice: usize, number: usize) -> Option<Vec<Candidate>> {
        let of = |(candidate, lengths): (usize, &Vec<usize>)| {
            let score = self.score(running, candidate * self.settings.samples + choice);
            Candidate { length: lengths[number], score }
        };
        self.text.holes[number].ranged().then(|| self.lengths.iter().enumerate().map(of).collect())
    }

    /// All holes of a choice, as far as they are settled.
    pub(super) fn holes(&self, running: &Running, choice: usize) -> Vec<FilledHole> {
        let sample = self.winner(running, choice);
        let progress = &running.views[sample];
        let mut start = 0;
        let mut holes = Vec::new();
        for (number, text) in running.texts(sample).into_iter().enumerate() {
            start += self.text.texts[number].chars().count();
            let HoleText { ref text, tokens, .. } = text;
            let hole = &progress.view.holes()[number];
            let end = start + text.chars().count();
            let ending = progress.endings[number].or(progress.early_exit).unwrap_or(Ending::Full);
            holes.push(FilledHole {
                id: hole.id.clone(),
                text: text.clone(),
                start,
                end,
                tokens,
                length: hole.range.len(),
                finish_reason: if ending == Ending::Full { "filled" } else { ending.name() },
                mean_logprob: (tokens > 0).then(|| progress.view.logprob(hole, tokens) / tokens as f64),
                candidates: self.candidates(running, choice, number),
            });
            start = end;
        }
        holes
    }

    /// The whole answer.
    pub(super) fn whole(&self, running: &Running, timings: &Timings) -> Filled {
        let model = &self.state.model;
        let mut kept = 0;
        let choices = (0..self.settings.samples).map(|index| {
            let holes = self.holes(running, index);
            kept += holes.iter().map(|hole| hole.tokens).sum::<usize>();
            FilledChoice {
                index,
                text: (self.parts != Parts::Holes)
                    .then(|| self.text.spliced(holes.iter().map(|hole| hole.text.as_str()))),
                score: self.score(running, self.winner(running, index)),
                holes: (self.parts != Parts::Full).then_some(holes),
            }
        });
        let choices = choices.collect();
        Filled {
            id: self.id.clone(),
            object: "fill",
            created: self.created,
            model: model.id.clone(),
            system_fingerprint: model.fingerprint.clone(),
            choices,
            truncated: self.truncated,
            usage: Usage::new(self.prompt_tokens, kept),
            diffusion: DiffusionReport::new(&self.settings, timings, &running.views, kept),
        }
    }
}
