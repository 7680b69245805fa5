//! Writes a checked zip into a fresh folder.

use std::{
    fs::{self, File, Permissions},
    io::{self, Read},
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use zip::System;

use crate::{
    Error, Limits, Summary,
    check::{Archive, broken, open, walk},
};

/// Permissions of a file whose zip knows none (made on Windows): commands such as `./train.sh`
/// have to work there too.
const UNKNOWN_MODE: u32 = 0o755;

/// Unpacks the zip at `path` into `folder`, which must not exist yet. On any error nothing of it
/// is left.
pub fn unpack(path: &Path, folder: &Path, limits: &Limits) -> Result<Summary, Error> {
    let mut archive = open(path, limits)?;
    fs::create_dir(folder).map_err(|e| Error::file(folder, e))?;
    let result = write(&mut archive, folder, limits);
    if result.is_err() {
        let _ = fs::remove_dir_all(folder);
    }
    result
}

fn write(archive: &mut Archive, folder: &Path, limits: &Limits) -> Result<Summary, Error> {
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(broken)?;
        let name = entry.name().map_err(broken)?;
        let path = folder.join(name.trim_end_matches('/'));
        let wanted = if entry.is_dir() { Some(path.as_path()) } else { path.parent() };
        if let Some(wanted) = wanted {
            fs::create_dir_all(wanted).map_err(|e| Error::file(wanted, e))?;
        }
    }
    let summary = walk(archive, limits, |entry| {
        let path = folder.join(entry.name);
        let known = entry.file.unix_mode().filter(|_| entry.file.system() == System::Unix);
        let mode = known.map_or(UNKNOWN_MODE, |m| (m & 0o777) | 0o600);
        let mut file = File::options().write(true).create_new(true).open(&path)?;
        io::copy(entry, &mut file)?;
        file.set_permissions(Permissions::from_mode(mode))
    })?;
    // Links come last: no file is ever written through one. `walk` checked where they lead.
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(broken)?;
        if entry.is_symlink() {
            let path = folder.join(entry.name().map_err(broken)?.as_ref());
            let mut target = String::new();
            entry.read_to_string(&mut target).map_err(|e| Error::file(&path, e))?;
            symlink(target, &path).map_err(|e| Error::file(&path, e))?;
        }
    }
    Ok(summary)
}
