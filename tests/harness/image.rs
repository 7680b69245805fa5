//! A small image for containers, of Debian's static programs.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

/// Says which image a program is in, in `/etc/os-release`.
pub const IN_IMAGE: &str = "NAME=yard-image";
/// Commands of the image.
const COMMANDS: [&str; 18] = [
    "cat", "echo", "env", "grep", "head", "id", "kill", "ls", "mkdir", "ps", "sh", "sleep", "sort", "tee",
    "touch", "tr", "true", "wc",
];

/// The root of the image's file system, below `folder`.
pub fn image_root(folder: &Path) -> PathBuf {
    let root = folder.join("image-root");
    if root.exists() {
        return root;
    }
    for name in ["bin", "etc", "tmp", "proc", "sys", "dev", "root", "var"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    for (from, to) in [("/bin/busybox", "bin/busybox"), ("/bin/bash-static", "bin/bash")] {
        fs::copy(from, root.join(to)).unwrap_or_else(|e| panic!("{from}: {e}"));
        fs::set_permissions(root.join(to), fs::Permissions::from_mode(0o755)).unwrap();
    }
    for command in COMMANDS {
        symlink("busybox", root.join("bin").join(command)).unwrap();
    }
    fs::write(root.join("etc/os-release"), format!("{IN_IMAGE}\n")).unwrap();
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\n").unwrap();
    for file in ["etc/hosts", "etc/resolv.conf"] {
        fs::write(root.join(file), "").unwrap();
    }
    root
}

/// The image as a file of Apptainer's, below `folder`.
pub fn sif(folder: &Path) -> PathBuf {
    let path = folder.join("image.sif");
    let output = Command::new("apptainer").arg("build").arg(&path).arg(image_root(folder)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    path
}

/// The image as `docker save` writes one, below `folder`.
pub fn archive(folder: &Path) -> PathBuf {
    let path = folder.join("image.tar");
    let script = r#"
import hashlib, io, json, sys, tarfile
root, path = sys.argv[1:]
def add(tar, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
layer = io.BytesIO()
with tarfile.open(fileobj=layer, mode="w") as tar:
    tar.add(root, arcname=".")
layer = layer.getvalue()
digest = "sha256:" + hashlib.sha256(layer).hexdigest()
config = json.dumps({"architecture": "amd64", "os": "linux", "config": {},
                     "rootfs": {"type": "layers", "diff_ids": [digest]}}).encode()
with tarfile.open(path, "w") as tar:
    add(tar, "config.json", config)
    add(tar, "layer.tar", layer)
    add(tar, "manifest.json", json.dumps(
        [{"Config": "config.json", "RepoTags": ["yard:1"], "Layers": ["layer.tar"]}]).encode())
"#;
    let done =
        Command::new("python3").args(["-c", script]).arg(image_root(folder)).arg(&path).status().unwrap();
    assert!(done.success());
    path
}
