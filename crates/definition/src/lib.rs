//! Definition zips: packing a folder of training code, and opening what a stranger packed.
//!
//! Nothing in a zip is trusted. [`check`] reads the whole of it without writing anything, and
//! [`unpack`] writes into a folder that is removed when anything is wrong. Every way
//! of being bad is one variant of [`Error`].

mod check;
mod error;
mod limits;
mod names;
mod pack;
mod sniff;
mod unpack;

pub use check::{Summary, check};
pub use error::Error;
pub use limits::Limits;
pub use pack::{Packed, pack};
pub use sniff::{Kind, sniff};
pub use unpack::unpack;
