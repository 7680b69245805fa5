//! Writes a checked zip into a folder.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, PermissionsExt, symlink},
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
/// Permissions of folders.
const FOLDER_MODE: u32 = 0o755;

/// Unpacks the zip at `path` into `folder`, which is made, or is an empty folder and no link. On any
/// error what was unpacked is gone, and the folder with it.
pub fn unpack(path: &Path, folder: &Path, limits: &Limits) -> Result<Summary, Error> {
    let mut archive = open(path, limits)?;
    let failed = |e| Error::file(folder, e);
    match fs::create_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            let is_folder = fs::symlink_metadata(folder).map_err(failed)?.is_dir();
            if !is_folder || fs::read_dir(folder).map_err(failed)?.next().is_some() {
                return Err(failed(io::ErrorKind::DirectoryNotEmpty.into()));
            }
        }
        other => other.map_err(failed)?,
    }
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
            let made = DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(wanted);
            made.map_err(|e| Error::file(wanted, e))?;
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

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use zip::{ZipWriter, write::SimpleFileOptions};

    use super::*;

    fn zip(path: &Path, files: &[(&str, &str)]) {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, text) in files {
            zip.start_file(*name, SimpleFileOptions::default().unix_permissions(0o755)).unwrap();
            zip.write_all(text.as_bytes()).unwrap();
        }
        fs::write(path, zip.finish().unwrap().into_inner()).unwrap();
    }

    #[test]
    fn only_an_empty_folder_is_unpacked_into() {
        let dir = tempfile::tempdir().unwrap();
        let (path, folder) = (dir.path().join("a.zip"), dir.path().join("code"));
        zip(&path, &[("main.py", "x"), ("pkg/x.py", "y")]);
        fs::create_dir(&folder).unwrap();
        unpack(&path, &folder, &Limits::default()).unwrap();
        assert_eq!(fs::read_to_string(folder.join("pkg/x.py")).unwrap(), "y");
        assert!(unpack(&path, &folder, &Limits::default()).is_err(), "it is not empty any more");
        let (theirs, link) = (dir.path().join("theirs"), dir.path().join("link"));
        fs::create_dir(&theirs).unwrap();
        symlink(&theirs, &link).unwrap();
        assert!(unpack(&path, &link, &Limits::default()).is_err());
        assert_eq!(fs::read_dir(&theirs).unwrap().count(), 0, "a link was followed");
    }
}
