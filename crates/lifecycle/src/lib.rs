//! The life of a training run as a function: `(state, event) -> (state, actions)`.
//!
//! No I/O, no clock, no randomness: the journal holds the events, the store folds them with
//! [`apply`], and whoever applied an event carries out the [`Action`]s after it is durable. An
//! event that comes twice, late, or from an attempt that is over changes nothing.

mod event;
mod exit;
mod learners;
mod state;
mod transition;

pub use event::{Event, Stamped};
pub use exit::explain_exit;
pub use learners::Learner;
pub use state::{Active, Ended, MAX_ATTEMPTS, MAX_TRAIN_ATTEMPTS, Outcome, Run, Stage, State};
pub use transition::{Action, apply, fold};
