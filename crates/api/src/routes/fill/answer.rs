//! The answer of `/fill`, and how it is put together.

use serde::Serialize;
use unmask_scheduler::Timings;
use utoipa::ToSchema;

use super::decisions::RatedChoice;
use super::holes::HoledText;
use super::request::{Parts, ScoreName};
use super::search::ranked;
use crate::generation::Running;
use crate::lengths::rate;
use crate::metrics::labels::Ending;
use crate::observation::Observation;
use crate::report::{DiffusionReport, Usage};
use crate::request::options::Settings;
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
    /// True if text around the hole was left out of the model's input.
    truncated: bool,
    /// Tokens used.
    usage: Usage,
    /// Report of the denoising.
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
    /// The text's score by `length_search.score`; null without a token in the holes.
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
    /// Its start in the whole text, in Unicode scalar values.
    start: usize,
    /// Its end.
    end: usize,
    /// Tokens of its text.
    tokens: usize,
    /// Positions that were generated.
    length: usize,
    /// `filled`; `chosen`, of `choices`; `stop` or `eos`, which cut the text; `time_budget`, when one evaluation committed what was
    /// open; `timeout`, when the text is what was settled at the deadline.
    finish_reason: &'static str,
    /// Mean log-probability (nats) of its tokens; null when it is empty.
    mean_logprob: Option<f64>,
    /// The lengths that were tried, when it was given a range.
    #[serde(skip_serializing_if = "Option::is_none")]
    candidates: Option<Vec<Candidate>>,
    /// The texts that it was chosen from, in the order of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    choices: Option<Vec<RatedChoice>>,
    /// The difference between the two largest probabilities among `choices`.
    #[serde(skip_serializing_if = "Option::is_none")]
    margin: Option<f64>,
}

/// A length that was tried.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Candidate {
    /// Positions.
    length: usize,
    /// The choice's `score` with it; the best one is the answer.
    score: Option<f64>,
}

/// State shared by all parts of an answer.
pub(super) struct Answer {
    pub(super) id: String,
    pub(super) state: AppState,
    pub(super) settings: Settings,
    pub(super) text: HoledText,
    /// Lengths of the holes, candidate by candidate.
    pub(super) lengths: Vec<Vec<usize>>,
    /// The log-probability of the first token after each hole at its distance, candidate by candidate
    /// ([`Fit::after`](crate::lengths::Fit::after)).
    pub(super) after: Vec<Vec<f64>>,
    /// The number of texts to return.
    pub(super) choices: usize,
    pub(super) score: ScoreName,
    pub(super) created: u64,
    pub(super) parts: Parts,
    pub(super) truncated: bool,
    pub(super) prompt_tokens: usize,
    pub(super) observation: Observation,
    /// Times and work of the decisions, if there were any.
    pub(super) decided: Option<Timings>,
}

/// One way to fill the holes, whatever of it is returned.
pub(super) struct Choice {
    score: Option<f64>,
    pub(super) holes: Vec<FilledHole>,
    /// Endings of the generated holes.
    endings: Vec<Ending>,
}

impl Answer {
    /// Returns true if lengths are searched, so that nothing is known of a choice before the end.
    pub(super) fn searches(&self) -> bool {
        self.lengths.len() > 1
    }

    /// The sample that is a choice, and the scores of all candidates: of each the best one of its samples.
    fn rated(&self, running: &Running, choice: usize) -> (Vec<Option<f64>>, usize) {
        if !self.searches() {
            return (vec![self.score(running, choice)], choice);
        }
        // A text with bytes that are no characters is none that belongs into a file.
        let whole = |sample: usize| running.texts(sample).iter().all(|text| !text.text.contains('\u{fffd}'));
        let rate = |sample: usize| (running.views[sample].done && whole(sample), self.score(running, sample));
        let rated: Vec<(bool, Option<f64>)> = (0..running.views.len()).map(rate).collect();
        let best = |samples: &[(bool, Option<f64>)]| samples[ranked(samples)[0]].1;
        (rated.chunks(self.settings.samples).map(best).collect(), ranked(&rated)[choice])
    }

    /// The score of a sample; `None` without a token.
    fn score(&self, running: &Running, sample: usize) -> Option<f64> {
        let view = &running.views[sample].view;
        let texts = running.texts(sample);
        let tokens: usize = texts.iter().map(|text| text.tokens).sum();
        let holes = view.holes().iter().zip(&texts);
        let sums: Vec<f64> = holes.map(|(hole, text)| view.logprob(hole, text.tokens)).collect();
        let sum: f64 = sums.iter().sum();
        let fits = || {
            let generated =
                view.holes().iter().zip(&texts).zip(&sums).filter(|((hole, _), _)| !hole.decided());
            let after = &self.after[sample / self.settings.samples];
            let rates = generated.zip(after).map(|(((_, text), sum), after)| rate(*sum, text.tokens, *after));
            rates.flatten().sum()
        };
        (tokens > 0).then(|| match self.score {
            ScoreName::Fit => fits(),
            ScoreName::MeanLogprob => sum / tokens as f64,
            ScoreName::SumLogprob => sum,
        })
    }

    /// A choice as far as it is settled: its score and its holes, and why its text ends where it does.
    pub(super) fn choice(&self, running: &Running, choice: usize) -> Choice {
        let (scores, sample) = self.rated(running, choice);
        let progress = &running.views[sample];
        let ending = |number: usize| progress.endings[number].or(progress.early_exit).unwrap_or(Ending::Full);
        let tried = |number: usize| {
            let lengths = self.lengths.iter().map(|lengths| lengths[number]);
            lengths.zip(&scores).map(|(length, &score)| Candidate { length, score }).collect()
        };
        let mut end = 0;
        let mut holes = Vec::new();
        for (number, found) in running.texts(sample).into_iter().enumerate() {
            let HoleText { mut text, tokens, .. } = found;
            let hole = &progress.view.holes()[number];
            let decision = self.text.holes[number].decision.as_ref();
            if let Some(decision) = decision {
                text.clone_from(&decision.text);
            }
            let finish_reason = match ending(number) {
                _ if decision.is_some() => "chosen",
                Ending::Full => "filled",
                ending => ending.name(),
            };
            let start = end + self.text.characters[number];
            end = start + text.chars().count();
            holes.push(FilledHole {
                id: hole.spec.id.clone(),
                text,
                start,
                end,
                tokens,
                length: hole.range.len(),
                finish_reason,
                mean_logprob: (tokens > 0).then(|| progress.view.logprob(hole, tokens) / tokens as f64),
                candidates: self.text.holes[number].ranged().then(|| tried(number)),
                choices: decision.map(|decision| decision.rated.clone()),
                margin: decision.map(|decision| decision.margin),
            });
        }
        Choice { score: self.score(running, sample), holes, endings: progress.all_endings().collect() }
    }

    /// The whole answer.
    pub(super) fn whole(&self, running: &Running, timings: &Timings) -> Filled {
        let model = &self.state.model;
        let timings = &self.decided.map_or(*timings, |decided| decided.then(*timings));
        let (mut choices, mut endings, mut kept) = (Vec::new(), Vec::new(), 0);
        for index in 0..self.choices {
            let Choice { score, holes, endings: of_choice } = self.choice(running, index);
            kept += holes.iter().map(|hole| hole.tokens).sum::<usize>();
            endings.extend(of_choice);
            let text = (self.parts != Parts::Holes)
                .then(|| self.text.spliced(holes.iter().map(|hole| hole.text.as_str())));
            let holes = (self.parts != Parts::Text).then_some(holes);
            choices.push(FilledChoice { index, text, score, holes });
        }
        // Candidates that lost were counted with the rest at the end.
        self.observation.generated(kept, endings);
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
