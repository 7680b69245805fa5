//! Frameworks that an operator has as container images, which go before those of the catalogue; and an image for
//! what would run on a node's own python. No I/O.

use serde::Deserialize;
use trainyard_api::{
    Framework,
    runner::{Container, ContainerRuntime, EnvironmentSpec},
};

use crate::{
    Catalogue, Entry,
    resolve::{begins, version_key},
};

/// Images, and what runs them: `[engine.slurm.container]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Images {
    /// What runs them.
    pub runtime: ContainerRuntime,
    /// The image of frameworks of the catalogue that are the node's own python, `custom` among them; absent:
    /// they run on the node itself.
    #[serde(default)]
    pub image: Option<String>,
    /// Further options of the runtime, each one word.
    #[serde(default)]
    pub options: Vec<String>,
    /// Frameworks that are images.
    #[serde(default, rename = "framework")]
    pub frameworks: Vec<ImageEntry>,
}

/// One version of one framework, in an image.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageEntry {
    /// As manifests name it.
    pub name: String,
    /// The whole version.
    pub version: String,
    /// The image, as the runtime takes it.
    pub image: String,
}

/// What Apptainer fetches images from, besides those with `://`.
const FETCHED: [&str; 4] = ["docker-archive", "docker-daemon", "oci", "oci-archive"];
/// Options of pyxis that say what a run needs.
const OURS: [&str; 4] = ["--container-image", "--container-mounts", "--container-workdir", "--container-env"];

impl Images {
    /// Every image once.
    pub fn all(&self) -> Vec<Container> {
        let mut images: Vec<&str> =
            self.frameworks.iter().map(|e| e.image.as_str()).chain(self.image.as_deref()).collect();
        images.sort_unstable();
        images.dedup();
        images.into_iter().map(|i| self.container(i)).collect()
    }

    /// The newest image that is what was asked for; `None`: none is.
    pub fn resolve(&self, asked: &Framework) -> Option<EnvironmentSpec> {
        let fits =
            |e: &&ImageEntry| e.name.eq_ignore_ascii_case(&asked.name) && begins(&e.version, &asked.version);
        let entry = self.frameworks.iter().filter(fits).max_by_key(|e| version_key(&e.version))?;
        Some(EnvironmentSpec {
            label: format!("{} {}, image {}", entry.name, entry.version, entry.image),
            python: String::new(),
            packages: Vec::new(),
            container: Some(self.container(&entry.image)),
        })
    }

    /// The image for all, for a framework that is nothing but a python; `None`: there is none.
    pub fn general(&self, catalogue: &Catalogue, asked: &Framework) -> Option<EnvironmentSpec> {
        let image = self.image.as_ref()?;
        let bare = |e: &&Entry| e.name.eq_ignore_ascii_case(&asked.name) && e.packages.is_empty();
        let entry = catalogue.entries.iter().find(bare)?;
        Some(EnvironmentSpec {
            label: format!("{}, image {image}", entry.name),
            python: String::new(),
            packages: Vec::new(),
            container: Some(self.container(image)),
        })
    }

    /// What cannot be used of it, in words.
    pub fn check(&self) -> Result<(), String> {
        for image in self.frameworks.iter().map(|e| &e.image).chain(&self.image) {
            let known = |scheme: &str| FETCHED.contains(&scheme) || image.contains("://");
            let fetched = image.split_once(':').is_some_and(|(scheme, _)| known(scheme));
            let found = image.starts_with('/') || fetched || self.runtime == ContainerRuntime::Pyxis;
            if image.is_empty() || !found {
                return Err(format!(
                    "the image `{image}` is neither an absolute path nor one that apptainer can fetch: write /PATH or \
                     docker://NAME"
                ));
            }
        }
        for option in &self.options {
            let name = option.split('=').next().unwrap_or_default();
            if !option.starts_with("--") {
                return Err(format!("`{option}` does not begin with `--`: write each option as one word"));
            }
            // Of two, Slurm knows the later alone.
            if self.runtime == ContainerRuntime::Pyxis && OURS.contains(&name) {
                return Err(format!("`{name}` is set by the server"));
            }
        }
        Ok(())
    }

    fn container(&self, image: &str) -> Container {
        Container { runtime: self.runtime, image: image.to_owned(), options: self.options.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images() -> Images {
        let entry = |version: &str| ImageEntry {
            name: "pytorch".to_owned(),
            version: version.to_owned(),
            image: format!("/images/pytorch-{version}.sif"),
        };
        Images {
            runtime: ContainerRuntime::Apptainer,
            image: Some("/images/base.sif".to_owned()),
            options: vec!["--rocm".to_owned()],
            frameworks: vec![entry("2.9.1"), entry("2.10.0")],
        }
    }

    fn image_of(name: &str, version: &str) -> Option<String> {
        let asked = Framework { name: name.into(), version: version.into(), runtimes: Vec::new() };
        Some(images().resolve(&asked)?.container?.image)
    }

    #[test]
    fn the_newest_image_that_fits_is_taken() {
        assert_eq!(image_of("PyTorch", "2").as_deref(), Some("/images/pytorch-2.10.0.sif"));
        assert_eq!(image_of("pytorch", "2.9").as_deref(), Some("/images/pytorch-2.9.1.sif"));
        assert_eq!(image_of("pytorch", "2.1"), None);
        assert_eq!(image_of("jax", "0"), None);
    }

    #[test]
    fn images_that_nobody_finds_are_refused() {
        let with = |image: &str| Images { image: Some(image.to_owned()), ..images() }.check();
        assert_eq!(with("docker://python:3.12"), Ok(()));
        for bad in ["base.sif", "images/base.sif", "python:3.12", ""] {
            assert!(with(bad).is_err(), "{bad}");
        }
        assert_eq!(Images { runtime: ContainerRuntime::Pyxis, ..images() }.check(), Ok(()));
        assert!(Images { options: vec!["-B".to_owned()], ..images() }.check().is_err());
        let mounts = vec!["--container-mounts=/data:/data".to_owned()];
        assert!(Images { runtime: ContainerRuntime::Pyxis, options: mounts, ..images() }.check().is_err());
    }

    #[test]
    fn the_image_for_all_takes_the_place_of_a_bare_python_and_of_nothing_else() {
        let general = |name: &str| {
            let runtimes = vec![trainyard_api::Runtime { name: "python".into(), version: "3.99".into() }];
            let asked = Framework { name: name.into(), version: "1".into(), runtimes };
            images().general(&Catalogue::built_in(), &asked)
        };
        let inside = general("Custom").unwrap();
        assert_eq!(inside.label, "custom, image /images/base.sif");
        assert_eq!(inside.container.unwrap().options, ["--rocm"]);
        assert_eq!(general("jax"), None);
        assert_eq!(images().all().len(), 3);
    }
}
