//! Passes of jobs: what a runner shows that an engine's own queue has started, to get the token of its
//! attempt. One per job, computed from the server's key, so that none has to be kept.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;
use trainyard_api::{RunId, Secret};

/// How they begin.
const PREFIX: &str = "typ_";

/// Makes and knows passes.
pub(crate) struct Passes(hmac::Key);

impl Passes {
    /// With a key that is derived from the server's.
    pub(crate) fn new(key: &[u8]) -> Self {
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), b"passes of jobs");
        Self(hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()))
    }

    /// The pass of the job that began with attempt `job` of `run`.
    pub(crate) fn of(&self, run: &RunId, job: u32) -> Secret {
        let tag = hmac::sign(&self.0, text(run, job).as_bytes());
        Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(tag)))
    }

    /// Whether `pass` is the one of that job.
    pub(crate) fn is(&self, run: &RunId, job: u32, pass: &str) -> bool {
        let tag = pass.strip_prefix(PREFIX).and_then(|t| URL_SAFE_NO_PAD.decode(t).ok());
        tag.is_some_and(|t| hmac::verify(&self.0, text(run, job).as_bytes(), &t).is_ok())
    }
}

fn text(run: &RunId, job: u32) -> String {
    format!("{run} {job}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_is_good_for_its_job_alone() {
        let passes = Passes::new(b"key");
        let run: RunId = "training-abcdefghi".parse().unwrap();
        let other: RunId = "training-bbbbbbbbb".parse().unwrap();
        let pass = passes.of(&run, 1);
        assert!(passes.is(&run, 1, pass.expose()));
        for (run, job, pass) in [
            (&run, 2, pass.expose()),
            (&other, 1, pass.expose()),
            (&run, 1, ""),
            (&run, 1, &pass.expose()[4..]),
            (&run, 1, "typ_"),
        ] {
            assert!(!passes.is(run, job, pass));
        }
        assert!(!Passes::new(b"another").is(&run, 1, pass.expose()));
    }
}
