//! Writes a checked zip into a folder.

use std::{
    collections::HashSet,
    fs::{self, DirBuilder, File, Metadata, Permissions},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink},
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

/// Unpacks the zip at `path` into `folder`, which holds what the zip holds afterwards, and nothing
/// else. What an earlier unpacking left there is written over: files that stay cost less than
/// files that are made. On any error the folder is gone.
pub fn unpack(path: &Path, folder: &Path, limits: &Limits) -> Result<Summary, Error> {
    let mut archive = open(path, limits)?;
    let result = match fs::create_dir(folder) {
        // Not through a link: what it leads to is not ours to prune.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && is_folder(folder) => {
            prune(&mut archive, folder)
        }
        other => other.map_err(|e| Error::file(folder, e)),
    };
    let result = result.and_then(|()| write(&mut archive, folder, limits));
    if result.is_err() && is_folder(folder) {
        let _ = fs::remove_dir_all(folder);
    }
    result
}

fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.is_dir())
}

/// Removes from `folder` what the zip does not hold, or what cannot be written over.
fn prune(archive: &mut Archive, folder: &Path) -> Result<(), Error> {
    let (mut files, mut folders) = (HashSet::new(), HashSet::new());
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(broken)?;
        let path = folder.join(entry.name().map_err(broken)?.trim_end_matches('/'));
        folders.extend(path.ancestors().skip(1).take_while(|p| *p != folder).map(Path::to_owned));
        if entry.is_dir() {
            folders.insert(path);
        } else if !entry.is_symlink() {
            files.insert(path);
        }
    }
    let keep = |path: &Path, m: &Metadata| {
        let ours = m.uid() == nix::unistd::geteuid().as_raw();
        // A file with a second name is somebody else's too.
        ours && (m.is_dir() && folders.contains(path)
            || m.is_file() && m.nlink() == 1 && files.contains(path))
    };
    prune_below(folder, &keep).map_err(|e| Error::file(folder, e))
}

fn prune_below(folder: &Path, keep: &impl Fn(&Path, &Metadata) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let metadata = fs::symlink_metadata(&path)?;
        match (keep(&path, &metadata), metadata.is_dir()) {
            (true, true) => {
                fs::set_permissions(&path, Permissions::from_mode(FOLDER_MODE))?;
                prune_below(&path, keep)?;
            }
            (true, false) => {}
            (false, true) => fs::remove_dir_all(&path)?,
            (false, false) => fs::remove_file(&path)?,
        }
    }
    Ok(())
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
        let mut file = File::options().write(true).create(true).truncate(false).open(&path)?;
        let size = io::copy(entry, &mut file)?;
        file.set_len(size)?;
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
    fn a_folder_that_was_used_holds_the_zip_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (path, folder) = (dir.path().join("a.zip"), dir.path().join("code"));
        let outside = dir.path().join("outside");
        fs::write(&outside, "outside").unwrap();
        zip(&path, &[("main.py", "a long first text"), ("pkg/x.py", "x"), ("gone/y.py", "y")]);
        unpack(&path, &folder, &Limits::default()).unwrap();
        fs::create_dir(folder.join("__pycache__")).unwrap();
        fs::write(folder.join("__pycache__/main.pyc"), "z").unwrap();
        fs::write(folder.join("pkg/x.py"), "changed by the program, and longer").unwrap();
        fs::set_permissions(folder.join("pkg"), Permissions::from_mode(0o700)).unwrap();
        fs::remove_file(folder.join("main.py")).unwrap();
        symlink(&outside, folder.join("main.py")).unwrap();
        fs::hard_link(&outside, folder.join("linked.py")).unwrap();
        zip(&path, &[("main.py", "second"), ("pkg/x.py", "x2"), ("linked.py", "l"), ("gone", "a file now")]);
        unpack(&path, &folder, &Limits::default()).unwrap();
        assert_eq!(fs::read_to_string(&outside).unwrap(), "outside", "a link was written through");
        for (name, text) in
            [("main.py", "second"), ("pkg/x.py", "x2"), ("linked.py", "l"), ("gone", "a file now")]
        {
            assert_eq!(fs::read_to_string(folder.join(name)).unwrap(), text);
            assert!(fs::symlink_metadata(folder.join(name)).unwrap().is_file(), "{name}");
        }
        assert_eq!(fs::metadata(folder.join("pkg")).unwrap().mode() & 0o777, FOLDER_MODE);
        let link = dir.path().join("link");
        fs::create_dir(dir.path().join("theirs")).unwrap();
        fs::write(dir.path().join("theirs/kept"), "x").unwrap();
        symlink(dir.path().join("theirs"), &link).unwrap();
        assert!(unpack(&path, &link, &Limits::default()).is_err());
        assert!(dir.path().join("theirs/kept").exists(), "a link was followed");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 4);
    }
}
