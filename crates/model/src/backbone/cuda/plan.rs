//! The division of work into blocks of threads.

use candle_core::DType;

/// Rows and columns of a product's tile, as in `product.cuh`.
#[cfg(feature = "cuda")]
pub(super) const TILE: usize = 128;
/// Numbers of a head, as in `kernels.cu`.
pub(in crate::backbone) const LARGEST_HEAD: usize = 128;
/// Bytes that are copied at once.
const CHUNK: usize = 16;
/// Words of a tile of attention.
pub(super) const TILE_WORDS: usize = 3;

/// Rows of queries that one block of attention works for.
fn queries(dtype: DType) -> usize {
    if dtype == DType::F32 { 16 } else { 64 }
}

/// The rows that each block of attention computes, as `Tile` declares them: the canvas's first row, its
/// length, and the block's first row within it. A canvas's tiles begin at its own start and do not depend on
/// the canvases before it.
pub(super) fn tiles(lengths: &[usize], dtype: DType) -> Vec<u32> {
    let mut words = Vec::new();
    let mut first = 0;
    for &length in lengths {
        for query in (0..length).step_by(queries(dtype)) {
            words.extend([first, length, query].map(|number| number as u32));
        }
        first += length;
    }
    words
}

/// Returns true if numbers of `dtype` at all these places are aligned to chunks.
pub(super) fn in_chunks(dtype: DType, places: &[usize]) -> bool {
    places.iter().all(|place| (place * dtype.size_in_bytes()).is_multiple_of(CHUNK))
}
