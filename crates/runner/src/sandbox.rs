//! What the program may touch, by Landlock (Linux 5.13 and later, no rights needed).
//!
//! All that its user may touch, but for the folders of the server: keys, databases, results and data
//! of others. What environments hold is read only. Landlock also keeps it from undoing its mount
//! namespace, from looking into other processes, and from signalling them (Linux 6.12). Where the
//! server is root, the program keeps of root's capabilities those that containers have.
//!
//! Landlock knows only what is allowed. So what surrounds a closed folder is allowed entry by entry,
//! as it is when the program starts; names can be listed everywhere.

use std::{
    fs,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::FileTypeExt,
    },
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};
use nix::libc;

/// Newest version whose rights are known here; older kernels take what they know.
const NEWEST: ABI = ABI::V6;

/// Capabilities (`capabilities(7)`, by number) that a program of root keeps: those that container
/// engines leave by default, less the making of device files, and those that training on several
/// GPUs asks for: locked memory, priorities, limits.
const KEPT: [u32; 16] = [
    0,  // CHOWN
    1,  // DAC_OVERRIDE
    3,  // FOWNER
    4,  // FSETID
    5,  // KILL
    6,  // SETGID
    7,  // SETUID
    8,  // SETPCAP
    10, // NET_BIND_SERVICE
    13, // NET_RAW
    14, // IPC_LOCK
    18, // SYS_CHROOT
    23, // SYS_NICE
    24, // SYS_RESOURCE
    29, // AUDIT_WRITE
    31, // SETFCAP
];
/// One more than the largest number that there may be.
const CAPABILITIES: u32 = 64;

/// A sandbox, ready to be entered.
pub(crate) struct Sandbox {
    /// Absent where the kernel has no Landlock.
    rules: Option<OwnedFd>,
    root: bool,
}

/// Where the program may go.
pub(crate) struct Borders<'a> {
    /// Folders of which it sees nothing, but for what follows.
    pub(crate) closed: &'a [PathBuf],
    /// What it may do anything with.
    pub(crate) open: &'a [&'a Path],
    /// What it may read and execute.
    pub(crate) readable: &'a [&'a Path],
}

impl Sandbox {
    /// For a program within these borders.
    pub(crate) fn prepare(borders: &Borders<'_>) -> Self {
        let rules = match rules(borders) {
            Ok(rules) => rules.into(),
            Err(error) => {
                tracing::warn!(%error, "no Landlock for the program");
                None
            }
        };
        Self { rules, root: nix::unistd::geteuid().is_root() }
    }

    /// Enters it, for good: this process and all that it starts. Called between fork and exec:
    /// system calls on what is there already.
    pub(crate) fn enter(&self) -> std::io::Result<()> {
        // Landlock asks for it: a program that gains rights by `setuid` could not be held.
        nix::sys::prctl::set_no_new_privs()?;
        if self.root {
            for capability in (0..CAPABILITIES).filter(|c| !KEPT.contains(c)) {
                // SAFETY: this prctl takes a number and reads no memory. It fails for numbers that this
                // kernel has no capability for, which is as well.
                #[expect(unsafe_code, reason = "no crate drops capabilities without allocating")]
                unsafe {
                    libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0);
                }
            }
        }
        let Some(rules) = &self.rules else { return Ok(()) };
        // SAFETY: the system call takes an open descriptor of a ruleset and flags, of which there are
        // none; it reads no memory of ours.
        #[expect(unsafe_code, reason = "no crate enters a sandbox without allocating")]
        let entered = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0) };
        if entered == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    }
}

/// Rights that are asked about: all but listing folders, which would have to be allowed for whole
/// trees or not at all.
fn handled() -> BitFlags<AccessFs> {
    AccessFs::from_all(NEWEST) & !BitFlags::from(AccessFs::ReadDir)
}

/// What is granted of that: all but the making of devices.
fn granted() -> BitFlags<AccessFs> {
    handled() & !(AccessFs::MakeBlock | AccessFs::MakeChar)
}

fn rules(borders: &Borders<'_>) -> Result<RulesetCreated, RulesetError> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(handled())?
        .scope(Scope::Signal)?
        .create()?
        .set_compatibility(CompatLevel::BestEffort);
    let mut outside = Vec::new();
    let mut closed = borders.closed.to_vec();
    closed.extend(disks());
    around(Path::new("/"), &closed, &mut outside);
    let open = outside.iter().map(PathBuf::as_path).chain(borders.open.iter().copied());
    let read = AccessFs::ReadFile | AccessFs::Execute;
    for (path, rights) in open.map(|p| (p, granted())).chain(borders.readable.iter().map(|p| (*p, read))) {
        // What is gone by now, or what this user may not even look at, needs no rule.
        let Ok(opened) = PathFd::new(path) else { continue };
        // A file takes fewer rights than a folder.
        let rights = if path.is_dir() { rights } else { rights & AccessFs::from_file(NEWEST) };
        rules = rules.add_rule(PathBeneath::new(opened, rights))?;
    }
    Ok(rules)
}

/// Disks, and memory as a file: what root could read everything from.
fn disks() -> Vec<PathBuf> {
    let entries = fs::read_dir("/dev").into_iter().flatten().flatten();
    let is_disk = |e: &fs::DirEntry| {
        let memory = ["mem", "kmem", "port"].iter().any(|n| e.file_name() == *n);
        memory || e.file_type().is_ok_and(|t| t.is_block_device())
    };
    entries.filter(is_disk).map(|e| e.path()).collect()
}

/// The largest trees below `folder` that hold nothing of `closed`.
fn around(folder: &Path, closed: &[PathBuf], outside: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        // A link to a closed folder does not open it: rules are about what it leads to.
        let real =
            if entry.file_type().is_ok_and(|t| t.is_symlink()) { path.canonicalize().ok() } else { None };
        let real = real.as_deref().unwrap_or(&path);
        if closed.iter().any(|c| real.starts_with(c)) {
            continue;
        }
        if !closed.iter().any(|c| c.starts_with(real)) {
            outside.push(path);
        } else if real == path {
            around(&path, closed, outside);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_surrounds_a_closed_folder_is_open_and_links_to_it_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for folder in ["home/data/s3", "home/data/node", "home/other", "tmp"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::write(root.join("home/file"), "").unwrap();
        std::os::unix::fs::symlink(root.join("home/data"), root.join("way-in")).unwrap();
        std::os::unix::fs::symlink(root.join("home"), root.join("way-around")).unwrap();
        let mut outside = Vec::new();
        around(&root, &[root.join("home/data")], &mut outside);
        outside.sort();
        assert_eq!(outside, ["home/file", "home/other", "tmp"].map(|p| root.join(p)));
    }
}
