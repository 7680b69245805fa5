//! What the program may touch, by Landlock (Linux 5.13 and later, no rights needed).
//!
//! It reads what its user may read, but for the folders of the server, writes to its own folders and to
//! shared temporary ones, reaches no other process, and has of root's capabilities those that containers
//! have. Landlock knows only what is allowed. So what surrounds a closed folder is allowed entry by entry,
//! as it is when the program starts; names can be listed everywhere.

use std::{
    collections::BTreeMap,
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
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// Newest version whose rights are known here; older kernels take what they know.
const NEWEST: ABI = ABI::V6;

/// Capabilities (`capabilities(7)`, by number) that a program of root keeps: those that container
/// engines leave by default, less device files and raw sockets, which hear every token on loopback,
/// and with what training on several GPUs asks for: locked memory and priorities.
const KEPT: [u32; 14] = [
    0,  // CHOWN
    1,  // DAC_OVERRIDE
    3,  // FOWNER
    4,  // FSETID
    5,  // KILL
    6,  // SETGID
    7,  // SETUID
    8,  // SETPCAP
    10, // NET_BIND_SERVICE
    14, // IPC_LOCK
    18, // SYS_CHROOT
    23, // SYS_NICE
    29, // AUDIT_WRITE
    31, // SETFCAP
];
/// One more than the largest number that there may be.
const CAPABILITIES: u32 = 64;

/// A sandbox, ready to be entered.
pub(crate) struct Sandbox {
    /// Calls that are refused.
    calls: BpfProgram,
    /// Absent where the kernel has no Landlock.
    rules: Option<OwnedFd>,
    root: bool,
}

/// Where the program may go. All else on the machine it may read and execute.
pub(crate) struct Borders<'a> {
    /// Folders of which it sees nothing, but for what follows.
    pub(crate) closed: &'a [PathBuf],
    /// Folders of its own, which it may do anything with.
    pub(crate) open: &'a [PathBuf],
    /// Folders of the machine that the operator lets it write to.
    pub(crate) writable: &'a [PathBuf],
    /// What it may read and execute.
    pub(crate) readable: &'a [&'a Path],
    /// What it may open for writing, and not cut: its own output, by names such as `/dev/stderr`.
    pub(crate) appendable: &'a [&'a Path],
}

/// Folders of the machine that every program writes to: temporary files, devices, shared memory.
const SHARED: [&str; 3] = ["/tmp", "/var/tmp", "/dev"];

impl Sandbox {
    /// For a program within these borders.
    pub(crate) fn prepare(borders: &Borders<'_>) -> std::io::Result<Self> {
        let rules = rules(borders).map_err(|e| std::io::Error::other(format!("its sandbox: {e}")))?;
        let calls = refused_calls().map_err(|e| std::io::Error::other(format!("its sandbox: {e}")))?;
        Ok(Self { calls, rules: rules.into(), root: nix::unistd::geteuid().is_root() })
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
        seccompiler::apply_filter(&self.calls).map_err(|_| std::io::Error::last_os_error())?;
        let Some(rules) = &self.rules else { return Ok(()) };
        // SAFETY: the system call takes an open descriptor of a ruleset and flags, of which there are
        // none; it reads no memory of ours.
        #[expect(unsafe_code, reason = "no crate enters a sandbox without allocating")]
        let entered = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0) };
        if entered == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    }
}

/// `prlimit` on other processes: Landlock knows nothing of it, and it ends whom it likes by a limit
/// of nothing. To ask for limits, and to set one's own, stays allowed.
fn refused_calls() -> Result<BpfProgram, seccompiler::Error> {
    let is = |argument, operator| SeccompCondition::new(argument, SeccompCmpArgLen::Qword, operator, 0);
    let others = SeccompRule::new(vec![is(0, SeccompCmpOp::Ne)?, is(2, SeccompCmpOp::Ne)?])?;
    let filter = SeccompFilter::new(
        BTreeMap::from([(libc::SYS_prlimit64, vec![others])]),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM.unsigned_abs()),
        std::env::consts::ARCH.try_into()?,
    )?;
    Ok(filter.try_into()?)
}

/// Whether the kernel has Landlock.
pub fn has_landlock() -> bool {
    let rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))
        .and_then(Ruleset::create);
    rules.is_ok()
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
        .scope(Scope::Signal | Scope::AbstractUnixSocket)?
        .create()?
        .set_compatibility(CompatLevel::BestEffort);
    let mut closed = borders.closed.to_vec();
    if nix::unistd::geteuid().is_root() {
        disks(Path::new("/dev"), &mut closed);
    }
    let mut readable = Vec::new();
    around(Path::new("/"), &closed, &mut readable);
    let mut shared = Vec::new();
    for folder in SHARED.map(Path::new).into_iter().chain(borders.writable.iter().map(PathBuf::as_path)) {
        // What surrounds a closed folder does not open it.
        if closed.iter().any(|c| c.starts_with(folder)) {
            around(folder, &closed, &mut shared);
        } else {
            shared.push(folder.to_owned());
        }
    }
    let read = AccessFs::ReadFile | AccessFs::Execute;
    let write = BitFlags::from(AccessFs::WriteFile);
    let open = shared.iter().chain(borders.open).map(|p| (p.as_path(), granted()));
    let readable = readable.iter().map(PathBuf::as_path).chain(borders.readable.iter().copied());
    let few = readable.map(|p| (p, read)).chain(borders.appendable.iter().map(|p| (*p, write)));
    for (path, rights) in open.chain(few) {
        // `/dev/stdout` may lead to a pipe of this process, which is nowhere and takes no rule.
        if path.is_symlink() && path.canonicalize().is_err() {
            continue;
        }
        // What is gone by now, or what this user may not even look at, needs no rule.
        let Ok(opened) = PathFd::new(path) else { continue };
        // A file takes fewer rights than a folder.
        let rights = if path.is_dir() { rights } else { rights & AccessFs::from_file(NEWEST) };
        rules = rules.add_rule(PathBeneath::new(opened, rights))?;
    }
    Ok(rules)
}

/// Disks below `folder`, the ways to them past their blocks, and memory as a file: what root could
/// read everything from.
fn disks(folder: &Path, found: &mut Vec<PathBuf>) {
    const WAYS: [&str; 4] = ["sg", "ng", "nvme", "bsg"];
    const MEMORY: [&str; 3] = ["mem", "kmem", "port"];
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_way =
            kind.is_char_device() && (WAYS.iter().any(|w| name.starts_with(w)) || MEMORY.contains(&&*name));
        if kind.is_block_device() || is_way {
            found.push(entry.path());
        } else if kind.is_dir() && name != "shm" {
            disks(&entry.path(), found);
        }
    }
}

/// The largest trees below `folder` that hold nothing of `closed`.
fn around(folder: &Path, closed: &[PathBuf], outside: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        // May be entered and not listed: then only the ways to what is closed are known.
        let below = closed.iter().filter_map(|c| c.strip_prefix(folder).ok()?.components().next());
        let mut below: Vec<PathBuf> = below.map(|name| folder.join(name)).collect();
        below.sort();
        below.dedup();
        for path in below.iter().filter(|p| !closed.contains(p)) {
            around(path, closed, outside);
        }
        return;
    };
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
