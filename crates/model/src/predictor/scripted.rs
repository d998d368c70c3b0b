//! A predictor for tests: instant, deterministic, and it fails when it is told to.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender};

use super::{Ask, MaskPredictor, ModelLimits, Read, TokenId, Want};
use crate::error::PredictError;

/// The faults of a [`ScriptedPredictor`] by call, counted from 0.
#[derive(Debug, Default)]
pub struct Script {
    faults: BTreeMap<usize, Fault>,
    /// Rows of a call that memory is there for.
    memory: Option<usize>,
    gate: Option<Gate>,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Fail,
    Lose,
    Panic,
    DropRead,
}

#[derive(Debug)]
struct Gate {
    seen: SyncSender<Vec<Vec<TokenId>>>,
    permits: Receiver<()>,
}

impl Script {
    /// Fails `call` with [`PredictError::Scripted`].
    #[must_use]
    pub fn fail_at(mut self, call: usize) -> Self {
        self.faults.insert(call, Fault::Fail);
        self
    }

    /// Loses the device at `call`: it and all later ones fail with [`PredictError::DeviceLost`].
    #[must_use]
    pub fn lose_at(mut self, call: usize) -> Self {
        self.faults.insert(call, Fault::Lose);
        self
    }

    /// Fails every call with more than `rows` rows with [`PredictError::OutOfMemory`].
    #[must_use]
    pub fn memory_for(mut self, rows: usize) -> Self {
        self.memory = Some(rows);
        self
    }

    /// Panics at `call`.
    #[must_use]
    pub fn panic_at(mut self, call: usize) -> Self {
        self.faults.insert(call, Fault::Panic);
        self
    }

    /// Leaves the last read of the last canvas out of the answer to `call`.
    #[must_use]
    pub fn drop_read_at(mut self, call: usize) -> Self {
        self.faults.insert(call, Fault::DropRead);
        self
    }

    /// Lets a test step evaluations one at a time: each call sends the tokens of its canvases to `seen`
    /// and then waits for a permit. Dropping the other end of `permits` lets every later call through.
    #[must_use]
    pub fn gate(mut self, seen: SyncSender<Vec<Vec<TokenId>>>, permits: Receiver<()>) -> Self {
        self.gate = Some(Gate { seen, permits });
        self
    }
}

/// Answers every want with a token that is a function of its canvas and itself: of nothing else, so
/// neighbours in a batch make no difference.
#[derive(Debug)]
pub struct ScriptedPredictor {
    limits: ModelLimits,
    script: Script,
    calls: usize,
}

impl ScriptedPredictor {
    /// A predictor for canvases within `limits` that follows `script`.
    #[must_use]
    pub fn new(limits: ModelLimits, script: Script) -> Self {
        Self { limits, script, calls: 0 }
    }
}

impl MaskPredictor for ScriptedPredictor {
    fn limits(&self) -> ModelLimits {
        self.limits
    }

    #[expect(clippy::panic, reason = "the script asks for it")]
    fn predict(&mut self, asks: &[Ask<'_>]) -> Result<Vec<Vec<Read>>, PredictError> {
        let call = self.calls;
        self.calls += 1;
        if let Some(Gate { seen, permits }) = &self.script.gate {
            // A test that has dropped its ends does not watch any more.
            let _ = seen.send(asks.iter().map(|ask| ask.tokens.to_vec()).collect());
            let _ = permits.recv();
        }
        let fault = self.script.faults.get(&call);
        match fault {
            Some(Fault::Fail) => return Err(PredictError::Scripted { call }),
            Some(Fault::Panic) => panic!("scripted panic at call {call}"),
            Some(Fault::DropRead | Fault::Lose) | None => {}
        }
        if self.script.faults.range(..=call).any(|(_, fault)| matches!(fault, Fault::Lose)) {
            return Err(PredictError::DeviceLost { reason: format!("scripted at call {call}") });
        }
        let rows = asks.iter().map(|ask| ask.tokens.len()).sum();
        if self.script.memory.is_some_and(|memory| memory < rows) {
            return Err(PredictError::OutOfMemory { reason: format!("scripted: {rows} rows") });
        }
        let answer = |(ask, number): (&Ask<'_>, usize)| -> Result<Vec<Read>, PredictError> {
            let unreadable = |want: &&Want| {
                want.position as usize >= ask.tokens.len() || (self.limits.shift && want.position == 0)
            };
            if let Some(want) = ask.wants.iter().find(unreadable) {
                return Err(PredictError::Unreadable { ask: number, position: want.position });
            }
            Ok(ask.wants.iter().map(|want| read(ask, want, &self.limits)).collect())
        };
        let mut answers = asks.iter().zip(0..).map(answer).collect::<Result<Vec<_>, _>>()?;
        if let (Some(Fault::DropRead), Some(last)) = (fault, answers.last_mut()) {
            last.pop();
        }
        Ok(answers)
    }
}

fn read(ask: &Ask<'_>, want: &Want, limits: &ModelLimits) -> Read {
    let sampling = ask.samplings.get(want.sampling as usize);
    // At temperature 0 the draw is the most probable token, whatever the random number.
    let greedy = sampling.is_some_and(|sampling| sampling.temperature == 0.0);
    let uniform = if greedy { 0.0 } else { want.uniform };
    let fold = |start, tokens: &[TokenId]| tokens.iter().fold(start, |hash, &id| mix(hash ^ u64::from(id)));
    let guidance = ask.guidance.filter(|guidance| guidance.weight != 0.0);
    let canvas = guidance.iter().fold(fold(0, ask.tokens), |canvas, guidance| {
        fold(mix(canvas ^ guidance.weight.to_bits()), guidance.tokens)
    });
    let belief = mix(canvas ^ u64::from(want.position));
    let hash = mix(belief ^ uniform.to_bits());
    let allowed = want.allowed.and_then(|set| ask.allowed.get(set as usize));
    let excluded = |token: &TokenId| {
        *token == limits.mask_token
            || sampling.is_some_and(|sampling| sampling.banned.contains(token))
            || allowed.is_some_and(|allowed| allowed.binary_search(token).is_err())
    };
    let drawn = (hash % limits.vocabulary as u64) as TokenId;
    let token = cycle(drawn, limits).find(|token| !excluded(token)).unwrap_or(drawn);
    let most_probable = cycle((belief % limits.vocabulary as u64) as TokenId, limits);
    let logprob = nats(hash);
    Read {
        token,
        score: logprob,
        logprob,
        confidence: logprob,
        entropy: -nats(mix(belief)),
        margin: nats(mix(!belief)).exp(),
        target: want.target.map(|target| nats(mix(belief ^ u64::from(target)))),
        // Falling, as the real ones are.
        alternatives: most_probable
            .zip(1..)
            .map(|(token, rank)| (token, -(rank as f32)))
            .take(ask.alternatives)
            .collect(),
    }
}

/// Every token once, from `first` on.
fn cycle(first: TokenId, limits: &ModelLimits) -> impl Iterator<Item = TokenId> {
    (first..limits.vocabulary as TokenId).chain(0..first)
}

/// Some negative number of nats, of as many values as a mantissa holds.
fn nats(hash: u64) -> f32 {
    -((hash >> 40) as f32 / (1_u64 << 22) as f32) - 1e-3
}

/// One step of SplitMix64.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predictor::{Guidance, Sampling};

    const LIMITS: ModelLimits = ModelLimits {
        vocabulary: 8,
        context: 16,
        mask_token: 3,
        shift: true,
        visibility: crate::predictor::Visibility::Full,
    };

    fn wants(positions: std::ops::Range<u32>) -> Vec<Want> {
        positions
            .map(|position| Want { position, uniform: f64::from(position) / 16.0, ..Want::default() })
            .collect()
    }

    #[test]
    fn an_answer_depends_on_its_own_canvas_only() {
        let wants = wants(1..9);
        let samplings = [Sampling::default()];
        let ask = |tokens| Ask { tokens, wants: &wants, samplings: &samplings, ..Ask::default() };
        let asks = [ask(&[1; 9]), ask(&[2; 9])];
        let mut predictor = ScriptedPredictor::new(LIMITS, Script::default());
        let both = predictor.predict(&asks).unwrap();
        assert_eq!(both[1..], predictor.predict(&asks[1..]).unwrap());
        assert_ne!(both[0], both[1]);
        assert!(both.iter().flatten().all(|read| read.token < 8 && read.logprob < 0.0));
    }

    #[test]
    fn the_mask_token_and_banned_tokens_are_never_drawn() {
        let wants = wants(1..16);
        let samplings = [Sampling { banned: vec![0, 1, 2, 5], ..Sampling::default() }];
        let asks = [Ask { tokens: &[3; 16], wants: &wants, samplings: &samplings, ..Ask::default() }];
        let answers = ScriptedPredictor::new(LIMITS, Script::default()).predict(&asks).unwrap();
        assert!(answers[0].iter().all(|read| [4, 6, 7].contains(&read.token)));
    }

    #[test]
    fn guidance_and_allowed_sets_change_the_answer() {
        let wants: Vec<Want> = wants(1..16).iter().map(|want| Want { allowed: Some(0), ..*want }).collect();
        let samplings = [Sampling::default()];
        let allowed = [vec![2, 5]];
        let plain = Ask {
            tokens: &[3; 16],
            wants: &wants,
            samplings: &samplings,
            allowed: &allowed,
            ..Ask::default()
        };
        let guided = |weight| Ask { guidance: Some(Guidance { tokens: &[1; 16], weight }), ..plain };
        let mut predictor = ScriptedPredictor::new(LIMITS, Script::default());
        let answers = predictor.predict(&[plain, guided(0.0), guided(1.5)]).unwrap();
        assert!(answers.iter().flatten().all(|read| [2, 5].contains(&read.token)));
        assert_eq!(answers[0], answers[1]);
        assert_ne!(answers[0], answers[2]);
    }

    #[test]
    fn position_0_of_a_shifted_model_cannot_be_read() {
        let wants = wants(0..2);
        let samplings = [Sampling::default()];
        let asks = [Ask { tokens: &[3; 2], wants: &wants, samplings: &samplings, ..Ask::default() }];
        let error = ScriptedPredictor::new(LIMITS, Script::default()).predict(&asks).unwrap_err();
        assert!(matches!(error, PredictError::Unreadable { ask: 0, position: 0 }));
    }

    #[test]
    fn the_script_is_followed_call_by_call() {
        let wants = wants(1..3);
        let samplings = [Sampling::default()];
        let asks = [Ask { tokens: &[3; 3], wants: &wants, samplings: &samplings, ..Ask::default() }];
        let mut predictor = ScriptedPredictor::new(LIMITS, Script::default().fail_at(0).drop_read_at(1));
        assert!(matches!(predictor.predict(&asks), Err(PredictError::Scripted { call: 0 })));
        assert_eq!(predictor.predict(&asks).unwrap()[0].len(), 1);
        assert_eq!(predictor.predict(&asks).unwrap()[0].len(), 2);
    }
}
