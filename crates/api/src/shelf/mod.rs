//! The models that the program knows by name, the memory that they need, and the cache that holds them.

pub mod cache;
mod commands;
mod known;
mod listing;
mod machine;
mod shape;
mod size;

pub use self::commands::{HubModelArgs, ModelsArgs, PullArgs, models, pull, remove, show};
pub use self::known::{KNOWN, KnownModel, SMOLLM2, known, suggestion};
pub use self::machine::available_memory;
pub use self::shape::Shape;
pub(crate) use self::shape::operations;
pub(crate) use self::size::refuse_if_too_large;
pub use self::size::{Dtype, memory};
