//! A folder that somebody else writes to, read without ever leaving it.
//!
//! A program may put links, pipes and devices where files were, also while it is being looked at. So
//! everything is opened by `openat2` (Linux 5.6) below a folder that is held open, no link leads out,
//! and what was opened is asked what it is. Where there is no such call, no link is followed at all.

use std::{
    fs::{File, Metadata},
    io,
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    path::Path,
    sync::Arc,
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2},
    sys::stat::Mode,
};

/// A folder, held open. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Beneath(Arc<OwnedFd>);

/// An entry of a folder.
pub(crate) enum Entry {
    /// A folder below.
    Folder,
    /// A file, or a link to one inside.
    File(Metadata),
    /// A link that is not followed: it leads out, or to a folder.
    LinkOut,
    /// A pipe, a socket, a device: no result.
    Other,
}

impl Beneath {
    /// The folder at `path`, which is no link.
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(Self(Arc::new(open(path, flags, Mode::empty())?)))
    }

    fn open_as(&self, name: &str, flags: OFlag, resolve: ResolveFlag) -> io::Result<File> {
        let resolve = resolve | ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
        let name = if name.is_empty() { "." } else { name };
        match openat2(&*self.0, name, how) {
            // An older kernel, or a container whose filter does not know the call.
            Err(Errno::ENOSYS | Errno::EPERM) => step_by_step(&self.0, name, flags),
            opened => Ok(File::from(opened?)),
        }
    }

    /// Names in the folder `name`, empty for this one; those that are not UTF-8 with what they are not.
    pub(crate) fn names(&self, name: &str) -> io::Result<Vec<Result<String, String>>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let folder = match self.open_as(name, flags, ResolveFlag::RESOLVE_NO_SYMLINKS) {
            // The program may have taken its own rights away: give them back once.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                let handle =
                    self.open_as(name, OFlag::O_PATH | OFlag::O_DIRECTORY, ResolveFlag::RESOLVE_NO_SYMLINKS)?;
                let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&handle));
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?;
                self.open_as(name, flags, ResolveFlag::RESOLVE_NO_SYMLINKS)?
            }
            other => other?,
        };
        let mut names = Vec::new();
        for entry in Dir::from_fd(folder.into())?.iter() {
            let entry = entry?;
            match entry.file_name().to_str() {
                Ok("." | "..") => {}
                Ok(name) => names.push(Ok(name.to_owned())),
                Err(_) => names.push(Err(entry.file_name().to_string_lossy().into_owned())),
            }
        }
        Ok(names)
    }

    /// What `name` is; an error when it is gone.
    pub(crate) fn look(&self, name: &str) -> io::Result<Entry> {
        let handle = match self.open_as(name, OFlag::O_PATH | OFlag::O_NOFOLLOW, ResolveFlag::empty()) {
            Err(e) if leads_out(&e) => return Ok(Entry::LinkOut),
            other => other?,
        };
        let metadata = handle.metadata()?;
        let kind = metadata.file_type();
        if kind.is_symlink() {
            return match self.open_as(name, OFlag::O_PATH, ResolveFlag::empty()).and_then(|f| f.metadata()) {
                Ok(metadata) if metadata.is_file() => Ok(Entry::File(metadata)),
                _ => Ok(Entry::LinkOut),
            };
        }
        Ok(match kind {
            k if k.is_dir() => Entry::Folder,
            k if k.is_file() => Entry::File(metadata),
            _ => Entry::Other,
        })
    }

    /// Opens the file `name` for reading; not found when it is none.
    pub(crate) fn file(&self, name: &str) -> io::Result<File> {
        // Not blocking: a pipe that took the file's place would be waited for.
        let file = match self.open_as(name, OFlag::O_RDONLY | OFlag::O_NONBLOCK, ResolveFlag::empty()) {
            Err(e) if leads_out(&e) => return Err(io::ErrorKind::NotFound.into()),
            other => other?,
        };
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
    }
}

/// Opens `name` below `folder` from folder to folder, following no link.
fn step_by_step(folder: &OwnedFd, name: &str, flags: OFlag) -> io::Result<File> {
    let on_the_way = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let mut parts = name.split('/').filter(|p| !p.is_empty()).peekable();
    let mut opened: Option<OwnedFd> = None;
    while let Some(part) = parts.next() {
        if part == ".." {
            return Err(Errno::EXDEV.into());
        }
        let flags = if parts.peek().is_some() { on_the_way } else { flags };
        let at = opened.as_ref().unwrap_or(folder);
        opened = Some(openat(at, part, flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?);
    }
    Ok(File::from(opened.ok_or(Errno::ENOENT)?))
}

/// Whether the kernel refused to follow a link: out of the folder, round in circles, or to a process.
fn leads_out(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::EXDEV | Errno::ELOOP))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_outside_is_opened_and_nothing_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("results");
        std::fs::create_dir_all(root.join("deep")).unwrap();
        std::fs::write(dir.path().join("secret"), "key").unwrap();
        std::fs::write(root.join("deep/real"), "result").unwrap();
        symlink("deep/real", root.join("inside")).unwrap();
        symlink("../secret", root.join("out")).unwrap();
        symlink(dir.path().join("secret"), root.join("absolute")).unwrap();
        symlink("deep", root.join("to-folder")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        nix::unistd::mkfifo(&root.join("pipe"), Mode::S_IRWXU).unwrap();
        let beneath = Beneath::new(&root).unwrap();
        for link in ["out", "absolute", "to-folder", "loop"] {
            assert!(matches!(beneath.look(link).unwrap(), Entry::LinkOut), "{link}");
            assert!(beneath.file(link).is_err(), "{link} was opened");
        }
        assert!(beneath.file("to-folder/real").is_ok(), "a link inside may lie on the way to a file");
        assert!(matches!(beneath.look("pipe").unwrap(), Entry::Other));
        assert!(beneath.file("pipe").is_err());
        assert!(matches!(beneath.look("inside").unwrap(), Entry::File(_)));
        assert_eq!(io::read_to_string(beneath.file("inside").unwrap()).unwrap(), "result");
        assert!(beneath.names("to-folder").is_err(), "folders are not entered by links");
        // Without the call that knows about links.
        let stepwise = |name: &str| step_by_step(&beneath.0, name, OFlag::O_RDONLY);
        assert_eq!(io::read_to_string(stepwise("deep/real").unwrap()).unwrap(), "result");
        assert!(stepwise("deep/").is_ok() && stepwise(".").is_ok());
        for link in ["out", "absolute", "inside", "loop", "to-folder/real", "../secret", "deep/../../secret"]
        {
            assert!(stepwise(link).is_err(), "{link} was opened");
        }
        // The folder itself is replaced by a link to another.
        let elsewhere = dir.path().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        symlink(&elsewhere, dir.path().join("swapped")).unwrap();
        assert!(Beneath::new(&dir.path().join("swapped")).is_err());
    }
}
