//! The server's configuration: a TOML file, every key with its default.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use axum::http::HeaderMap;
use serde::Deserialize;
use trainyard_api::runner::{EngineName, JobOptions};
use trainyard_definition::Limits;
use trainyard_engine::{
    Computes,
    slurm::{check_option, check_rest_option},
};
use trainyard_environment::{Catalogue, Images};

use crate::SlurmConfig;

/// Largest number that one of the limits can be.
const MOST_OF_A_LIMIT: u64 = 1_000_000;

/// All settings. See `docs/operations.md` for a page about each.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where everything is kept.
    pub data: PathBuf,
    /// Address of the API. Loopback unless told otherwise.
    pub listen: SocketAddr,
    /// URL under which others reach the API, when it is not the address itself.
    pub public_url: Option<String>,
    /// Days that a run's record stays after its end; 0: for ever.
    pub keep_days: u32,
    /// Longest time that a program may run, in seconds; 0: no limit. A manifest may ask for less.
    pub max_run_time: u64,
    /// Seconds between TERM and KILL when a program is stopped.
    pub grace: u64,
    /// Hours that a token of a signed-in user is good; the original's clients renew it half an hour before.
    pub token_hours: u32,
    /// Requests come through a reverse proxy, whose last entry of `X-Forwarded-For` is the client.
    pub behind_proxy: bool,
    /// How much the API takes at once.
    pub limits: LimitsConfig,
    /// Limits on definition zips.
    pub definition: Limits,
    /// The embedded object store.
    pub s3: S3Config,
    /// The local engine.
    pub local: LocalConfig,
    /// Which engines there are, and which one runs what names none.
    pub engine: EngineConfig,
    /// Compute configurations, beside and instead of the built-in ones.
    pub compute: BTreeMap<String, ComputeConfig>,
    /// Framework environments.
    pub environments: EnvironmentsConfig,
}

/// `[limits]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Connections to the API. What is more is told to come again.
    pub connections: usize,
    /// Open monitors.
    pub monitors: usize,
    /// Files on their way to the server.
    pub uploads: usize,
    /// Bytes of an uploaded model.
    pub model_bytes: u64,
    /// Seconds that a client may take to send the head of a request.
    pub header_seconds: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self { connections: 8192, monitors: 4096, uploads: 64, model_bytes: 64 << 30, header_seconds: 30 }
    }
}

/// `[s3]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3Config {
    /// Whether the embedded store runs.
    pub enabled: bool,
    /// Its address.
    pub listen: SocketAddr,
}

/// `[local]`: what this machine gives to runs. What is absent is found out.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LocalConfig {
    /// Keep programs apart from the server's files and processes, and from each other's.
    pub isolate: bool,
    /// Folders that isolated programs may write to, besides their own and temporary ones.
    pub writable: Vec<PathBuf>,
    /// CPU cores.
    pub cpus: Option<f64>,
    /// Memory, such as `24GiB`.
    pub memory: Option<String>,
    /// Ids of GPUs to use.
    pub gpus: Option<Vec<String>>,
    /// Number of GPUs to pretend, on a machine without any.
    pub pretend_gpus: Option<u32>,
    /// Folder of caches, environments and running attempts; `node` in the data folder when absent.
    pub node: Option<PathBuf>,
}

impl Default for LocalConfig {
    fn default() -> Self {
        Self {
            isolate: true,
            writable: Vec::new(),
            cpus: None,
            memory: None,
            gpus: None,
            pretend_gpus: None,
            node: None,
        }
    }
}

/// `[engine]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineConfig {
    /// The engine of runs that name none; absent: Slurm where it is set up, or else this machine.
    pub default: Option<EngineName>,
    /// A Slurm cluster.
    pub slurm: Option<SlurmConfig>,
}

/// `[compute.NAME]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComputeConfig {
    /// CPU cores.
    pub cpus: f64,
    /// Memory, such as `24GiB`.
    pub memory: String,
    /// GPUs.
    #[serde(default)]
    pub gpus: u32,
    /// The engine of runs that ask for it and name none.
    #[serde(default)]
    pub engine: Option<EngineName>,
    /// How a job of this size is asked for on Slurm.
    #[serde(default)]
    pub slurm: JobOptions,
}

/// `[environments]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EnvironmentsConfig {
    /// A catalogue file in place of the built-in one.
    pub catalogue: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: default_data(),
            listen: SocketAddr::from(([127, 0, 0, 1], 8470)),
            public_url: None,
            keep_days: 7,
            max_run_time: 0,
            grace: 30,
            token_hours: 8,
            behind_proxy: false,
            limits: LimitsConfig::default(),
            definition: Limits::default(),
            s3: S3Config::default(),
            local: LocalConfig::default(),
            engine: EngineConfig::default(),
            compute: BTreeMap::new(),
            environments: EnvironmentsConfig::default(),
        }
    }
}

impl Default for S3Config {
    fn default() -> Self {
        Self { enabled: true, listen: SocketAddr::from(([127, 0, 0, 1], 8471)) }
    }
}

fn default_data() -> PathBuf {
    let base = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
    let home = || {
        std::env::var_os("HOME")
            .map_or_else(|| PathBuf::from("/var/lib"), |h| PathBuf::from(h).join(".local/share"))
    };
    base.unwrap_or_else(home).join("trainyard")
}

/// The configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

impl Config {
    /// Reads a configuration; `name` is the file's, for messages.
    pub fn parse(name: &str, text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|e| ConfigError(format!("{name}: {e}")))?;
        config.computes()?;
        if let Some(memory) = &config.local.memory {
            parse_bytes(memory)?;
        }
        let limits = &config.limits;
        for (key, value) in [
            ("token_hours", u64::from(config.token_hours)),
            ("[limits] connections", limits.connections as u64),
            ("[limits] monitors", limits.monitors as u64),
            ("[limits] uploads", limits.uploads as u64),
            ("[limits] header_seconds", limits.header_seconds),
        ] {
            if !(1..=MOST_OF_A_LIMIT).contains(&value) {
                let message = format!("{name}: {key} is {value}: write a number from 1 to {MOST_OF_A_LIMIT}");
                return Err(ConfigError(message));
            }
        }
        config.check_engines(name)?;
        for folder in &config.local.writable {
            if !folder.is_absolute() || !folder.is_dir() {
                let folder = folder.display();
                return Err(ConfigError(format!(
                    "{name}: [local] writable: {folder} is not a folder: write absolute paths of folders that are there"
                )));
            }
        }
        Ok(config)
    }

    fn check_engines(&self, name: &str) -> Result<(), ConfigError> {
        let fault = |what: String| Err(ConfigError(format!("{name}: {what}")));
        let wanted = self.compute.values().filter_map(|c| c.engine).chain(self.engine.default);
        let Some(slurm) = &self.engine.slurm else {
            if wanted.into_iter().any(|e| e == EngineName::Slurm) {
                return fault(
                    "the engine `slurm` is asked for: write `[engine.slurm]`, with `shared` or `node`"
                        .to_owned(),
                );
            }
            return Ok(());
        };
        if let Err(what) = slurm.check() {
            return fault(what);
        }
        let general = slurm.job.options.iter().map(|o| ("engine.slurm.job".to_owned(), o));
        let each = self
            .compute
            .iter()
            .flat_map(|(n, c)| c.slurm.options.iter().map(move |o| (format!("compute.{n}.slurm"), o)));
        for (table, option) in general.chain(each) {
            let known = if slurm.rest.is_some() { check_rest_option(option) } else { Ok(()) };
            if let Err(why) = check_option(option).and(known) {
                return fault(format!("[{table}] options: {why}"));
            }
        }
        Ok(())
    }

    /// The engine of a run that asks for the compute configuration `name`, and perhaps for an engine; and how
    /// its job is asked for.
    pub(crate) fn placing(&self, name: &str, asked: Option<EngineName>) -> (EngineName, JobOptions) {
        let compute = self.compute.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, c)| c);
        let fallback = if self.engine.slurm.is_some() { EngineName::Slurm } else { EngineName::Local };
        let engine = asked.or(compute.and_then(|c| c.engine)).or(self.engine.default).unwrap_or(fallback);
        (engine, compute.map(|c| c.slurm.clone()).unwrap_or_default())
    }

    /// Containers of this engine.
    pub(crate) fn images(&self, engine: EngineName) -> Option<&Images> {
        self.engine.slurm.as_ref().filter(|_| engine == EngineName::Slurm)?.container.as_ref()
    }

    /// The address of whoever sent a request that came from `peer`.
    pub(crate) fn client_address(&self, headers: &HeaderMap, peer: IpAddr) -> IpAddr {
        if !self.behind_proxy {
            return peer;
        }
        // The last entry is the proxy's own; those before it are whatever the client says.
        let last = headers.get_all("x-forwarded-for").iter().next_back().and_then(|v| v.to_str().ok());
        last.and_then(|l| l.rsplit(',').next()?.trim().parse().ok()).unwrap_or(peer)
    }

    /// The compute catalogue that results.
    pub(crate) fn computes(&self) -> Result<Computes, ConfigError> {
        let mut computes = Computes::default();
        for (name, c) in &self.compute {
            let memory = parse_bytes(&c.memory)?;
            computes.set(name, trainyard_api::runner::Demand { cpus: c.cpus, memory, gpus: c.gpus });
        }
        Ok(computes)
    }

    /// The framework catalogue.
    pub(crate) fn catalogue(&self) -> Result<Catalogue, ConfigError> {
        let Some(path) = &self.environments.catalogue else { return Ok(Catalogue::built_in()) };
        let text =
            std::fs::read_to_string(path).map_err(|e| ConfigError(format!("{}: {e}", path.display())))?;
        Catalogue::parse(&text).map_err(|e| ConfigError(format!("{}: {e}", path.display())))
    }

    /// Folder of the local engine.
    pub(crate) fn node(&self) -> PathBuf {
        self.local.node.clone().unwrap_or_else(|| self.data.join("node"))
    }
}

/// Bytes of `24GiB`, `500 MB` or `1073741824`.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, ConfigError> {
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let bad = || ConfigError(format!("`{text}` is not a size: write a whole number with MB, MiB, GB or GiB"));
    let number: u64 = trimmed[..digits].parse().map_err(|_| bad())?;
    let factor: u64 = match trimmed[digits..].trim().to_lowercase().as_str() {
        "" | "b" => 1,
        "mb" => 1_000_000,
        "mib" => 1 << 20,
        "gb" => 1_000_000_000,
        "gib" => 1 << 30,
        "tb" => 1_000_000_000_000,
        "tib" => 1 << 40,
        _ => return Err(bad()),
    };
    number.checked_mul(factor).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_exact_and_unknown_units_are_refused() {
        assert_eq!(parse_bytes("24GiB").unwrap(), 24 << 30);
        assert_eq!(parse_bytes("1 GB").unwrap(), 1_000_000_000);
        for bad in ["8G", "1.5GB", "", "GiB"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_proxy_names_the_client_and_a_client_does_not() {
        let peer: IpAddr = "10.0.0.1".parse().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "6.6.6.6, 192.0.2.7".parse().unwrap());
        let config = |behind_proxy| Config { behind_proxy, ..Config::default() };
        assert_eq!(config(false).client_address(&headers, peer), peer);
        assert_eq!(config(true).client_address(&headers, peer).to_string(), "192.0.2.7");
        assert_eq!(config(true).client_address(&HeaderMap::new(), peer), peer);
    }

    #[test]
    fn a_limit_that_lets_nobody_in_is_refused() {
        for bad in ["token_hours = 0", "[limits]\nmonitors = 0", "[limits]\nconnections = 0"] {
            assert!(Config::parse("t.toml", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn folders_that_programs_may_write_to_have_to_be_there() {
        assert!(Config::parse("t.toml", "[local]\nwritable = ['/tmp']").is_ok());
        for bad in ["tmp", "/no/such/folder", "/etc/passwd"] {
            let error = Config::parse("t.toml", &format!("[local]\nwritable = ['{bad}']")).unwrap_err();
            assert!(error.0.contains(bad), "{error}");
        }
    }

    #[test]
    fn engines_are_chosen_by_run_then_by_size_then_by_default() {
        let text = "[engine.slurm]\nshared = '/s'\n[compute.here]\ncpus = 1.0\nmemory = '1GiB'\nengine = 'local'\n\
                    [compute.Big]\ncpus = 8.0\nmemory = '1GiB'\n[compute.Big.slurm]\npartition = 'big'";
        let config = Config::parse("t.toml", text).unwrap();
        assert_eq!(config.placing("here", None).0, EngineName::Local);
        assert_eq!(config.placing("here", Some(EngineName::Slurm)).0, EngineName::Slurm);
        let (engine, options) = config.placing("big", None);
        assert_eq!((engine, options.partition.as_deref()), (EngineName::Slurm, Some("big")));
        assert_eq!(Config::default().placing("k80", None).0, EngineName::Local);
        for bad in [
            "[engine]\ndefault = 'slurm'",
            "[engine.slurm]",
            "[engine.slurm]\nnode = 'relative'",
            "[engine.slurm]\nnode = '/n'\nas_owners = true",
            "[engine.slurm]\nnode = '/n/%u'",
            "[engine.slurm]\nshared = '/s'\nnode = '/n/%u'\nas_owners = true",
            "[engine.slurm]\nnode = '/n'\n[engine.slurm.rest]\nurl = 'http://h:6820'\ntoken_file = '/t'\nuser = 'u'",
            "[engine.slurm]\nshared = 'relative'",
            "[engine.slurm]\nshared = '/s'\njob = { options = ['--array=1-2'] }",
            "[engine.slurm]\nshared = '/s'\njob = { partitions = 'x' }",
            "[engine.slurm]\nshared = '/s'\n[engine.slurm.rest]\nurl = 'http://h:6820'\ntoken_file = 't'\nuser = 'u'",
            "[engine.slurm]\nshared = '/s'\ncontainer = { runtime = 'docker' }",
            "[engine.slurm]\nshared = '/s'\ncontainer = { runtime = 'apptainer', image = 'a.sif' }",
            "[engine.slurm]\nshared = '/s'\nnode = '/a:b'\ncontainer = { runtime = 'pyxis', image = 'a' }",
            "[engine.slurm]\nshared = '/s'\njob = { options = ['--mail-user=x'] }\n\
             [engine.slurm.rest]\nurl = 'http://h:6820'\ntoken_file = '/t'\nuser = 'u'",
        ] {
            assert!(Config::parse("t.toml", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn unknown_keys_are_named_with_their_line() {
        let error = Config::parse("t.toml", "grace = 5\n[s3]\nlisten_on = 'x'\n").unwrap_err();
        assert!(error.0.contains("line 3") && error.0.contains("listen_on"), "{error}");
    }
}
