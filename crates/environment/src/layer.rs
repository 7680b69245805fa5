//! A run's own layer over a shared environment: what the run installs goes there, and what the
//! environment has is there already.
//!
//! Commands of training runs begin with `pip install` more often than not. The environment is
//! shared by all runs of a node, so it must not change. The layer is a virtual environment of links
//! and a few lines (PEP 405): its `site-packages` is empty but for a path file that adds those of
//! the environment, as a file in a `.pth` may.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, symlink},
    path::{Path, PathBuf},
};

/// Variable that names the packages of a run's layer to pythons of the shared environment, which
/// launchers such as torchrun start.
pub const LAYER_VARIABLE: &str = "TRAINYARD_LAYER";

/// A path file for the shared environment: puts the layer before the environment's own packages, and
/// behind python's, which a package may bear the name of. `sitedir` is where the file lies; python
/// runs such lines where it is known.
const ADD_LAYER: &str = "import os, sys; layer = os.environ.get('TRAINYARD_LAYER'); \
    layer and layer not in sys.path and \
    sys.path.insert(sys.path.index(sitedir) if sitedir in sys.path else len(sys.path), layer)\n";

/// Prepares the environment `folder`, which is being made, for layers.
pub(crate) fn expect_layers(folder: &Path, python: &str) -> io::Result<()> {
    fs::write(site_packages(folder, python).join("_layer.pth"), ADD_LAYER)
}

/// `pip`, whatever the path of the layer will be.
const PIP: &str = "#!/bin/sh\nexec \"$(dirname \"$0\")/python\" -m pip \"$@\"\n";

/// Where packages of the environment `folder` for python `major.minor` are.
pub fn site_packages(folder: &Path, python: &str) -> PathBuf {
    folder.join(format!("lib/python{python}/site-packages"))
}

/// Makes a layer over the environment `base` in `folder`, which does not exist. `python` is
/// `major.minor`.
pub fn make_layer(base: &Path, folder: &Path, python: &str) -> io::Result<()> {
    let interpreter = fs::canonicalize(base.join("bin/python"))?;
    let (bin, packages) = (folder.join("bin"), site_packages(folder, python));
    fs::create_dir_all(&bin)?;
    fs::create_dir_all(&packages)?;
    for name in ["python", "python3"] {
        symlink(&interpreter, bin.join(name))?;
    }
    for name in ["pip", "pip3"] {
        let mut file = fs::File::options().write(true).create_new(true).mode(0o755).open(bin.join(name))?;
        file.write_all(PIP.as_bytes())?;
    }
    let home = interpreter.parent().unwrap_or(Path::new("/usr/bin")).display();
    fs::write(
        folder.join("pyvenv.cfg"),
        format!("home = {home}\ninclude-system-site-packages = false\nversion = {python}\n"),
    )?;
    // Path files of the environment count too, which a plain line would not do.
    let shared = site_packages(base, python).display().to_string();
    let quoted = serde_json::to_string(&shared)?;
    fs::write(packages.join("_environment.pth"), format!("import site; site.addsitedir({quoted})\n"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn run(command: &mut Command) -> String {
        let output = command.output().unwrap();
        let text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{command:?}: {text}");
        text
    }

    /// A wheel is a zip with three files of fixed names (PEP 427).
    fn wheel(dir: &Path, name: &str, version: &str) -> PathBuf {
        let path = dir.join(format!("{name}-{version}-py3-none-any.whl"));
        let info = format!("{name}-{version}.dist-info");
        let script = format!(
            "import zipfile; z = zipfile.ZipFile({path:?}, 'w')\n\
             z.writestr('{name}.py', 'version = \"{version}\"')\n\
             z.writestr('{info}/METADATA', 'Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n')\n\
             z.writestr('{info}/WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n\
             z.writestr('{info}/RECORD', '')\nz.close()"
        );
        run(Command::new("python3").args(["-c", &script]));
        path
    }

    #[test]
    fn a_run_installs_over_the_environment_and_leaves_it_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (base, layer) = (dir.path().join("base"), dir.path().join("layer"));
        run(Command::new("python3").args(["-m", "venv"]).arg(&base));
        let version = "import sys; print('%d.%d' % sys.version_info[:2])";
        let python = run(Command::new(base.join("bin/python")).args(["-c", version])).trim().to_owned();
        let pip = |at: &Path, wheel: &Path| {
            let mut command = Command::new(at.join("bin/pip"));
            run(command.args(["install", "--no-index", "--quiet"]).arg(wheel))
        };
        pip(&base, &wheel(dir.path(), "shared", "1.0"));
        pip(&base, &wheel(dir.path(), "raised", "1.0"));
        expect_layers(&base, &python).unwrap();
        make_layer(&base, &layer, &python).unwrap();
        pip(&layer, &wheel(dir.path(), "own", "3.0"));
        pip(&layer, &wheel(dir.path(), "raised", "2.0"));
        let ask =
            "import shared, raised, own, sys; print(shared.version, raised.version, own.version, sys.prefix)";
        let said = run(Command::new(layer.join("bin/python")).args(["-c", ask]));
        assert_eq!(said.trim(), format!("1.0 2.0 3.0 {}", layer.display()));
        let said =
            run(Command::new(base.join("bin/python")).args(["-c", "import raised; print(raised.version)"]));
        assert_eq!(said.trim(), "1.0", "the shared environment was changed");
        // A launcher of the environment is told of the layer; python's own modules stay its own.
        pip(&layer, &wheel(dir.path(), "enum", "1.1"));
        let ask = "import enum, raised, own; enum.Enum; print(raised.version, own.version)";
        let packages = site_packages(&layer, &python);
        let said =
            run(Command::new(base.join("bin/python")).args(["-c", ask]).env(LAYER_VARIABLE, &packages));
        assert_eq!(said.trim(), "2.0 3.0");
        run(Command::new(layer.join("bin/python")).args(["-c", ask]).env(LAYER_VARIABLE, &packages));
    }
}
