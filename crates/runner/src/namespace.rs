//! A mount namespace for the program, in which its folders appear as `/job`, as they did in the
//! original, and its data cannot be written to.

use std::{
    ffi::CString,
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    unistd::geteuid,
};

use crate::layout::Layout;

/// Where the folders appear.
pub(crate) const JOB: &str = "/job";

/// Where names of machines are looked up.
const HOSTS: &std::ffi::CStr = c"/etc/hosts";

/// What is needed to enter, prepared so that entering allocates nothing.
pub(crate) struct Namespace {
    job: CString,
    target: CString,
    data: CString,
    /// What the names of machines are looked up in, in place of the machine's own file.
    hosts: Option<CString>,
    root: CString,
    none: CString,
    /// Files that read as nothing.
    files: Vec<CString>,
    /// Folders that look empty.
    folders: Vec<CString>,
    nothing: CString,
    memory: CString,
}

impl Namespace {
    /// For these folders; `None` where the machine does not allow it. Root is asked for, because
    /// others would see files under strange owners; and `/job` has to be there or be ours to make.
    pub(crate) fn prepare(layout: &Layout, hide: &[PathBuf], hosts: Option<&Path>) -> Option<Self> {
        if !geteuid().is_root() {
            return None;
        }
        let target = Path::new(JOB);
        if !target.is_dir() && fs::create_dir(target).is_err() {
            return None;
        }
        let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).ok();
        Some(Self {
            job: text(&layout.job)?,
            target: text(target)?,
            data: text(&target.join("dl-data"))?,
            hosts: hosts.and_then(text),
            root: text(Path::new("/"))?,
            none: CString::default(),
            // Sockets among them.
            files: hide.iter().filter(|p| p.exists() && !p.is_dir()).filter_map(|p| text(p)).collect(),
            folders: hide.iter().filter(|p| p.is_dir()).filter_map(|p| text(p)).collect(),
            nothing: CString::from(c"/dev/null"),
            memory: CString::from(c"tmpfs"),
        })
    }

    /// Enters a new mount namespace and puts the folders into their places. Called between fork
    /// and exec: only system calls, on strings that are there already.
    pub(crate) fn enter(&self) -> io::Result<()> {
        let none: Option<&std::ffi::CStr> = None;
        unshare(CloneFlags::CLONE_NEWNS)?;
        // Nothing that is mounted here may show outside.
        mount(none, self.root.as_c_str(), none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        let bind = MsFlags::MS_BIND;
        mount(Some(self.job.as_c_str()), self.target.as_c_str(), none, bind, none)?;
        mount(Some(self.data.as_c_str()), self.data.as_c_str(), none, bind, none)?;
        let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(Some(self.none.as_c_str()), self.data.as_c_str(), none, read_only, none)?;
        if let Some(hosts) = &self.hosts {
            mount(Some(hosts.as_c_str()), HOSTS, none, bind, none)?;
        }
        // After the binds above, which come from one of these folders.
        for file in &self.files {
            mount(Some(self.nothing.as_c_str()), file.as_c_str(), none, bind, none)?;
        }
        for folder in &self.folders {
            let memory = Some(self.memory.as_c_str());
            mount(memory, folder.as_c_str(), memory, MsFlags::MS_RDONLY, none)?;
        }
        Ok(())
    }

    /// The path that `inside` has for the program.
    pub(crate) fn path(layout: &Layout, inside: &Path) -> PathBuf {
        match inside.strip_prefix(&layout.job) {
            Ok(rest) if rest.as_os_str().is_empty() => PathBuf::from(JOB),
            Ok(rest) => Path::new(JOB).join(rest),
            Err(_) => inside.to_owned(),
        }
    }
}
