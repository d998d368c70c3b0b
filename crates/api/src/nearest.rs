//! Names that were probably meant.

/// The known name that is nearest to `name`, if one is near.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |known: &str| strsim::damerau_levenshtein(name, known);
    let (distance, known) = known.into_iter().map(|known| (distance(known), known)).min()?;
    (distance <= 1 + name.len() / 4).then_some(known)
}
