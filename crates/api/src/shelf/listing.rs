//! The table that `unmask models` prints.

use std::fmt::Write as _;

use serde::Serialize;
use unicode_width::UnicodeWidthStr;
use unmask_model::backbone::Network;
use unmask_model::kernel::CpuFeatures;

use super::cache::Cached;
use super::known::{KNOWN, KnownModel};
use super::machine::evaluation_rows;
use super::size::{Dtype, gigabytes, memory, millions};

/// One model as it is listed.
#[derive(Debug, Serialize)]
pub(super) struct Listed {
    pub(super) name: &'static str,
    hub: &'static str,
    about: &'static str,
    family: &'static str,
    pub(super) parameters: usize,
    pub(super) context: usize,
    licence: &'static str,
    /// Computed from the shape and the type of its tensors.
    pub(super) download_bytes: usize,
    pub(super) memory_bytes: MemoryByType,
    /// The precisions in which it fits this machine; null where the system does not tell its memory.
    pub(super) fits: Option<Vec<&'static str>>,
    cached: bool,
}

/// Bytes of main memory by precision.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct MemoryByType {
    pub(super) f32: usize,
    pub(super) bf16: usize,
    pub(super) int8: usize,
    /// Of a GGUF file of this type, its map included.
    pub(super) q4_k_m: Option<usize>,
}

impl Listed {
    pub(super) fn new(model: &KnownModel, cached: &[Cached], available: Option<usize>) -> Self {
        let network = model.network();
        let cpu = CpuFeatures::detect();
        let total =
            |network: &Network, dtype| memory(network, dtype, cpu, evaluation_rows(model.context)).total();
        let memory_bytes = MemoryByType {
            f32: total(&network, Dtype::F32),
            bf16: total(&network, Dtype::Bf16),
            int8: total(&network, Dtype::Int8),
            q4_k_m: model.in_q4_k_m().map(|network| total(&network, Dtype::Bf16)),
        };
        Self {
            name: model.name,
            hub: model.hub,
            about: model.about,
            family: model.family().name,
            parameters: network.parameters(),
            context: model.context,
            licence: model.licence,
            download_bytes: network.stored_bytes(),
            memory_bytes,
            fits: available.map(|available| memory_bytes.within(available)),
            cached: cached.iter().any(|cached| cached.name.eq_ignore_ascii_case(model.hub)),
        }
    }
}

impl MemoryByType {
    fn named(self) -> [(&'static str, Option<usize>); 4] {
        let Self { f32, bf16, int8, q4_k_m } = self;
        [("f32", Some(f32)), ("bf16", Some(bf16)), ("int8", Some(int8)), ("Q4_K_M", q4_k_m)]
    }

    /// The precisions that take at most `available` bytes.
    fn within(self, available: usize) -> Vec<&'static str> {
        let fits = |bytes: Option<usize>| bytes.is_some_and(|bytes| bytes <= available);
        self.named().into_iter().filter(|(_, bytes)| fits(*bytes)).map(|(name, _)| name).collect()
    }
}

/// All known models.
pub(super) fn list(cached: &[Cached], available: Option<usize>) -> Vec<Listed> {
    KNOWN.iter().map(|model| Listed::new(model, cached, available)).collect()
}

/// The models as a table, two lines each, at most 100 columns wide.
pub(super) fn table(models: &[Listed], cached: &[Cached], available: Option<usize>) -> String {
    let heads =
        ["NAME", "PARAMETERS", "CONTEXT", "LICENCE", "DOWNLOAD", "F32", "BF16", "INT8", "Q4_K_M", "FITS"];
    let mut rows = vec![heads.map(str::to_owned)];
    for model in models {
        let memory = model.memory_bytes.named().map(|(_, bytes)| bytes.map_or("-".to_owned(), gigabytes));
        let [f32, bf16, int8, q4] = memory;
        rows.push([
            format!("{}{}", model.name, if model.cached { " *" } else { "" }),
            millions(model.parameters),
            model.context.to_string(),
            model.licence.to_owned(),
            gigabytes(model.download_bytes),
            f32,
            bf16,
            int8,
            q4,
            fits(model),
        ]);
    }
    let widths: Vec<usize> = (0..heads.len())
        .map(|column| rows.iter().map(|row| row[column].width()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
        if let Some(model) = number.checked_sub(1).map(|number| &models[number]) {
            let _ = writeln!(text, "    {}: {}", model.hub, model.about);
        }
    }
    let _ = writeln!(text, "\n{}", explanation(available));
    let others: Vec<&Cached> = cached.iter().filter(|cached| super::known(&cached.name).is_none()).collect();
    if !others.is_empty() {
        let _ = writeln!(text, "\nOther models in the cache:");
    }
    for other in others {
        let size = usize::try_from(other.bytes).unwrap_or(usize::MAX);
        let _ = writeln!(text, "    {}  {}", other.name, gigabytes(size));
    }
    text
}

/// The widest of what fits, or no.
fn fits(model: &Listed) -> String {
    match model.fits.as_deref() {
        None => "?".to_owned(),
        Some([]) => "no".to_owned(),
        Some(all)
            if all.len()
                == model.memory_bytes.named().iter().filter(|(_, bytes)| bytes.is_some()).count() =>
        {
            "yes".to_owned()
        }
        Some(some) => some.join(" "),
    }
}

fn explanation(available: Option<usize>) -> String {
    let available = available.map_or("unknown".to_owned(), gigabytes);
    format!(
        "* in the cache. Available memory: {available}. Download and memory are computed from the model's\n\
         shape. Memory is that of a server on this machine's CPU, by --dtype; Q4_K_M is a GGUF file."
    )
}

/// One model in full.
pub(super) fn details(model: &Listed, cached: Option<&Cached>) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("name", model.name.to_owned()),
        ("hub name", model.hub.to_owned()),
        ("about", model.about.to_owned()),
        ("family", model.family.to_owned()),
        ("parameters", format!("{} ({})", model.parameters, millions(model.parameters))),
        ("context", format!("{} tokens", model.context)),
        ("licence", format!("{}, as its card names it", model.licence)),
        ("download", format!("{} (computed)", gigabytes(model.download_bytes))),
    ];
    for (name, bytes) in model.memory_bytes.named() {
        let label = match name {
            "f32" => "memory, f32",
            "bf16" => "memory, bf16",
            "int8" => "memory, int8",
            _ => "memory, Q4_K_M",
        };
        lines.extend(bytes.map(|bytes| (label, gigabytes(bytes))));
    }
    lines.push(("fits", fits(model)));
    lines.extend(cached.map(cache_lines).unwrap_or_else(|| vec![("cache", "not in the cache".to_owned())]));
    lines
}

/// A model in the cache.
pub(super) fn cache_lines(cached: &Cached) -> Vec<(&'static str, String)> {
    let size = usize::try_from(cached.bytes).unwrap_or(usize::MAX);
    let mut lines = vec![("cache", format!("{}, {}", cached.folder.display(), gigabytes(size)))];
    lines.extend(
        cached.revisions.iter().map(|(name, commit)| ("revision", format!("{name}, commit {commit}"))),
    );
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_narrow_and_tells_what_fits() {
        let cached = [Cached {
            name: "diffusionfamily/diffugpt-s".to_owned(),
            folder: "/cache".into(),
            bytes: 5,
            revisions: Vec::new(),
        }];
        for available in [None, Some(1_000_000), Some(9_000_000_000), Some(900_000_000_000)] {
            let models = list(&cached, available);
            let text = table(&models, &cached, available);
            assert!(text.lines().all(|line| line.width() <= 100), "{text}");
            let row = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
            assert!(row("diffugpt-s").starts_with("diffugpt-s *"), "{text}");
            let fits = row("dream-7b ").split_whitespace().last().unwrap().to_owned();
            let expected = match available {
                None => "?",
                Some(1_000_000) => "no",
                Some(9_000_000_000) => "Q4_K_M",
                Some(_) => "yes",
            };
            assert_eq!(fits, expected, "{text}");
        }
    }
}
