//! Runs the kernels over tensors that lie on the device. What they leave is there when the stream has come to it.

use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, CudaView, DeviceRepr, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::{CudaDType, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, DType, Layout, Result, Storage, Tensor, WithDType, bail};
use half::{bf16, f16};

use super::plan::{Extent, LARGEST_HEAD, TILE, TILE_WORDS, in_chunks, tiles};
use crate::kernel::Heads;

const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/backbone.ptx"));
/// Threads of a block, equal to those of `product.cuh` and `attention.cuh`.
const PRODUCT_THREADS: u32 = 256;
const ATTENTION_THREADS: u32 = 128;
/// The largest second dimension of a grid.
const MOST_BLOCKS: usize = 65_535;

/// A type that there are kernels for.
trait Number: WithDType + CudaDType + DeviceRepr {
    /// The suffix of the kernels' names.
    const NAME: &str;
}

impl Number for bf16 {
    const NAME: &str = "bf16";
}
impl Number for f16 {
    const NAME: &str = "f16";
}
impl Number for f32 {
    const NAME: &str = "f32";
}

/// rows (rows, in) · matrix (in, out). Numbers of the matrix lie side by side along `in`: it is the view of an
/// (out, in) matrix.
///
/// # Errors
/// Shapes do not agree or numbers lie otherwise, or the device failed.
pub(in crate::backbone) fn product(rows: &Tensor, matrix: &Tensor) -> Result<Tensor> {
    let right = matrix.t()?;
    match rows.dtype() {
        DType::BF16 => product_of::<bf16>(rows, &right),
        DType::F16 => product_of::<f16>(rows, &right),
        DType::F32 => product_of::<f32>(rows, &right),
        other => bail!("there is no product of {other:?}"),
    }
}

fn product_of<T: Number>(left: &Tensor, right: &Tensor) -> Result<Tensor> {
    let (rows, inner) = left.dims2()?;
    let (columns, depth) = right.dims2()?;
    let blocks = (rows.div_ceil(TILE), columns.div_ceil(TILE));
    let sides = [rows, columns, inner];
    let fits = sides.iter().all(|side| (1..=u32::MAX as usize).contains(side)) && blocks.1 <= MOST_BLOCKS;
    let lies = left.is_contiguous() && right.is_contiguous() && left.device().same_device(right.device());
    if inner != depth || !fits || !lies {
        bail!("{:?} and {:?} are not multiplied", left.layout(), right.layout());
    }
    let device = left.device().as_cuda_device()?;
    let (left_storage, left_layout) = left.storage_and_layout();
    let (right_storage, right_layout) = right.storage_and_layout();
    let chunks = [inner, left_layout.start_offset(), right_layout.start_offset()];
    let chunks = u32::from(in_chunks(T::DTYPE, &chunks));
    let left = view::<T>(&left_storage, left_layout)?;
    let right = view::<T>(&right_storage, right_layout)?;
    let kernel = device.get_or_load_custom_func(&format!("product_{}", T::NAME), "unmask-backbone", PTX)?;
    let sizes = sides.map(|side| side as u32);
    let mut launch = kernel.builder();
    let grid = grid(blocks, PRODUCT_THREADS);
    // SAFETY: the arguments are those of `product_…`, in its order. It reads `rows` rows of `inner` numbers and
    // `columns` of them, which the shapes and layouts that were checked above promise, and writes every number
    // of `out`, which has room for `rows` times `columns`. The device has one stream, so that buffers are freed
    // after the kernel that uses them.
    #[expect(unsafe_code, reason = "launches a kernel, which fills what is allocated")]
    let out = unsafe {
        let mut out = device.alloc::<T>(rows * columns)?;
        launch.arg(&left).arg(&right).arg(&mut out);
        sizes.iter().for_each(|size| _ = launch.arg(size));
        launch.arg(&chunks).launch(grid).w()?;
        out
    };
    Ok(tensor(CudaStorage::wrap_cuda_slice(out, device.clone()), (rows, columns)))
}

/// The rows of some canvases, as blocks of attention share them.
#[derive(Debug)]
pub(in crate::backbone) struct Tiles {
    words: CudaSlice<u32>,
    /// Keys that each row sees.
    seen: CudaSlice<u32>,
    dtype: DType,
    count: usize,
    rows: usize,
    keys: usize,
}

impl Tiles {
    /// Uploads them, for tensors of `dtype`; `seen` is the number of keys that each row sees, at least 1 and at most its
    /// canvas's. The words may go before the copy is made: a driver has copied memory that is not pinned to a place of
    /// its own before it returns.
    ///
    /// # Errors
    /// A row sees none or more than there are, or the device failed.
    pub(in crate::backbone) fn new(
        canvases: &[Extent],
        seen: &[u32],
        dtype: DType,
        device: &CudaDevice,
    ) -> Result<Self> {
        let rows: usize = canvases.iter().map(|canvas| canvas.rows).sum();
        let most = canvases.iter().flat_map(|canvas| std::iter::repeat_n(canvas.keys, canvas.rows));
        if rows != seen.len()
            || !seen.iter().zip(most).all(|(seen, most)| (1..=most).contains(&(*seen as usize)))
        {
            bail!("{} rows of {canvases:?} do not see {seen:?}", seen.len());
        }
        let words = tiles(canvases, seen, dtype);
        Ok(Self {
            count: words.len() / TILE_WORDS,
            words: device.clone_htod(&words)?,
            seen: device.clone_htod(seen)?,
            dtype,
            rows: seen.len(),
            keys: canvases.iter().map(|canvas| canvas.keys).sum(),
        })
    }
}

/// Attention within the canvases that the tiles were made for. Queries have a row for each row of the canvases, keys and
/// values one for each of their keys.
///
/// # Errors
/// Shapes do not agree, heads are wider than the kernels take, or the device failed.
pub(in crate::backbone) fn attention(
    [query, key, value]: [&Tensor; 3],
    tiles: &Tiles,
    heads: Heads,
) -> Result<Tensor> {
    match query.dtype() {
        DType::BF16 => attention_of::<bf16>([query, key, value], tiles, heads),
        DType::F16 => attention_of::<f16>([query, key, value], tiles, heads),
        DType::F32 => attention_of::<f32>([query, key, value], tiles, heads),
        other => bail!("there is no attention of {other:?}"),
    }
}

fn attention_of<T: Number>(matrices: [&Tensor; 3], tiles: &Tiles, heads: Heads) -> Result<Tensor> {
    let Heads { count, shared, width } = heads;
    let wide = count * width;
    let shares = shared > 0 && count.is_multiple_of(shared) && (1..=LARGEST_HEAD).contains(&width);
    let tiled = tiles.dtype == T::DTYPE && tiles.count > 0 && tiles.rows.max(tiles.keys) <= u32::MAX as usize;
    let device = matrices[0].device();
    let sizes = [(tiles.rows, count), (tiles.keys, shared), (tiles.keys, shared)];
    for (matrix, (rows, heads)) in matrices.iter().zip(sizes) {
        let fits = matrix.dims2()? == (rows, heads * width) && device.same_device(matrix.device());
        let lies = matrix.stride()[1] == 1 && matrix.stride()[0] <= u32::MAX as usize;
        if !shares || !tiled || !fits || !lies || count > MOST_BLOCKS {
            bail!("{:?} is not attended to with {heads} heads of {width} numbers", matrix.layout());
        }
    }
    let device = device.as_cuda_device()?;
    let storages = matrices.map(Tensor::storage_and_layout);
    let strides = storages.each_ref().map(|(_, layout)| layout.stride()[0]);
    let starts = storages.each_ref().map(|(_, layout)| layout.start_offset());
    let chunks = u32::from(in_chunks(T::DTYPE, &[&strides[..], &starts, &[width]].concat()));
    let [query, key, value] = &storages;
    let [query, key, value] =
        [view::<T>(&query.0, query.1)?, view::<T>(&key.0, key.1)?, view::<T>(&value.0, value.1)?];
    let columns = if width <= 64 { 64 } else { 128 };
    let name = format!("attention_{}_{columns}", T::NAME);
    let kernel = device.get_or_load_custom_func(&name, "unmask-backbone", PTX)?;
    let [query_stride, key_stride, value_stride] = strides.map(|stride| stride as u32);
    let [out_stride, width, repeat] = [wide, width, count / shared].map(|size| size as u32);
    let scale = 1.0 / (heads.width as f32).sqrt();
    let mut launch = kernel.builder();
    let grid = grid((tiles.count, count), ATTENTION_THREADS);
    // SAFETY: the arguments are those of `attention_…`, in its order. Tiles name queries below `tiles.rows` and keys below
    // `tiles.keys`, of which the matrices have as many, with the heads that were checked above, `stride` apart; `seen`
    // has a number for each query; `out` has room for as many rows of all heads, and every number of it is written, as
    // the tiles hold every row. The device has one stream, so that buffers are freed after the kernel that uses them.
    #[expect(unsafe_code, reason = "launches a kernel, which fills what is allocated")]
    let out = unsafe {
        let mut out = device.alloc::<T>(tiles.rows * wide)?;
        launch.arg(&query).arg(&query_stride).arg(&key).arg(&key_stride).arg(&value).arg(&value_stride);
        launch.arg(&mut out).arg(&out_stride).arg(&tiles.words).arg(&tiles.seen).arg(&width).arg(&repeat);
        launch.arg(&scale).arg(&chunks).launch(grid).w()?;
        out
    };
    Ok(tensor(CudaStorage::wrap_cuda_slice(out, device.clone()), (tiles.rows, wide)))
}

/// The numbers of a tensor from its first on.
fn view<'a, T: Number>(storage: &'a Storage, layout: &Layout) -> Result<CudaView<'a, T>> {
    let Storage::Cuda(storage) = storage else { bail!("a tensor is not on the device") };
    Ok(storage.as_cuda_slice::<T>()?.slice(layout.start_offset()..))
}

fn grid((width, height): (usize, usize), threads: u32) -> LaunchConfig {
    LaunchConfig {
        grid_dim: (width as u32, height as u32, 1),
        block_dim: (threads, 1, 1),
        shared_mem_bytes: 0,
    }
}

fn tensor(storage: CudaStorage, shape: (usize, usize)) -> Tensor {
    Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false)
}
