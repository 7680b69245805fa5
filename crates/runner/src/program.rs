//! The program: started in a session of its own, its output straight into a file, waited for.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use nix::unistd::setsid;
use tokio::process::{Child, Command};
use trainyard_api::runner::{Exit, WorkOrder};

use crate::{
    Error,
    cgroup::Cgroup,
    environ::{Places, head, one_line, variables},
    layout::Layout,
    namespace::Namespace,
    tree::Tree,
};

/// A program that runs.
pub(crate) struct Program {
    child: Child,
    pub(crate) tree: Tree,
}

/// Starts the command of `order`.
pub(crate) fn start(
    order: &WorkOrder,
    layout: &Layout,
    environment: Option<&Path>,
    hide: &[String],
) -> Result<Program, Error> {
    let tree = Tree::new(Cgroup::make(order.run.as_str()));
    let namespace = Namespace::prepare(layout, hide);
    let inside = namespace.is_some();
    match spawn(order, layout, environment, namespace, &tree) {
        // The kernel may refuse what looked possible; the program runs all the same, without.
        Err(error) if inside => {
            tracing::debug!(%error, "no mount namespace for the program");
            spawn(order, layout, environment, None, &tree)
        }
        other => other,
    }
    .map(|child| Program { child, tree })
    .map_err(Error::Start)
}

fn places(layout: &Layout, inside: bool) -> Places {
    let at = |path: &Path| if inside { Namespace::path(layout, path) } else { path.to_owned() };
    Places {
        job: at(&layout.job),
        data: at(&layout.data),
        code: at(&layout.code),
        results: at(&layout.results),
        logs: at(&layout.logs),
        checkpoints: at(&layout.checkpoints),
    }
}

fn shell() -> PathBuf {
    let bash = PathBuf::from("/bin/bash");
    if bash.exists() { bash } else { PathBuf::from("/bin/sh") }
}

fn spawn(
    order: &WorkOrder,
    layout: &Layout,
    environment: Option<&Path>,
    namespace: Option<Namespace>,
    tree: &Tree,
) -> std::io::Result<Child> {
    let places = places(layout, namespace.is_some());
    // Appending, so that the program and all that it starts write behind each other.
    let mut output = OpenOptions::new().create(true).append(true).open(&layout.output)?;
    let before = output.metadata()?.len();
    output.write_all(head(order, &places).as_bytes())?;
    let log = output.try_clone()?;
    let mut join: Option<File> = tree.cgroup().map(Cgroup::join_file).transpose()?;
    let mut command = Command::new(shell());
    command
        .arg("-c")
        .arg(one_line(&order.command))
        .current_dir(&layout.code)
        .env_clear()
        .envs(variables(order, &places, environment))
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    let code = places.code;
    let code = std::ffi::CString::new(std::os::unix::ffi::OsStrExt::as_bytes(code.as_os_str()))?;
    let prepare = move || {
        setsid()?;
        if let Some(join) = &mut join {
            join.write_all(b"0")?;
        }
        if let Some(namespace) = &namespace {
            namespace.enter()?;
            nix::unistd::chdir(code.as_c_str())?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe work is allowed. The closure makes
    // system calls only (setsid, write, unshare, mount, chdir) on values that were allocated
    // before the fork; errors are numbers, and nothing is locked or allocated.
    #[expect(
        unsafe_code,
        reason = "a session, a cgroup and a namespace have to be entered by the child itself"
    )]
    unsafe {
        command.pre_exec(prepare);
    }
    // Where it did not start, its head is not part of the log.
    command.spawn().inspect_err(|_| drop(log.set_len(before)))
}

impl Program {
    /// Waits for the command itself to end. Safe to drop and to call again.
    pub(crate) async fn wait(&mut self) -> Result<Exit, Error> {
        self.child.wait().await.map(exit_of).map_err(Error::Start)
    }
}

fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Code(1),
    }
}
