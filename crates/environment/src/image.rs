//! The image of a container on its node: a file or folder that is there, or one that is fetched, under a lock, once
//! for all runs that want it.

use std::{path::Path, time::Duration};

use sha2::{Digest, Sha256};
use tokio::process::Command;
use trainyard_api::runner::{Container, ContainerRuntime};

use crate::make::{Environment, MakeError, file_error, lock, run};

/// Longest time that an image may take to come: others wait for it.
const PATIENCE: Duration = Duration::from_hours(2);

/// Sees that the image is there, and brings it below `root` where Apptainer has to fetch it. An image is fetched once
/// for its name: another one has another name, or a digest in it. What pyxis fetches it keeps itself.
pub(crate) async fn fetch(
    root: &Path,
    container: &Container,
    say: &mut impl FnMut(String),
) -> Result<Environment, MakeError> {
    let Container { runtime, image, .. } = container;
    let ready = |image: &str, built| Environment { folder: None, image: Some(image.to_owned()), built };
    if image.starts_with('/') {
        return match std::fs::metadata(image) {
            Ok(_) => Ok(ready(image, false)),
            Err(source) => Err(MakeError::Image { image: image.clone(), source }),
        };
    }
    if *runtime == ContainerRuntime::Pyxis {
        return Ok(ready(image, false));
    }
    let path = root.join(format!("image-{}.sif", &hex::encode(Sha256::digest(image))[..16]));
    let found = path.display().to_string();
    if path.is_file() {
        return Ok(ready(&found, false));
    }
    std::fs::create_dir_all(root).map_err(file_error(root))?;
    let _lock = lock(&path.with_extension("lock"), say).await?;
    if path.is_file() {
        return Ok(ready(&found, false));
    }
    say(format!("fetching the image {image}"));
    let part = path.with_extension("part");
    // What a pull that was cut short unpacked goes with the next.
    let unpacked = path.with_extension("tmp");
    let _ = std::fs::remove_dir_all(&unpacked);
    std::fs::create_dir(&unpacked).map_err(file_error(&unpacked))?;
    let mut pull = Command::new("apptainer");
    pull.args(["pull", "--force"]).arg(&part).arg(image).env("APPTAINER_TMPDIR", &unpacked);
    let pulled = tokio::time::timeout(PATIENCE, run(&mut pull)).await;
    let _ = std::fs::remove_dir_all(&unpacked);
    pulled.unwrap_or_else(|_| {
        Err(MakeError::Program {
            program: "apptainer pull".to_owned(),
            status: format!("given up after {} s", PATIENCE.as_secs()),
            output: image.clone(),
        })
    })?;
    std::fs::rename(&part, &path).map_err(file_error(&path))?;
    Ok(ready(&found, true))
}
