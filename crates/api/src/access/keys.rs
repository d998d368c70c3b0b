//! API keys: where they come from, and whose key a request carries.
//!
//! Only digests are kept. A given key is compared with all of them in constant time, so that nothing about
//! the others can be learned from how long a refusal takes.

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use axum::http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::quota::Allowance;
use crate::input::read_settings;
use crate::values::Secret;

/// Longest key, in bytes; what is longer in a header is no key.
const LONGEST_KEY: usize = 512;

/// Longest name of a key.
const LONGEST_NAME: usize = 64;

/// The name of the key that `UNMASK_API_KEY` holds.
const OF_VARIABLE: &str = "default";

/// Why keys cannot be used. Lines are named by number: what they say is secret.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read the key file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line is not a key.
    #[error("{}, line {line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The fault.
        problem: &'static str,
    },
    /// The file is empty.
    #[error("{} holds no key; write one `name:key` per line", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The variable is not a key.
    #[error("UNMASK_API_KEY: {problem}; unset it if no key is wanted")]
    Variable {
        /// The fault.
        problem: &'static str,
    },
}

/// A key's SHA-256. There is no `==` for it: it is compared in constant time or not at all.
#[derive(Clone, Debug)]
struct Digest([u8; 32]);

impl Digest {
    fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }
}

impl ConstantTimeEq for Digest {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.as_slice().ct_eq(other.0.as_slice())
    }
}

/// A key, without the key.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// The owner. Two keys may share a name while one replaces the other.
    pub(super) name: Arc<str>,
    digest: Digest,
    /// The quotas of its line.
    pub(super) allowance: Allowance,
}

/// The keys in use and where they come from.
pub(super) struct Keys {
    file: Option<PathBuf>,
    variable: Option<Secret>,
    current: RwLock<Arc<[Key]>>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Keys {
    /// The keys of a file and of the variable; `None` when there is neither.
    pub(super) fn open(file: Option<PathBuf>, variable: Option<Secret>) -> Result<Option<Self>, KeyError> {
        if file.is_none() && variable.is_none() {
            return Ok(None);
        }
        let current = RwLock::new(read(file.as_deref(), variable.as_ref())?);
        Ok(Some(Self { file, variable, current }))
    }

    /// The file of the keys, which can change.
    pub(super) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Reads them again: how many there are. After an error the old ones stay.
    pub(super) fn reload(&self) -> Result<usize, KeyError> {
        let keys = read(self.file.as_deref(), self.variable.as_ref())?;
        let count = keys.len();
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(count)
    }

    /// The first key of a request that is one of these.
    pub(super) fn of(&self, headers: &HeaderMap) -> Option<Key> {
        let keys = Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner));
        given(headers).into_iter().flatten().find_map(|given| find(&keys, given).cloned())
    }
}

/// The keys that a request gives: `Authorization: Bearer`, and `x-api-key`.
pub(super) fn given(headers: &HeaderMap) -> [Option<&[u8]>; 2] {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.as_bytes().split_at_checked("bearer ".len())?;
        scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
    });
    let own = headers.get("x-api-key").map(|value| value.as_bytes().trim_ascii());
    [bearer, own]
}

fn find<'a>(keys: &'a [Key], given: &[u8]) -> Option<&'a Key> {
    if given.len() > LONGEST_KEY {
        return None;
    }
    let given = Digest::of(given);
    keys.get(place(keys.iter().map(|key| &key.digest), &given)?)
}

/// The place of `given` in `known`, found in constant time: it is compared with all of them, and the place is
/// kept without a branch.
fn place<'a, T: ConstantTimeEq + 'a>(known: impl Iterator<Item = &'a T>, given: &T) -> Option<usize> {
    let mut found = u64::MAX;
    for (number, one) in known.enumerate() {
        found.conditional_assign(&(number as u64), one.ct_eq(given));
    }
    usize::try_from(found).ok().filter(|place| *place < usize::MAX)
}

fn read(file: Option<&Path>, variable: Option<&Secret>) -> Result<Arc<[Key]>, KeyError> {
    let mut keys = Vec::new();
    if let Some(Secret(key)) = variable {
        let problem = |problem| KeyError::Variable { problem };
        let digest = checked(key).map_err(problem)?;
        keys.push(Key { name: OF_VARIABLE.into(), digest, allowance: Allowance::default() });
    }
    if let Some(path) = file {
        let text =
            read_settings(path).map_err(|source| KeyError::Unreadable { path: path.to_owned(), source })?;
        let before = keys.len();
        parse(&text, &mut keys).map_err(|(line, problem)| KeyError::Line {
            path: path.to_owned(),
            line,
            problem,
        })?;
        if keys.len() == before {
            return Err(KeyError::Empty { path: path.to_owned() });
        }
    }
    Ok(keys.into())
}

/// Lines of `name:key`, maybe followed by `requests=N` and `tokens=N`; empty ones and comments aside.
fn parse(text: &str, keys: &mut Vec<Key>) -> Result<(), (usize, &'static str)> {
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let key = parse_line(line).map_err(|problem| (number + 1, problem))?;
        if place(keys.iter().map(|other| &other.digest), &key.digest).is_some() {
            return Err((number + 1, "this key is there twice"));
        }
        keys.push(key);
    }
    Ok(())
}

fn parse_line(line: &str) -> Result<Key, &'static str> {
    let (name, rest) = line.split_once(':').ok_or("it is not `name:key`")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !(1..=LONGEST_NAME).contains(&name.len()) || !name.chars().all(plain) {
        return Err("a name is 1 to 64 letters, digits, dots, underscores and hyphens");
    }
    let mut words = rest.split_ascii_whitespace();
    let digest = checked(words.next().unwrap_or_default())?;
    let mut allowance = Allowance::default();
    for word in words {
        let problem = "after the key there can be requests=N and tokens=N, each of at least 1 a minute";
        let (what, number) = word.split_once('=').ok_or(problem)?;
        let field = match what {
            "requests" => &mut allowance.requests,
            "tokens" => &mut allowance.tokens,
            _ => return Err(problem),
        };
        *field = Some(number.parse().map_err(|_| problem)?);
    }
    Ok(Key { name: name.into(), digest, allowance })
}

fn checked(key: &str) -> Result<Digest, &'static str> {
    if key.is_empty() || key.len() > LONGEST_KEY || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a key is 1 to 512 visible ASCII characters");
    }
    Ok(Digest::of(key.as_bytes()))
}
