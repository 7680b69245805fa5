//! The catalogue file: TOML, documented in its own head.

use serde::Deserialize;

/// Frameworks that can be run, and frameworks of old that cannot.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    /// What can be run, in no order.
    #[serde(default, rename = "framework")]
    pub entries: Vec<Entry>,
    /// What the original service ran.
    #[serde(default, rename = "original")]
    pub originals: Vec<Original>,
}

/// One version of one framework.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// As manifests name it.
    pub name: String,
    /// The whole version.
    pub version: String,
    /// Versions of python, as `major.minor`; `3` stands for any.
    pub python: Vec<String>,
    /// Pinned requirements; empty: the machine's own python.
    pub packages: Vec<String>,
    /// Pinned requirements where the node has a GPU.
    #[serde(default)]
    pub gpu: Option<Vec<String>>,
    /// Packages left out although others ask for them.
    #[serde(default)]
    pub exclude: Vec<String>,
}

/// A framework of the original service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Original {
    /// Its name.
    pub name: String,
    /// The versions that there were, or their beginnings.
    pub versions: Vec<String>,
    /// Name and version of what can be run today.
    pub nearest: [String; 2],
}

/// The catalogue file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the framework catalogue: {0}")]
pub struct CatalogueError(String);

impl Catalogue {
    /// Reads a catalogue.
    pub fn parse(text: &str) -> Result<Self, CatalogueError> {
        let catalogue: Self = toml::from_str(text).map_err(|e| CatalogueError(e.to_string()))?;
        for entry in &catalogue.entries {
            if let Some(loose) =
                entry.packages.iter().chain(entry.gpu.iter().flatten()).find(|p| !p.contains("=="))
            {
                return Err(CatalogueError(format!(
                    "{} {}: `{loose}` is not pinned with ==",
                    entry.name, entry.version
                )));
            }
            if entry.python.is_empty() {
                return Err(CatalogueError(format!("{} {} names no python", entry.name, entry.version)));
            }
        }
        Ok(catalogue)
    }

    /// The one that comes with this release.
    pub fn built_in() -> Self {
        Self::parse(include_str!("../catalogue.toml")).expect("a test parses the file that is built in")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_catalogue_is_good_and_names_what_is_promised() {
        let catalogue = Catalogue::parse(include_str!("../catalogue.toml")).unwrap();
        for name in ["tensorflow", "keras", "pytorch", "jax", "scikit-learn", "xgboost", "custom"] {
            assert!(catalogue.entries.iter().any(|e| e.name == name), "{name}");
        }
        for original in &catalogue.originals {
            let [name, version] = &original.nearest;
            let fits = |e: &&Entry| e.name == *name && e.version.starts_with(version.as_str());
            assert!(catalogue.entries.iter().any(|e| fits(&e)), "{name} {version}");
        }
    }

    #[test]
    fn loose_requirements_are_refused() {
        let text = "[[framework]]\nname='a'\nversion='1'\npython=['3']\npackages=['b>=1']";
        assert!(Catalogue::parse(text).unwrap_err().to_string().contains("not pinned"));
    }
}
