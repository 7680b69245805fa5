//! Passes of jobs: what a runner shows that an engine's own queue has started, to get the token of its
//! attempt. One per job, computed from the server's key, so that none has to be kept.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;
use trainyard_api::{RunId, Secret};

/// How they begin.
const PREFIX: &str = "typ_";
/// How tokens of further learners begin.
const LEARNER: &str = "tyl_";

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
        self.make(PREFIX, &text(run, job))
    }

    /// The token of a learner of an attempt, from the second on: whoever has the pass of the job may have it
    /// as often as it asks. The first one's are random, and kept as those of all attempts are.
    pub(crate) fn of_learner(&self, run: &RunId, attempt: u32, learner: u32) -> Secret {
        self.make(LEARNER, &learner_text(run, attempt, learner))
    }

    /// Whether `token` is that one.
    pub(crate) fn is_learner(&self, run: &RunId, attempt: u32, learner: u32, token: &str) -> bool {
        self.knows(LEARNER, &learner_text(run, attempt, learner), token)
    }

    fn make(&self, prefix: &str, text: &str) -> Secret {
        let tag = hmac::sign(&self.0, text.as_bytes());
        Secret::new(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(tag)))
    }

    fn knows(&self, prefix: &str, text: &str, shown: &str) -> bool {
        let tag = shown.strip_prefix(prefix).and_then(|t| URL_SAFE_NO_PAD.decode(t).ok());
        tag.is_some_and(|t| hmac::verify(&self.0, text.as_bytes(), &t).is_ok())
    }

    /// Whether `pass` is the one of that job.
    pub(crate) fn is(&self, run: &RunId, job: u32, pass: &str) -> bool {
        self.knows(PREFIX, &text(run, job), pass)
    }
}

fn text(run: &RunId, job: u32) -> String {
    format!("{run} {job}")
}

fn learner_text(run: &RunId, attempt: u32, learner: u32) -> String {
    format!("{run} attempt {attempt} learner {learner}")
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

    #[test]
    fn a_learners_token_is_good_for_its_attempt_alone() {
        let passes = Passes::new(b"key");
        let run: RunId = "training-abcdefghi".parse().unwrap();
        let token = passes.of_learner(&run, 1, 2);
        assert!(passes.is_learner(&run, 1, 2, token.expose()));
        for (attempt, learner, token) in
            [(2, 2, token.expose()), (1, 3, token.expose()), (1, 2, passes.of(&run, 1).expose())]
        {
            assert!(!passes.is_learner(&run, attempt, learner, token));
        }
        assert!(!passes.is(&run, 1, token.expose()));
    }
}
