//! Makes an environment once per node: whoever comes first builds it under a lock, the rest wait
//! and share it. A build that was cut short is thrown away by the next.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
};

use sha2::{Digest, Sha256};
use tokio::process::Command;
use trainyard_api::runner::EnvironmentSpec;

use crate::{Python, find_pythons, image, layer::expect_layers};

/// Name of the file that is written last: an environment without it is not finished.
const READY: &str = ".ready";
/// Counts the ways in which environments were made; another one is another environment.
const FORMAT: u32 = 2;
/// Lines of an installer's output that an error quotes.
const QUOTED: usize = 15;

/// An environment that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// Its folder; `None` is the machine's own python, or an image.
    pub folder: Option<PathBuf>,
    /// The image of a container, as its runtime takes it on this node.
    pub image: Option<String>,
    /// Whether this call built it.
    pub built: bool,
}

/// An environment could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The node has no such python.
    #[error("this node has no python {wanted}; it has {here}")]
    NoPython {
        /// What the environment needs.
        wanted: String,
        /// What there is.
        here: String,
    },
    /// A program that builds it failed.
    #[error("{program} failed ({status}):\n{output}")]
    Program {
        /// Which.
        program: String,
        /// How it ended.
        status: String,
        /// The end of what it printed.
        output: String,
    },
    /// The image of a container is not there.
    #[error(
        "the image {image} is not on this node: {source}; the operator names it in [engine.slurm.container]"
    )]
    Image {
        /// Which.
        image: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file cannot be used.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

pub(crate) fn file_error(path: &Path) -> impl FnOnce(std::io::Error) -> MakeError + '_ {
    move |source| MakeError::File { path: path.display().to_string(), source }
}

/// Makes `spec` below `root`, or finds it there. `say` gets a line for people now and then.
pub async fn make(
    root: &Path,
    spec: &EnvironmentSpec,
    mut say: impl FnMut(String),
) -> Result<Environment, MakeError> {
    if let Some(container) = &spec.container {
        return image::fetch(root, container, &mut say).await;
    }
    if spec.packages.is_empty() {
        return Ok(Environment { folder: None, image: None, built: false });
    }
    let folder = root.join(key(spec));
    if folder.join(READY).is_file() {
        return Ok(Environment { folder: Some(folder), image: None, built: false });
    }
    std::fs::create_dir_all(root).map_err(file_error(root))?;
    let lock_path = folder.with_extension("lock");
    let lock = lock(&lock_path, &mut say).await?;
    if folder.join(READY).is_file() {
        return Ok(Environment { folder: Some(folder), image: None, built: false });
    }
    say(format!("making the environment {}", spec.label));
    let _ = std::fs::remove_dir_all(&folder);
    let result = build(&folder, spec).await;
    if let Err(error) = result {
        let _ = std::fs::remove_dir_all(&folder);
        return Err(error);
    }
    expect_layers(&folder, &spec.python).map_err(file_error(&folder))?;
    let ready = folder.join(READY);
    std::fs::write(&ready, spec.packages.join("\n")).map_err(file_error(&ready))?;
    drop(lock);
    Ok(Environment { folder: Some(folder), image: None, built: true })
}

/// Removes environments and images below `root` whose making was cut short: nobody has them locked. Returns how many.
pub fn sweep(root: &Path) -> usize {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten().map(|e| e.path());
    let is_half_made = |path: &PathBuf| match path.extension().and_then(|e| e.to_str()) {
        Some("part" | "tmp") => true,
        _ => path.is_dir() && !path.join(READY).is_file(),
    };
    let mut removed = 0;
    for path in entries.filter(is_half_made) {
        let Ok(lock) =
            File::options().create(true).truncate(false).write(true).open(path.with_extension("lock"))
        else {
            continue;
        };
        // Held while it is removed; whoever made it since has finished it.
        if lock.try_lock().is_err() || !is_half_made(&path) {
            continue;
        }
        let gone = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed += usize::from(gone.is_ok());
    }
    removed
}

/// Name of the folder: equal contents, equal name.
fn key(spec: &EnvironmentSpec) -> String {
    let mut packages = spec.packages.clone();
    packages.sort();
    let content = format!("{FORMAT}\n{}\n{}", spec.python, packages.join("\n"));
    let first = spec.label.split([' ', ',']).next().unwrap_or("env");
    format!("{first}-{}", &hex::encode(Sha256::digest(content))[..16])
}

pub(crate) async fn lock(path: &Path, say: &mut impl FnMut(String)) -> Result<File, MakeError> {
    let file =
        File::options().create(true).truncate(false).write(true).open(path).map_err(file_error(path))?;
    if file.try_lock().is_ok() {
        return Ok(file);
    }
    say("waiting for another run that is making the same environment".to_owned());
    let path = path.to_owned();
    let locked = tokio::task::spawn_blocking(move || file.lock().map(|()| file).map_err(file_error(&path)));
    match locked.await {
        Ok(result) => result,
        Err(_) => Err(MakeError::Program {
            program: "waiting for the lock".into(),
            status: "stopped".into(),
            output: String::new(),
        }),
    }
}

async fn build(folder: &Path, spec: &EnvironmentSpec) -> Result<(), MakeError> {
    let pythons = find_pythons().await;
    let fits = |p: &&Python| {
        p.version
            .strip_prefix(spec.python.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let python = pythons.iter().find(fits).ok_or_else(|| MakeError::NoPython {
        wanted: spec.python.clone(),
        here: pythons.iter().map(|p| p.version.clone()).collect::<Vec<_>>().join(", "),
    })?;
    let (excluded, packages): (Vec<&String>, Vec<&String>) =
        spec.packages.iter().partition(|p| p.starts_with('!'));
    let interpreter = folder.join("bin/python");
    if has_uv().await {
        // With pip, which runs use on their own layers.
        run(Command::new("uv").args(["venv", "--quiet", "--seed", "--python"]).arg(&python.path).arg(folder))
            .await?;
        let mut install = Command::new("uv");
        // Runs cannot write the bytecode themselves.
        install
            .args(["pip", "install", "--quiet", "--compile-bytecode", "--python"])
            .arg(&interpreter)
            .args(&packages);
        if !excluded.is_empty() {
            let list = folder.join("exclude.txt");
            let lines: Vec<String> =
                excluded.iter().map(|e| format!("{} ; sys_platform == 'never'", &e[1..])).collect();
            std::fs::write(&list, lines.join("\n")).map_err(file_error(&list))?;
            install.arg("--override").arg(&list);
        }
        run(&mut install).await
    } else {
        run(Command::new(&python.path).args(["-m", "venv"]).arg(folder)).await?;
        let mut install = Command::new(&interpreter);
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]);
        run(install.args(&packages)).await
    }
}

async fn has_uv() -> bool {
    let mut probe = Command::new("uv");
    probe.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    probe.status().await.is_ok_and(|s| s.success())
}

pub(crate) async fn run(command: &mut Command) -> Result<(), MakeError> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|source| MakeError::File { path: program.clone(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    let tail = lines[lines.len().saturating_sub(QUOTED)..].join("\n");
    Err(MakeError::Program { program, status: output.status.to_string(), output: tail })
}
