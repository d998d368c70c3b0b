//! How work is divided into blocks of threads.

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

/// Which rows each block of attention works for, as `Tile` declares it: the canvas's first row, its length, and
/// the first of its rows that are the block's. A canvas's tiles begin at its own start, whatever is before it.
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

/// Whether numbers of `dtype` at all these places begin on chunks.
pub(super) fn in_chunks(dtype: DType, places: &[usize]) -> bool {
    places.iter().all(|place| (place * dtype.size_in_bytes()).is_multiple_of(CHUNK))
}
