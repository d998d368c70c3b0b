//! The requests of a run, with their times and readers: drawn from a seed before the first one is sent, so
//! that two servers, or two versions of one, can be given the same load.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde::Serialize;

use crate::call::{Call, Route};
use crate::shares::Shares;

/// The composition of the load.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// The trace is a function of the seed, of these settings and of what the model has room for.
    pub seed: u64,
    /// The routes of requests.
    pub mix: Shares<Route>,
    /// The numbers of positions to generate. Sizes that the model has no room for are left out.
    pub sizes: Shares<u32>,
    /// Share of requests that ask for a stream, from 0 to 1.
    pub streamed: f64,
    /// Share of clients that go away before the end.
    pub vanishing: f64,
    /// Share of clients that read slowly; they always stream.
    pub slow: f64,
}

impl Load {
    /// The same load when every client stays and reads at once.
    #[must_use]
    pub fn patient(&self) -> Self {
        Self { vanishing: 0.0, slow: 0.0, ..self.clone() }
    }
}

/// The sizes of requests that the model has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Room {
    /// Positions of text and canvas together.
    pub context: u32,
    /// Positions that one request may generate.
    pub canvas: u32,
}

/// A client's way of reading its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reader {
    /// At once.
    Steady,
    /// With a pause after every event, and with little room for what waits meanwhile.
    Slow(Duration),
    /// Closes the connection after so many denoising states.
    VanishAfterStates(u32),
    /// Closes the connection so long after the request was due, whatever has come by then.
    VanishAfter(Duration),
}

/// A request of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// From 0, in the order of sending.
    pub number: usize,
    /// When it is due, from the start of the run.
    pub at: Duration,
    /// The request.
    pub call: Call,
    /// True if the answer is streamed.
    pub streamed: bool,
    /// The client's way of reading the answer.
    pub reader: Reader,
}

/// No size of the mix fits the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no canvas of the given sizes fits a context of {} positions", .0.context)]
pub struct NothingFits(Room);

/// An endless trace: Poisson arrivals at a rate.
#[derive(Debug)]
pub struct Trace {
    rng: ChaCha8Rng,
    load: Load,
    room: Room,
    rate: f64,
    number: usize,
    clock: f64,
}

/// Bytes of text around a canvas. A byte is at least a part of a token, so that what fits in bytes fits
/// in positions.
const TEXT_BYTES: [usize; 3] = [16, 64, 256];
/// Positions beside text and canvas: a document start, and pieces that a tokenizer adds.
const SPARE: u32 = 4;

const WORDS: [&str; 24] = [
    "the", "harbour", "was", "quiet", "before", "a", "lamp", "went", "out", "and", "everyone", "on", "board",
    "knew", "why", "return", "value", "if", "list", "is", "empty", "for", "each", "line",
];

impl Trace {
    /// A trace at `rate` requests a second.
    ///
    /// # Errors
    /// If no size of the load fits into `room`.
    pub fn new(load: &Load, room: Room, rate: f64) -> Result<Self, NothingFits> {
        let least = SPARE + TEXT_BYTES[0] as u32;
        let sizes = load.sizes.filter(|canvas| canvas <= room.canvas && canvas + least <= room.context);
        let load = Load { sizes: sizes.ok_or(NothingFits(room))?, ..load.clone() };
        Ok(Self { rng: ChaCha8Rng::seed_from_u64(load.seed), load, room, rate, number: 0, clock: 0.0 })
    }

    /// All requests that are due within `window`.
    #[must_use]
    pub fn within(self, window: Duration) -> Vec<Planned> {
        self.take_while(|planned| planned.at < window).collect()
    }

    fn uniform(&mut self) -> f64 {
        // 53 bits: as many as a double keeps.
        (self.rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn between(&mut self, least: f64, most: f64) -> f64 {
        least + (most - least) * self.uniform()
    }

    fn call(&mut self) -> Call {
        let uniform = self.uniform();
        let route = self.load.mix.pick(uniform);
        let uniform = self.uniform();
        let canvas = self.load.sizes.pick(uniform);
        let room = (self.room.context - canvas - SPARE) as usize;
        let wanted = TEXT_BYTES[(self.uniform() * TEXT_BYTES.len() as f64) as usize];
        let mut before = self.words(wanted.min(room));
        let after = match route {
            Route::Completion => String::new(),
            Route::Fill => before.split_off(before.len() * 2 / 3),
        };
        Call { route, canvas, before, after, seed: self.rng.next_u32() }
    }

    fn words(&mut self, bytes: usize) -> String {
        let mut text = String::new();
        while text.len() < bytes {
            text.push_str(WORDS[(self.uniform() * WORDS.len() as f64) as usize]);
            text.push(' ');
        }
        // ASCII: every byte is a place to cut.
        text.truncate(bytes);
        text
    }

    fn reader(&mut self, canvas: u32) -> Reader {
        let kind = self.uniform();
        if kind < self.load.slow {
            Reader::Slow(Duration::from_secs_f64(self.between(0.02, 0.2)))
        } else if kind < self.load.slow + self.load.vanishing {
            if self.uniform() < 0.5 {
                // At most half of the states that there can be: the rest would have followed.
                let most = f64::from(canvas.min(64) / 2);
                Reader::VanishAfterStates(self.between(1.0, most.max(1.0)) as u32)
            } else {
                Reader::VanishAfter(Duration::from_secs_f64(self.between(0.0, 1.0)))
            }
        } else {
            Reader::Steady
        }
    }
}

impl Iterator for Trace {
    type Item = Planned;

    fn next(&mut self) -> Option<Planned> {
        // The gaps of a Poisson process are exponential; 1 − u is never 0.
        self.clock += -(1.0 - self.uniform()).ln() / self.rate;
        let call = self.call();
        let reader = self.reader(call.canvas);
        let needs_stream = matches!(reader, Reader::Slow(_) | Reader::VanishAfterStates(_));
        let streamed = self.uniform() < self.load.streamed || needs_stream;
        let number = self.number;
        self.number += 1;
        let at = Duration::try_from_secs_f64(self.clock).unwrap_or(Duration::MAX);
        Some(Planned { number, at, call, streamed, reader })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room { context: 1024, canvas: 512 };

    fn load(seed: u64) -> Load {
        Load {
            seed,
            mix: "completion=0.5,fill=0.5".parse().unwrap(),
            sizes: "8=0.5,32=0.3,128=0.2".parse().unwrap(),
            streamed: 0.5,
            vanishing: 0.1,
            slow: 0.2,
        }
    }

    #[test]
    fn a_seed_repeats_its_trace() {
        let trace = |seed| Trace::new(&load(seed), ROOM, 10.0).unwrap().within(Duration::from_secs(20));
        assert_eq!(trace(1), trace(1), "two servers could not be given the same load");
        assert_ne!(trace(1), trace(2));
    }

    #[test]
    fn arrivals_are_a_poisson_process() {
        let rate = 50.0;
        let trace = Trace::new(&load(3), ROOM, rate).unwrap().within(Duration::from_secs(400));
        let gaps: Vec<f64> = trace.windows(2).map(|pair| (pair[1].at - pair[0].at).as_secs_f64()).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // About 20,000 gaps: one standard error of the mean is 0.7 %, of the deviation about 1 %.
        assert!((mean * rate - 1.0).abs() < 0.03, "the mean gap is {mean}");
        assert!((variance.sqrt() * rate - 1.0).abs() < 0.05, "exponential gaps deviate by their mean");
        let long = gaps.iter().filter(|gap| **gap > 1.0 / rate).count() as f64 / gaps.len() as f64;
        assert!((long - (-1.0_f64).exp()).abs() < 0.02, "e⁻¹ of the gaps are longer than the mean: {long}");
    }

    #[test]
    fn the_shares_are_kept() {
        let trace: Vec<Planned> = Trace::new(&load(4), ROOM, 1.0).unwrap().take(20_000).collect();
        let share = |holds: fn(&Planned) -> bool| {
            trace.iter().filter(|planned| holds(planned)).count() as f64 / trace.len() as f64
        };
        let close = |share: f64, wanted: f64| (share - wanted).abs() < 0.02;
        assert!(close(share(|planned| planned.call.route == Route::Fill), 0.5));
        assert!(close(share(|planned| planned.call.canvas == 128), 0.2));
        assert!(close(share(|planned| matches!(planned.reader, Reader::Slow(_))), 0.2));
        let vanishing = |planned: &Planned| !matches!(planned.reader, Reader::Slow(_) | Reader::Steady);
        assert!(close(share(vanishing), 0.1));
        assert!(trace.iter().all(|planned| planned.streamed || !matches!(planned.reader, Reader::Slow(_))));
        assert!(load(4).patient().vanishing == 0.0 && load(4).patient().slow == 0.0);
    }

    #[test]
    fn every_request_fits_the_model() {
        let small = Room { context: 100, canvas: 64 };
        for planned in Trace::new(&load(5), small, 1.0).unwrap().take(1000) {
            let Call { canvas, before, after, .. } = planned.call;
            assert!(before.len() + after.len() + canvas as usize + SPARE as usize <= 100);
            assert!(!before.is_empty() && canvas <= 64, "a canvas of 128 is left out");
        }
        let none = Room { context: 20, canvas: 20 };
        assert_eq!(Trace::new(&load(5), none, 1.0).err(), Some(NothingFits(none)));
    }
}
