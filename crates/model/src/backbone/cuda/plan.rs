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
pub(super) const TILE_WORDS: usize = 4;

/// Rows of queries that one block of attention works for.
fn queries(dtype: DType) -> usize {
    if dtype == DType::F32 { 16 } else { 64 }
}

/// A canvas among packed ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backbone) struct Extent {
    /// Rows that are computed.
    pub(in crate::backbone) rows: usize,
    /// Keys and values, of all its positions in their order.
    pub(in crate::backbone) keys: usize,
}

/// The rows that each block of attention computes, and the keys that they see, as `Tile` declares them. `seen` is the
/// number of keys that each row sees. A canvas's tiles begin at its own start and do not depend on the canvases before it.
pub(super) fn tiles(canvases: &[Extent], seen: &[u32], dtype: DType) -> Vec<u32> {
    let mut words = Vec::new();
    let mut row = 0;
    let mut key = 0;
    for canvas in canvases {
        for seen in seen[row..][..canvas.rows].chunks(queries(dtype)) {
            let most = seen.iter().copied().max().unwrap_or(0);
            words.extend([row as u32, seen.len() as u32, key as u32, most]);
            row += seen.len();
        }
        key += canvas.keys;
    }
    words
}

/// Returns true if numbers of `dtype` at all these places are aligned to chunks.
pub(super) fn in_chunks(dtype: DType, places: &[usize]) -> bool {
    places.iter().all(|place| (place * dtype.size_in_bytes()).is_multiple_of(CHUNK))
}
