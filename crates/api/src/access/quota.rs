//! Quotas of a client per minute: token buckets, of requests and of tokens.
//!
//! A bucket holds a minute's allowance and fills evenly. Time is an argument.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::{Client, Identity};
use crate::error::ApiError;

/// The quotas of a client per minute; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Requests with a body.
    pub requests: Option<NonZeroU32>,
    /// Tokens: those given and those to be generated, of every canvas.
    pub tokens: Option<NonZeroU32>,
}

impl Allowance {
    /// These quotas, with the other's where this has none.
    pub(super) fn or(self, other: Self) -> Self {
        Self { requests: self.requests.or(other.requests), tokens: self.tokens.or(other.tokens) }
    }

    fn limited(self) -> bool {
        self != Self::default()
    }
}

/// The token buckets of all clients.
///
/// Each client has one bucket of requests and one of tokens. A bucket holds a minute's quota and fills evenly, so a
/// client that has been idle may use a minute's quota at once. [`Self::count_request`] and [`Self::count_tokens`] take
/// from a bucket or refuse with the time until there is enough; [`Self::give_back`] returns tokens that were not computed
/// after all. Accounts that are full again are dropped, so addresses that come once take no memory. Time is an argument
/// of every function. The tests at the bottom of this file show a bucket emptied and filled.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    accounts: Mutex<Accounts>,
}

#[derive(Debug, Default)]
struct Accounts {
    of: HashMap<Identity, Account>,
    /// The most accounts before full ones are dropped.
    room: usize,
}

/// The number of accounts from which full ones are looked for.
const FEW: usize = 1024;

#[derive(Debug)]
struct Account {
    requests: Bucket,
    tokens: Bucket,
}

impl Quotas {
    /// Takes one request from a client's bucket.
    ///
    /// # Errors
    /// The bucket is empty.
    pub(super) fn count_request(&self, client: &Client, now: Instant) -> Result<(), ApiError> {
        self.take(client, "requests", client.allowance.requests, 1, now, |account| &mut account.requests)
    }

    /// Takes `tokens` that are about to be computed.
    ///
    /// # Errors
    /// The bucket holds fewer now, or never holds as many.
    pub(super) fn count_tokens(&self, client: &Client, tokens: u64, now: Instant) -> Result<(), ApiError> {
        self.take(client, "tokens", client.allowance.tokens, tokens, now, |account| &mut account.tokens)
    }

    /// Takes `tokens` that were computed, or all that are left.
    pub(super) fn spend(&self, client: &Client, tokens: u64, now: Instant) {
        if let Some(limit) = client.allowance.tokens {
            self.lock().account(client, now).tokens.spend(tokens, limit, now);
        }
    }

    /// Returns tokens that were not computed after all.
    pub(super) fn give_back(&self, client: &Client, tokens: u64, now: Instant) {
        if let Some(limit) = client.allowance.tokens {
            self.lock().account(client, now).tokens.put_back(tokens, limit);
        }
    }

    fn take(
        &self,
        client: &Client,
        what: &'static str,
        limit: Option<NonZeroU32>,
        amount: u64,
        now: Instant,
        bucket: fn(&mut Account) -> &mut Bucket,
    ) -> Result<(), ApiError> {
        let Some(limit) = limit else { return Ok(()) };
        if amount > u64::from(limit.get()) {
            return Err(ApiError::OverQuota { what, needed: amount, limit: limit.get() });
        }
        let taken = bucket(self.lock().account(client, now)).take(amount, limit, now);
        taken.map_err(|wait| ApiError::RateLimited { what, limit: limit.get(), wait })
    }

    /// Writes the remaining quotas into an answer's headers.
    pub(super) fn describe(&self, client: &Client, headers: &mut HeaderMap, now: Instant) {
        let Allowance { requests, tokens } = client.allowance;
        if !client.allowance.limited() {
            return;
        }
        let mut accounts = self.lock();
        let account = accounts.account(client, now);
        let mut insert = |name, value| headers.insert(HeaderName::from_static(name), value);
        if let Some(limit) = requests {
            let (left, full) = account.requests.state(limit, now);
            insert("x-ratelimit-limit-requests", limit.get().into());
            insert("x-ratelimit-remaining-requests", left.into());
            insert("x-ratelimit-reset-requests", seconds(full));
        }
        if let Some(limit) = tokens {
            let (left, full) = account.tokens.state(limit, now);
            insert("x-ratelimit-limit-tokens", limit.get().into());
            insert("x-ratelimit-remaining-tokens", left.into());
            insert("x-ratelimit-reset-tokens", seconds(full));
        }
    }

    /// Plain numbers; a panic elsewhere leaves none half written.
    fn lock(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A time in the format of OpenAI's headers.
fn seconds(time: Duration) -> HeaderValue {
    let text = format!("{}s", time.as_millis() as f64 / 1e3);
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("0s"))
}

impl Accounts {
    /// A client's account; a new one is full. A full one says no more than none, so they are forgotten.
    fn account(&mut self, client: &Client, now: Instant) -> &mut Account {
        if self.of.len() > self.room.max(FEW) {
            self.of.retain(|_, account| !account.requests.rested(now) || !account.tokens.rested(now));
            self.room = self.of.len() * 2;
        }
        self.of
            .entry(client.identity.clone())
            .or_insert_with(|| Account { requests: Bucket::default(), tokens: Bucket::default() })
    }
}

/// The deficit of a bucket that counts as none: levels are sums of fractions.
const ROUNDING: f64 = 1e-6;

/// The deficit of a bucket, and its time.
#[derive(Debug, Default)]
struct Bucket {
    missing: f64,
    at: Option<Instant>,
}

impl Bucket {
    fn fill(&mut self, limit: NonZeroU32, now: Instant) {
        let passed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let limit = f64::from(limit.get());
        self.missing = (self.missing.min(limit) - passed.as_secs_f64() * limit / 60.0).max(0.0);
        self.at = Some(now);
    }

    /// Takes `amount`, or says how long it takes until that is there.
    fn take(&mut self, amount: u64, limit: NonZeroU32, now: Instant) -> Result<(), Duration> {
        self.fill(limit, now);
        let limit = f64::from(limit.get());
        let over = self.missing + amount as f64 - limit;
        if over > ROUNDING {
            return Err(time(over, limit));
        }
        self.missing += amount as f64;
        Ok(())
    }

    fn spend(&mut self, amount: u64, limit: NonZeroU32, now: Instant) {
        self.fill(limit, now);
        self.missing = (self.missing + amount as f64).min(f64::from(limit.get()));
    }

    fn put_back(&mut self, amount: u64, limit: NonZeroU32) {
        self.missing = (self.missing - amount as f64).clamp(0.0, f64::from(limit.get()));
    }

    /// The remaining amount, and the time until the bucket is full.
    fn state(&mut self, limit: NonZeroU32, now: Instant) -> (u32, Duration) {
        self.fill(limit, now);
        let limit = f64::from(limit.get());
        ((limit - self.missing + ROUNDING) as u32, time(self.missing, limit))
    }

    /// Returns true if a minute has passed, in which any bucket fills.
    fn rested(&self, now: Instant) -> bool {
        self.at.is_none_or(|at| now.saturating_duration_since(at) >= Duration::from_secs(60))
    }
}

/// The time to fill by `amount`, in whole milliseconds.
fn time(amount: f64, limit: f64) -> Duration {
    Duration::from_millis((amount * 60_000.0 / limit).ceil() as u64)
}
