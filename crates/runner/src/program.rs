//! The program: started in a session of its own, its output straight into a file, waited for.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
};

use nix::unistd::setsid;
use tokio::process::{Child, Command};
use trainyard_api::runner::{Container, ContainerRuntime, EngineName, Exit, Team, Ticket, WorkOrder};
use trainyard_cgroup::Cgroup;
use trainyard_environment::Environment;

use crate::{
    Error,
    container::{self, Inside},
    environ::{Places, Privacy, head, one_line, variables},
    layout::Layout,
    namespace::Namespace,
    sandbox::{Borders, Sandbox},
    team::write_hosts,
    tree::{Marks, Tree},
};

/// A program that runs.
pub(crate) struct Program {
    child: Child,
    pub(crate) tree: Tree,
}

/// Everything that starting a program depends on.
pub(crate) struct Setting<'a> {
    pub(crate) order: &'a WorkOrder,
    pub(crate) layout: &'a Layout,
    pub(crate) environment: &'a Environment,
    pub(crate) isolation: &'a Isolation,
    pub(crate) engine: EngineName,
    /// Name of its control group.
    pub(crate) group: &'a str,
    /// Where the learners are, if there are several.
    pub(crate) team: Option<&'a Team>,
}

/// What keeps a program apart from the server and from other runs, where the machine can.
pub(crate) struct Isolation {
    /// It is kept apart.
    wanted: bool,
    /// Folders that are closed to it.
    closed: Vec<PathBuf>,
    /// Folders of the machine that the operator lets it write to.
    writable: Vec<PathBuf>,
    /// What a mount namespace covers.
    hide: Vec<PathBuf>,
}

impl Isolation {
    pub(crate) fn of(ticket: &Ticket) -> Self {
        let paths = |texts: &[String]| texts.iter().map(PathBuf::from).collect();
        // Rules are about what a path leads to.
        let real = |p: PathBuf| p.canonicalize().unwrap_or(p);
        let closed: Vec<PathBuf> = paths(&ticket.closed);
        Self {
            wanted: ticket.isolate,
            closed: closed.into_iter().map(real).collect(),
            writable: paths(&ticket.writable),
            hide: paths(&ticket.hide),
        }
    }

    /// What of its surroundings the program has for itself.
    fn privacy(&self) -> Privacy {
        let tmp = std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
        let tmp = tmp.canonicalize().unwrap_or(tmp);
        // Beside a closed folder nothing can be made: see `sandbox`.
        let tmp = self.wanted && self.closed.iter().any(|c| c.starts_with(&tmp));
        Privacy { home: self.wanted, tmp, container: false }
    }

    fn namespace(&self, layout: &Layout, hosts: Option<&Path>) -> Option<Namespace> {
        if self.wanted { Namespace::prepare(layout, &self.hide, hosts) } else { None }
    }

    fn sandbox(&self, layout: &Layout, environment: &Environment) -> std::io::Result<Option<Sandbox>> {
        if !self.wanted {
            return Ok(None);
        }
        // Not the folder of all: its entries cannot be replaced, and data only read, which also
        // keeps the cache that they are links to.
        let own =
            [&layout.code, &layout.results, &layout.logs, &layout.checkpoints, &layout.home, &layout.tmp];
        let open: Vec<PathBuf> = own.into_iter().chain([&layout.layer]).cloned().collect();
        let mut readable: Vec<&Path> = environment.folder.iter().map(PathBuf::as_path).collect();
        readable.push(&layout.job);
        let borders = Borders {
            closed: &self.closed,
            open: &open,
            writable: &self.writable,
            readable: &readable,
            appendable: &[&layout.output],
        };
        Sandbox::prepare(&borders).map(Some)
    }
}

/// Starts the command of the order.
pub(crate) fn start(setting: &Setting<'_>) -> Result<Program, Error> {
    let Setting { order, layout, environment, isolation, engine, group, team } = setting;
    // A cluster keeps its jobs in cgroups of its own, and counts in them.
    let own = *engine == EngineName::Local;
    let container = order.environment.container.as_ref();
    let tree = match container.map(|c| c.runtime) {
        None => Tree::new(if own { Cgroup::make(group) } else { None }),
        Some(ContainerRuntime::Apptainer) => Tree::of_container(),
        Some(ContainerRuntime::Pyxis) => Tree::of_step(Marks::new(order.run.as_str(), order.learner)),
    };
    if !order.allotment.gpus.is_empty() && !order.allotment.pretended {
        make_gpu_files();
    }
    let hosts = team
        .map(|team| write_hosts(&layout.root, &order.run, order.learner, team))
        .transpose()
        .map_err(Error::Start)?;
    if let Some(container) = container {
        let plan = in_container(setting, container, hosts.as_deref());
        let child = spawn(setting, plan, None, None, &tree).map_err(Error::Start)?;
        return Ok(Program { child, tree });
    }
    let sandbox = isolation.sandbox(layout, environment).map_err(Error::Start)?.map(Arc::new);
    let namespace = isolation.namespace(layout, hosts.as_deref());
    let inside = namespace.is_some();
    match spawn(setting, on_node(setting, inside), namespace, sandbox.clone(), &tree) {
        // The kernel may refuse what looked possible; the program runs all the same, without.
        Err(error) if inside => {
            tracing::debug!(%error, "no mount namespace for the program");
            spawn(setting, on_node(setting, false), None, sandbox, &tree)
        }
        other => other,
    }
    .map(|child| Program { child, tree })
    .map_err(Error::Start)
}

/// Has the driver's device files made, which the first program after a boot would make itself if its
/// sandbox let it. A machine where they are, or where the tool is not, needs nothing.
fn make_gpu_files() {
    let mut tool = std::process::Command::new("nvidia-modprobe");
    tool.args(["-u", "-c", "0"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Err(error) = tool.status() {
        tracing::debug!(%error, "nvidia-modprobe");
    }
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
        home: at(&layout.home),
        tmp: at(&layout.tmp),
        layer: at(&layout.layer),
    }
}

fn shell() -> PathBuf {
    let bash = PathBuf::from("/bin/bash");
    if bash.exists() { bash } else { PathBuf::from("/bin/sh") }
}

/// What is executed, with its whole environment.
struct Plan {
    command: Vec<String>,
    variables: Vec<(String, String)>,
    /// Folders as the program sees them.
    places: Places,
}

/// The command by a shell of this node. `inside`: in a namespace in which its folders are `/job`.
fn on_node(setting: &Setting<'_>, inside: bool) -> Plan {
    let Setting { order, layout, environment, isolation, team, .. } = setting;
    let places = places(layout, inside);
    let variables = variables(order, &places, environment.folder.as_deref(), &isolation.privacy(), *team);
    let command = vec![shell().display().to_string(), "-c".to_owned(), one_line(&order.command)];
    Plan { command, variables, places }
}

/// The command in a container.
fn in_container(setting: &Setting<'_>, container: &Container, hosts: Option<&Path>) -> Plan {
    let Setting { order, layout, environment, team, .. } = setting;
    let places = places(layout, true);
    let privacy = Privacy { home: true, tmp: false, container: true };
    let inside = Inside {
        layout,
        image: environment.image.as_deref().unwrap_or(&container.image),
        hosts: hosts.unwrap_or(Path::new("/etc/hosts")),
        gpus: !order.allotment.gpus.is_empty() && !order.allotment.pretended,
        variables: variables(order, &places, None, &privacy, *team),
        own: std::env::vars_os()
            .filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?)))
            .collect(),
    };
    let words = container::words(container, inside);
    Plan { command: words.command, variables: words.variables, places }
}

fn spawn(
    setting: &Setting<'_>,
    plan: Plan,
    namespace: Option<Namespace>,
    sandbox: Option<Arc<Sandbox>>,
    tree: &Tree,
) -> std::io::Result<Child> {
    let Setting { order, layout, .. } = setting;
    let Plan { command: words, variables, places } = plan;
    // Appending, so that the program and all that it starts write behind each other.
    let output = OpenOptions::new().create(true).append(true).open(&layout.output)?;
    let head = head(order, &places).into_bytes();
    let mut log = output.try_clone()?;
    let mut join: Option<File> = tree.cgroup().map(Cgroup::join_file).transpose()?;
    let mut command = Command::new(&words[0]);
    command
        .args(&words[1..])
        .current_dir(&layout.code)
        .env_clear()
        .envs(variables)
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
        // Behind what it forbids: it forbids to mount.
        if let Some(sandbox) = &sandbox {
            sandbox.enter()?;
        }
        // Last: a start that failed has no head in the log.
        log.write_all(&head)
    };
    // SAFETY: between fork and exec only async-signal-safe work is allowed. The closure makes
    // system calls only (setsid, write, unshare, mount, chdir, prctl, landlock) on values that were allocated
    // before the fork; errors are numbers, and nothing is locked or allocated.
    #[expect(
        unsafe_code,
        reason = "a session, a cgroup and a namespace have to be entered by the child itself"
    )]
    unsafe {
        command.pre_exec(prepare);
    }
    command.spawn()
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
