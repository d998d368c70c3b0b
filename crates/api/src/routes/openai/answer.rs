//! An answer of OpenAI's routes: what all its parts share, and a choice of it.

use unmask_model::diffusion::SequenceScore;
use unmask_model::predictor::TokenId;
use unmask_scheduler::Timings;

use super::{Completion, Dialect, Diffusion, Part};
use crate::generation::Running;
use crate::logprobs::{Judged, placed};
use crate::report::{DiffusionReport, Usage};
use crate::request::options::Settings;
use crate::state::AppState;
use crate::text_view::End;

/// A prompt that its answers begin with.
pub(in crate::routes) struct Echo {
    pub(in crate::routes) text: String,
    pub(in crate::routes) tokens: Vec<TokenId>,
    /// The position of the first token on the canvas.
    pub(in crate::routes) first: usize,
}

impl Echo {
    /// The prompt's tokens and how probable they are.
    fn judged(&self, score: &SequenceScore) -> impl Iterator<Item = Judged> {
        let judged = score.logprobs.iter().zip(&score.alternatives).skip(self.first);
        self.tokens.iter().zip(judged).map(|(token, (logprob, others))| Judged {
            token: *token,
            logprob: *logprob,
            alternatives: others.clone(),
            shared: Default::default(),
        })
    }
}

/// State shared by all parts of an answer.
pub(super) struct Answer {
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) state: AppState,
    pub(super) settings: Settings,
    pub(super) prompt_tokens: usize,
    pub(super) echoes: Vec<Echo>,
    /// Evaluations that score the prompts.
    pub(super) evaluations: u32,
    /// True if text that is far from a hole was left out.
    pub(super) truncated: bool,
}

impl Answer {
    pub(super) fn around<C>(&self, object: &'static str, choices: Vec<C>) -> Completion<C> {
        let model = &self.state.model;
        Completion {
            id: self.id.clone(),
            object,
            created: self.created,
            model: model.id.clone(),
            system_fingerprint: model.fingerprint.clone(),
            choices,
            usage: None,
            diffusion: None,
            diffusion_meta: None,
            obfuscation: None,
        }
    }

    /// The prompt that choice `index` begins with.
    pub(super) fn echo(&self, index: usize) -> Option<&Echo> {
        self.echoes.get(index / self.settings.samples)
    }

    pub(super) fn choice(&self, running: &Running, index: usize) -> Part {
        let text = running.text(index);
        let view = &running.views[index].view;
        let tokenizer = &self.state.model.tokenizer;
        let mut whole = String::new();
        let mut tokens = Vec::new();
        if let Some(echo) = self.echo(index) {
            whole.push_str(&echo.text);
            if let Some(score) = running.scores.get(index / self.settings.samples) {
                tokens = placed(echo.judged(score), 0, true, tokenizer);
            }
        }
        let hole = &view.holes()[0];
        // Harnesses take the last entry behind an echo for the generated token and drop it: it is there also where it ends the text.
        let end = usize::from(self.echo(index).is_some() && text.end == End::Eos);
        let generated = view.judged(hole, 0..text.tokens + end);
        tokens.extend(placed(generated, whole.chars().count(), hole.at_start, tokenizer));
        whole.push_str(&text.text);
        let tokens = self.settings.logprobs.map(|_| tokens);
        Part { first: true, text: whole, tokens, finish_reason: Some(reason(text.end)), ..Part::default() }
    }

    pub(super) fn report(&self, running: &Running, timings: &Timings, kept: usize) -> DiffusionReport {
        let score = self.settings.scoring.map(|scoring| scoring.report(&running.scores, self.evaluations));
        let truncated = self.truncated.then_some(true);
        DiffusionReport {
            score,
            truncated,
            ..DiffusionReport::new(&self.settings, timings, &running.views, kept)
        }
    }

    pub(super) fn whole<D: Dialect>(&self, running: &Running, timings: &Timings) -> Completion<D::Choice> {
        let tokenizer = &self.state.model.tokenizer;
        let choice = |index| D::whole(index, self.choice(running, index), tokenizer);
        let kept = running.kept();
        let report = self.report(running, timings, kept);
        Completion {
            usage: Some(Usage::new(self.prompt_tokens, kept)),
            diffusion: Some(Diffusion::Report(report)),
            ..self.around(D::WHOLE, (0..running.views.len()).map(choice).collect())
        }
    }
}

pub(super) fn reason(end: End) -> &'static str {
    match end {
        End::Full => "length",
        End::Complete | End::Eos | End::Stop => "stop",
    }
}
