//! Packs a folder: what git would track, and what `.trainyardignore` leaves.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use ignore::WalkBuilder;
use sha2::{Digest, Sha256};
use zip::{CompressionMethod, DateTime, ZipWriter, write::SimpleFileOptions};

use crate::{Error, names::check_link};

/// How many of the largest files are named.
const LARGEST: usize = 5;

/// What was packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Files and links.
    pub files: u64,
    /// Their bytes, unpacked.
    pub bytes: u64,
    /// Bytes of the zip.
    pub zip_bytes: u64,
    /// SHA-256 of the zip, in hexadecimal. Equal folders give equal zips.
    pub sha256: String,
    /// The largest files and their bytes, largest first.
    pub largest: Vec<(String, u64)>,
    /// Links that lead out of the folder, and other things that cannot be packed.
    pub left_out: Vec<String>,
}

/// Packs `folder` into a zip at `target`.
pub fn pack(folder: &Path, target: &Path) -> Result<Packed, Error> {
    let mut left_out = Vec::new();
    let files = list(folder, target, &mut left_out)?;
    if files.is_empty() {
        return Err(Error::Nothing);
    }
    let file = File::create(target).map_err(|e| Error::file(target, e))?;
    let mut zip = ZipWriter::new(BufWriter::new(file));
    let mut packed =
        Packed { files: 0, bytes: 0, zip_bytes: 0, sha256: String::new(), largest: Vec::new(), left_out };
    for (name, path) in files {
        let failed = |e| Error::file(&path, e);
        let metadata = fs::symlink_metadata(&path).map_err(failed)?;
        // A fixed date, so that the same files always make the same zip, which is stored once.
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(DateTime::default())
            .unix_permissions(metadata.permissions().mode() & 0o777)
            .large_file(metadata.len() >= u64::from(u32::MAX));
        if metadata.is_symlink() {
            let link = fs::read_link(&path).map_err(failed)?;
            match link.to_str() {
                Some(text) if check_link(&name, text).is_ok() => {
                    zip.add_symlink(&name, text, options).map_err(|e| failed(e.into()))?;
                    packed.files += 1;
                }
                _ => packed.left_out.push(format!("{name} (a link that leads out of the folder)")),
            }
            continue;
        }
        zip.start_file(&name, options).map_err(|e| failed(e.into()))?;
        let mut source = File::open(&path).map_err(failed)?;
        let bytes = io::copy(&mut source, &mut zip).map_err(failed)?;
        packed.files += 1;
        packed.bytes += bytes;
        packed.largest.push((name, bytes));
    }
    let written = zip
        .finish()
        .map_err(|e| Error::file(target, e.into()))
        .and_then(|mut w| w.flush().map_err(|e| Error::file(target, e)));
    written?;
    packed.largest.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    packed.largest.truncate(LARGEST);
    packed.zip_bytes = fs::metadata(target).map_err(|e| Error::file(target, e))?.len();
    packed.sha256 = sha256(target)?;
    Ok(packed)
}

fn sha256(path: &Path) -> Result<String, Error> {
    let failed = |e| Error::file(path, e);
    let mut file = File::open(path).map_err(failed)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match io::Read::read(&mut file, &mut buffer).map_err(failed)? {
            0 => return Ok(hex::encode(hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// Files and links to pack, in order of their names.
fn list(folder: &Path, target: &Path, left_out: &mut Vec<String>) -> Result<Vec<(String, PathBuf)>, Error> {
    let walk = WalkBuilder::new(folder)
        .hidden(false)
        .git_global(false)
        .require_git(false)
        .add_custom_ignore_filename(".trainyardignore")
        .filter_entry(|e| e.file_name() != ".git")
        .build();
    let mut files = Vec::new();
    for entry in walk {
        let entry = entry.map_err(|e| Error::file(folder, io::Error::other(e)))?;
        let Some(kind) = entry.file_type() else { continue };
        if kind.is_dir() || same(entry.path(), target) {
            continue;
        }
        let relative = entry.path().strip_prefix(folder).unwrap_or(entry.path());
        match relative.to_str() {
            _ if !kind.is_file() && !kind.is_symlink() => {
                left_out.push(format!("{} (no ordinary file)", relative.display()));
            }
            Some(name) => files.push((name.to_owned(), entry.into_path())),
            None => left_out.push(format!("{} (its name is not UTF-8)", relative.display())),
        }
    }
    files.sort();
    Ok(files)
}

fn same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}
