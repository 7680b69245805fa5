//! What verbs are about, in the original's words: `training-runs ID`, `models ID`. The noun of runs may be
//! left out.

use clap::ValueEnum;
use trainyard_api::{Code, Problem};

use crate::Error;

/// What a noun can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Noun {
    /// Training runs.
    #[value(name = "training-runs", aliases = ["training-run", "runs", "run", "trained-models"])]
    TrainingRuns,
    /// Training definitions.
    #[value(name = "training-definitions", aliases = ["training-definition", "definitions", "definition"])]
    TrainingDefinitions,
    /// Stored models.
    #[value(name = "models", aliases = ["model"])]
    Models,
    /// Frameworks.
    #[value(name = "frameworks")]
    Frameworks,
    /// Not there yet.
    #[value(hide = true)]
    Experiments,
    /// Not there yet.
    #[value(hide = true)]
    ExperimentRuns,
    /// Not there yet.
    #[value(hide = true)]
    Deployments,
    /// Not there yet.
    #[value(hide = true)]
    Libraries,
    /// Not there yet.
    #[value(hide = true)]
    Runtimes,
}

impl Noun {
    /// Splits the noun off a list of words; without one, runs are meant.
    pub(crate) fn split(words: &[String]) -> (Self, &[String]) {
        match words {
            [noun, rest @ ..] if !rest.is_empty() => match Self::from_str(noun, false) {
                Ok(noun) => (noun, rest),
                Err(_) => (Self::TrainingRuns, words),
            },
            _ => (Self::TrainingRuns, words),
        }
    }

    /// The one id behind the noun, and the noun.
    pub(crate) fn only(words: &[String]) -> Result<(Self, &str), Error> {
        match Self::split(words) {
            (noun, [id]) => Ok((noun, id)),
            _ => Err(Problem::new(Code::Usage, format!("`{}` does not name one thing", words.join(" ")))
                .hint("write `training-runs ID`, `training-definitions ID` or `models ID`, or a run alone")
                .into()),
        }
    }

    /// The answer to a verb that does nothing with this noun.
    pub(crate) fn refuse(self, verb: &str) -> Error {
        match self {
            Self::Experiments
            | Self::ExperimentRuns
            | Self::Deployments
            | Self::Libraries
            | Self::Runtimes => not_yet(self.name()),
            _ => Error::new(Code::Usage, format!("there is no `{verb} {}`", self.name())),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::TrainingRuns => "training-runs",
            Self::TrainingDefinitions => "training-definitions",
            Self::Models => "models",
            Self::Frameworks => "frameworks",
            Self::Experiments => "experiments",
            Self::ExperimentRuns => "experiment-runs",
            Self::Deployments => "deployments",
            Self::Libraries => "libraries",
            Self::Runtimes => "runtimes",
        }
    }
}

/// The answer to what comes with a later release.
pub(crate) fn not_yet(what: &str) -> Error {
    Problem::new(Code::NotYet, format!("{what}: not there yet"))
        .hint("training runs, training definitions and models are; `trainyard help` lists the verbs")
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_noun_is_told_from_a_run() {
        for (text, noun, rest) in [
            ("training-runs training-1", Noun::TrainingRuns, "training-1"),
            ("training-1 logs last 5", Noun::TrainingRuns, "training-1 logs last 5"),
            ("models m", Noun::Models, "m"),
            ("definition d", Noun::TrainingDefinitions, "d"),
            // A run may be called like a noun.
            ("models", Noun::TrainingRuns, "models"),
        ] {
            let given = words(text);
            let (found, left) = Noun::split(&given);
            assert_eq!((found, left.join(" ")), (noun, rest.to_owned()), "{text}");
        }
    }
}
