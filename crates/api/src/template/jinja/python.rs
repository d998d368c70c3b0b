//! Methods of Python's strings, and filters and functions of Jinja2, that chat templates call and the libraries here
//! do not have.

use minijinja::value::{Kwargs, Rest};
use minijinja::{Environment, Error, ErrorKind, State, Value};

/// Bytes that one call may pad a text to.
const WIDEST: usize = 1 << 16;

/// Adds the filters and functions, and answers calls of unknown methods.
pub(super) fn extend(environment: &mut Environment<'_>) {
    environment.set_unknown_method_callback(call);
    environment
        .add_filter("center", |text: String, width: Option<usize>| center(&text, width.unwrap_or(80), ' '));
    environment.add_filter("wordcount", |text: String| word_count(&text));
    environment.add_function("joiner", minijinja_contrib::globals::joiner);
    environment.add_function("cycler", |Rest(items): Rest<Value>| minijinja_contrib::globals::cycler(items));
}

fn call(state: &mut State<'_, '_>, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    match value.as_str() {
        Some(text) => match on_text(text, method, args)? {
            Some(found) => Ok(found),
            None => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args),
        },
        None => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args),
    }
}

/// The result of a method, `None` if it is none of these.
fn on_text(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    use minijinja::value::from_args;

    Ok(Some(match method {
        "ljust" | "rjust" | "center" => {
            let (width, fill): (usize, Option<char>) = from_args(args)?;
            let fill = fill.unwrap_or(' ');
            match method {
                "ljust" => padded(text, 0, missing(text, width)?, fill),
                "rjust" => padded(text, missing(text, width)?, 0, fill),
                _ => center(text, width, fill)?,
            }
            .into()
        }
        "zfill" => {
            let (width,): (usize,) = from_args(args)?;
            let signed = text.starts_with(['+', '-']);
            let (sign, digits) = text.split_at(usize::from(signed));
            format!("{sign}{}{digits}", "0".repeat(missing(text, width)?)).into()
        }
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            if separator.is_empty() {
                return Err(Error::new(ErrorKind::InvalidOperation, "empty separator"));
            }
            let split =
                if method == "partition" { text.split_once(separator) } else { text.rsplit_once(separator) };
            let parts = match split {
                Some((before, after)) => [before, separator, after],
                None if method == "partition" => [text, "", ""],
                None => ["", "", text],
            };
            parts.into_iter().map(Value::from).collect()
        }
        "rsplit" => {
            let (Rest(positional), named): (Rest<Value>, Kwargs) = from_args(args)?;
            let given = |at: usize, name: &str| -> Result<Option<Value>, Error> {
                let named: Option<Value> = named.get(name)?;
                Ok(positional.get(at).cloned().or(named).filter(|value| !value.is_none()))
            };
            let separator = given(0, "sep")?.map(|separator| separator.to_string());
            let most = given(1, "maxsplit")?.map(i64::try_from).transpose()?;
            let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
            named.assert_all_used()?;
            rsplit(text, separator.as_deref(), most)?
        }
        "removeprefix" | "removesuffix" => {
            let (part,): (&str,) = from_args(args)?;
            let rest =
                if method == "removeprefix" { text.strip_prefix(part) } else { text.strip_suffix(part) };
            rest.unwrap_or(text).into()
        }
        "casefold" => text.to_lowercase().into(),
        "swapcase" => text.chars().flat_map(swapped).collect::<String>().into(),
        _ => return Ok(None),
    }))
}

/// Characters that a text lacks of a width.
fn missing(text: &str, width: usize) -> Result<usize, Error> {
    if width > WIDEST {
        let reason = format!("a width of {width}; at most {WIDEST}");
        return Err(Error::new(ErrorKind::InvalidOperation, reason));
    }
    Ok(width.saturating_sub(text.chars().count()))
}

fn padded(text: &str, before: usize, after: usize, fill: char) -> String {
    let fill = |count| std::iter::repeat_n(fill, count);
    fill(before).chain(text.chars()).chain(fill(after)).collect()
}

/// Centres a text as Python does: of an odd rest, the left gets more where the width is odd.
fn center(text: &str, width: usize, fill: char) -> Result<String, Error> {
    let rest = missing(text, width)?;
    let before = rest / 2 + (rest & width & 1);
    Ok(padded(text, before, rest - before, fill))
}

/// Stretches of letters, digits and underscores.
fn word_count(text: &str) -> usize {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).count()
}

/// The parts of a text, of which the leftmost keeps what is not split any more.
fn rsplit(text: &str, separator: Option<&str>, most: usize) -> Result<Value, Error> {
    let mut parts: Vec<&str> = match separator {
        Some("") => return Err(Error::new(ErrorKind::InvalidOperation, "empty separator")),
        Some(separator) => text.rsplitn(most.saturating_add(1), separator).collect(),
        None => {
            let mut parts = Vec::new();
            let mut rest = text.trim_end();
            while parts.len() < most && !rest.is_empty() {
                let at = rest
                    .rfind(char::is_whitespace)
                    .map_or(0, |at| at + rest[at..].chars().next().map_or(0, char::len_utf8));
                parts.push(&rest[at..]);
                rest = rest[..at].trim_end();
            }
            if !rest.is_empty() {
                parts.push(rest);
            }
            parts
        }
    };
    parts.reverse();
    Ok(parts.into_iter().map(Value::from).collect())
}

fn swapped(c: char) -> Vec<char> {
    if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect() }
}
