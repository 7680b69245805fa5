//! Environments: which frameworks there are, and how a node comes to have one.
//!
//! [`Catalogue`] maps a framework and its version to pinned packages; it does no I/O. [`make`]
//! builds the environment once per node, under a lock, and every run after that shares it; what a run
//! installs itself goes into a layer of its own.

mod catalogue;
mod image;
mod images;
mod layer;
mod make;
mod python;
mod resolve;

pub use catalogue::{Catalogue, CatalogueError, Entry, Original};
pub use images::{ImageEntry, Images};
pub use layer::{LAYER_VARIABLE, make_layer, site_packages};
pub use make::{Environment, MakeError, make, sweep};
pub use python::{Python, find_pythons};
pub use resolve::{Resolved, Unknown};
