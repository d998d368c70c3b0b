//! Limits of requests.

use std::time::Duration;

use crate::policy::KvCacheName;

/// Bytes of a request's head; more is 431, without our error object.
pub(crate) const HEAD: usize = 16 * 1024;

/// Headers of a request over HTTP/1.1; more are 431 too. HTTP/2 has no such count: each header takes 32 bytes of
/// [`HEAD`] beside its own there, so that there are fewer than 512.
pub(crate) const HEADERS: usize = 64;

/// Limits of a request; all of them configurable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request body.
    pub body_bytes: usize,
    /// T.
    pub steps: u32,
    /// Answers per prompt.
    pub samples: usize,
    /// Prompts per request.
    pub prompts: usize,
    /// Positions to generate per sample.
    pub canvas: usize,
    /// Keys and values that requests keep where they say nothing.
    pub kv_cache: Option<KvCacheName>,
    /// Stop strings, and bytes of each.
    pub stops: (usize, usize),
    /// (prompt + canvas) × evaluations × samples.
    pub cost: u64,
    /// For the body to arrive.
    pub body_time: Duration,
    /// Refuse fields that a route does not know, on every route.
    pub strict_params: bool,
    /// Time from arrival to the end; `None` follows from what the request would take alone.
    pub timeout: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 2 * 1024 * 1024,
            steps: 512,
            samples: 8,
            prompts: 64,
            canvas: 1024,
            kv_cache: None,
            stops: (32, 256),
            cost: 8_000_000,
            body_time: Duration::from_secs(30),
            strict_params: false,
            timeout: None,
        }
    }
}
