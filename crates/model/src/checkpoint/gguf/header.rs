//! The header of a GGUF file: values by their keys, and the place of each tensor.
//!
//! The format is described in ggml's `docs/gguf.md`. Candle reads it as well, but divides by an alignment
//! of 0, makes 32 bytes of each byte of an array, and does not say which tensor has a type that it does
//! not know.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::{Map, Value};

use crate::kernel::Encoding;

/// Array elements of all keys together; a vocabulary of 150,000 has a million.
const ELEMENTS: u64 = 1 << 23;
/// Dimensions of a tensor, in ggml.
const DIMENSIONS: u32 = 4;
/// The alignment of tensors in files that name none.
const ALIGNMENT: u64 = 32;

/// The header of a file.
#[derive(Debug)]
pub(super) struct Header {
    /// Scalars and arrays of them.
    pub(super) metadata: Map<String, Value>,
    pub(super) tensors: BTreeMap<String, TensorInfo>,
    /// The first tensor of a type that is not read, which is not among them, and its type.
    pub(super) unread_type: Option<(String, String)>,
}

/// One tensor.
#[derive(Debug)]
pub(super) struct TensorInfo {
    pub(super) encoding: Encoding,
    /// Dimensions from the outermost to the innermost: numbers of the last one are neighbours, as in other
    /// formats.
    pub(super) shape: Vec<usize>,
    /// Its bytes in the file.
    pub(super) bytes: Range<usize>,
}

impl Header {
    pub(super) fn parse(file: &[u8]) -> Result<Self, String> {
        let mut reader = Reader { file, place: 0, elements: ELEMENTS };
        if reader.take(4)? != b"GGUF" {
            return Err("it does not begin with `GGUF`".to_owned());
        }
        let version = reader.u32()?;
        if !(2..=3).contains(&version) {
            let swapped = (1..=4).contains(&version.swap_bytes());
            let found =
                if swapped { "it is big-endian".to_owned() } else { format!("its version is {version}") };
            let reason = format!("{found}; supported are versions 2 and 3, little-endian");
            return Err(reason);
        }
        let tensor_count = reader.u64()?;
        let key_count = reader.u64()?;
        let mut metadata = Map::new();
        for _ in 0..key_count {
            let key = reader.text()?;
            let kind = reader.u32()?;
            let value = reader.value(kind).map_err(|reason| format!("key `{key}`: {reason}"))?;
            if metadata.contains_key(&key) {
                return Err(format!("key `{key}` stands there twice"));
            }
            metadata.insert(key, value);
        }
        let mut described = Vec::new();
        for _ in 0..tensor_count {
            described.push(reader.tensor()?);
        }
        let alignment = match metadata.get("general.alignment") {
            None => ALIGNMENT,
            Some(value) => value
                .as_u64()
                .filter(|alignment| alignment.is_power_of_two() && *alignment <= 1 << 20)
                .ok_or_else(|| format!("`general.alignment` is {value}; it must be a power of two"))?,
        };
        let data = (reader.place as u64).next_multiple_of(alignment);
        let mut tensors = BTreeMap::new();
        let mut unread_type = None;
        for Described { name, encoding, shape, offset } in described {
            let encoding = match encoding {
                Ok(encoding) => encoding,
                Err(found) => {
                    unread_type.get_or_insert((name, found));
                    continue;
                }
            };
            let bytes = locate(encoding, &shape, data, offset, file.len())
                .map_err(|reason| format!("tensor `{name}`: {reason}"))?;
            if tensors.contains_key(&name) {
                return Err(format!("tensor `{name}` stands there twice"));
            }
            tensors.insert(name, TensorInfo { encoding, shape, bytes });
        }
        Ok(Self { metadata, tensors, unread_type })
    }
}

/// A tensor as the header describes it.
struct Described {
    name: String,
    /// Or the name of a type that is not read.
    encoding: Result<Encoding, String>,
    shape: Vec<usize>,
    offset: u64,
}

/// The bytes of a tensor, which must lie in the file.
fn locate(
    encoding: Encoding,
    shape: &[usize],
    data: u64,
    offset: u64,
    length: usize,
) -> Result<Range<usize>, String> {
    let size = encoding.numbers();
    let row = shape.last().copied().unwrap_or(0);
    if !row.is_multiple_of(size) {
        return Err(format!("its rows have {row} numbers, and {encoding} comes in blocks of {size}"));
    }
    let count = shape.iter().try_fold(1_usize, |product, length| product.checked_mul(*length));
    let bytes = count.and_then(|count| (count / size).checked_mul(encoding.bytes()));
    let start = data.checked_add(offset).and_then(|start| usize::try_from(start).ok());
    let range = bytes.zip(start).and_then(|(bytes, start)| Some(start..start.checked_add(bytes)?));
    match range {
        Some(range) if range.end <= length => Ok(range),
        _ => Err(format!("its shape {shape:?} at offset {offset} reaches beyond the file's {length} bytes")),
    }
}

struct Reader<'a> {
    file: &'a [u8],
    place: usize,
    /// Array elements that may still come.
    elements: u64,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: u64) -> Result<&'a [u8], String> {
        let rest = &self.file[self.place..];
        match usize::try_from(count).ok().and_then(|count| rest.get(..count)) {
            Some(bytes) => {
                self.place += bytes.len();
                Ok(bytes)
            }
            None => Err(format!("it ends within its header, at byte {}", self.file.len())),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N as u64)?);
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    /// A text. Some files hold bytes that are no UTF-8 in unused tokens; these become U+FFFD.
    fn text(&mut self) -> Result<String, String> {
        let length = self.u64()?;
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    /// A value of one of the format's kinds, which have numbers.
    fn value(&mut self, kind: u32) -> Result<Value, String> {
        Ok(match kind {
            0 => u8::from_le_bytes(self.array()?).into(),
            1 => i8::from_le_bytes(self.array()?).into(),
            2 => u16::from_le_bytes(self.array()?).into(),
            3 => i16::from_le_bytes(self.array()?).into(),
            4 => self.u32()?.into(),
            5 => i32::from_le_bytes(self.array()?).into(),
            6 => f32::from_le_bytes(self.array()?).into(),
            7 => (self.array::<1>()? != [0]).into(),
            8 => self.text()?.into(),
            9 => self.values()?,
            10 => self.u64()?.into(),
            11 => i64::from_le_bytes(self.array()?).into(),
            12 => f64::from_le_bytes(self.array()?).into(),
            _ => return Err(format!("its value is of kind {kind}, which the format does not have")),
        })
    }

    fn values(&mut self) -> Result<Value, String> {
        let kind = self.u32()?;
        let count = self.u64()?;
        if kind == 9 {
            return Err("its value is an array of arrays, which is not supported".to_owned());
        }
        let left = self.elements.checked_sub(count);
        self.elements = left.ok_or_else(|| format!("its array has {count} elements, more than are read"))?;
        (0..count).map(|_| self.value(kind)).collect::<Result<Vec<_>, _>>().map(Value::Array)
    }

    fn tensor(&mut self) -> Result<Described, String> {
        let name = self.text()?;
        let dimensions = self.u32()?;
        if dimensions > DIMENSIONS {
            let reason =
                format!("tensor `{name}` has {dimensions} dimensions; at most {DIMENSIONS} are possible");
            return Err(reason);
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            let length = self.u64()?;
            let length = usize::try_from(length).map_err(|_| format!("tensor `{name}` is {length} long"))?;
            shape.insert(0, length);
        }
        let encoding = encoding(self.u32()?);
        Ok(Described { name, encoding, shape, offset: self.u64()? })
    }
}

/// The encoding that ggml gives a number, or its name there.
fn encoding(kind: u32) -> Result<Encoding, String> {
    if let Some(encoding) = Encoding::of_number(kind) {
        return Ok(encoding);
    }
    Err(match kind {
        9 => "Q8_1",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        _ => return Err(format!("type {kind}")),
    }
    .to_owned())
}
