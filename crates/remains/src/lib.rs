//! What runs leave on a node: removed, also where a program took its own rights away, or put aside for an operator.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Removes a folder, also where a program took its own rights away; one that is gone needs no removing.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let is_gone =
        |done: &io::Result<()>| done.as_ref().map_or_else(|e| e.kind() == io::ErrorKind::NotFound, |()| true);
    if is_gone(&fs::remove_dir_all(path)) {
        return Ok(());
    }
    open_up(path);
    let removed = fs::remove_dir_all(path);
    if is_gone(&removed) { Ok(()) } else { removed }
}

fn open_up(folder: &Path) {
    let _ = fs::set_permissions(folder, Permissions::from_mode(0o700));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            open_up(&entry.path());
        }
    }
}

/// Where a folder of this name is put aside in `kept`: under the name, or the name with a number. Nothing takes the
/// place of what was put aside before.
pub fn place_aside(kept: &Path, name: &str) -> PathBuf {
    let (mut place, mut n) = (kept.join(name), 1);
    while fs::symlink_metadata(&place).is_ok() {
        n += 1;
        place = kept.join(format!("{name}-{n}"));
    }
    place
}

/// Puts a folder aside in `kept`, at [`place_aside`]. One that is gone needs none.
pub fn put_aside(folder: &Path, kept: &Path, name: &str) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(kept)?;
    match fs::rename(folder, place_aside(kept, name)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::{fs::MetadataExt, process::CommandExt},
        process::Command,
    };

    use super::*;

    /// The user and the group that have no rights.
    const NOBODY: u32 = 65534;

    #[test]
    fn nothing_takes_the_place_of_what_was_put_aside_before() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, kept) = (dir.path().join("run"), dir.path().join("kept"));
        for n in 1..=3 {
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("result"), n.to_string()).unwrap();
            put_aside(&folder, &kept, "run.1").unwrap();
        }
        put_aside(&folder, &kept, "run.1").unwrap();
        for (name, text) in [("run.1", "1"), ("run.1-2", "2"), ("run.1-3", "3")] {
            assert_eq!(fs::read_to_string(kept.join(name).join("result")).unwrap(), text);
        }
    }

    #[test]
    fn rights_that_a_program_took_away_keep_nothing_here() {
        if fs::metadata("/proc/self").unwrap().uid() == 0 {
            // They keep nothing from root: once more, as somebody else.
            let name = "tests::rights_that_a_program_took_away_keep_nothing_here";
            let mut again = Command::new(std::env::current_exe().unwrap());
            let said = again.args(["--exact", name]).uid(NOBODY).gid(NOBODY).output().unwrap();
            let text = String::from_utf8_lossy(&said.stdout);
            assert!(said.status.success() && text.contains("1 passed"), "{text}");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("run");
        fs::create_dir_all(folder.join("closed/within")).unwrap();
        fs::set_permissions(folder.join("closed"), Permissions::from_mode(0o500)).unwrap();
        assert!(fs::remove_dir_all(&folder).is_err(), "nothing was in the way: this shows nothing");
        remove_tree(&folder).unwrap();
        assert!(!folder.exists());
        remove_tree(&folder).unwrap();
    }
}
