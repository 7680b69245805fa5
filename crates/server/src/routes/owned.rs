//! Things with an owner: what is somebody else's is answered as if it were not there.

use trainyard_store::{Caller, DefinitionRecord, Error, ModelRecord, Record};

use crate::problem::{Answer, Refusal};

/// Something that belongs to somebody.
pub(crate) trait Owned: Sized {
    /// What it is called in answers.
    const WHAT: &'static str;

    /// Whether the owner of that name may see it.
    fn is_of(&self, owner: &str) -> bool;
}

impl Owned for Record {
    const WHAT: &'static str = "training run";

    fn is_of(&self, owner: &str) -> bool {
        // One that is being deleted is gone for its owner already.
        self.owner == owner && !self.run.delete_asked
    }
}

impl Owned for DefinitionRecord {
    const WHAT: &'static str = "training definition";

    fn is_of(&self, owner: &str) -> bool {
        self.owner == owner
    }
}

impl Owned for ModelRecord {
    const WHAT: &'static str = "model";

    fn is_of(&self, owner: &str) -> bool {
        self.owner == owner
    }
}

/// The thing of this id, if it is the caller's.
pub(crate) fn find<I: std::str::FromStr, T: Owned>(
    caller: &Caller,
    id: &str,
    look: impl FnOnce(I) -> Result<T, Error>,
) -> Answer<T> {
    let missing = || Refusal::not_found(T::WHAT, id);
    match look(id.parse().map_err(|_| missing())?) {
        Ok(found) if found.is_of(&caller.owner) => Ok(found),
        Ok(_) | Err(Error::NotFound) => Err(missing()),
        Err(error) => Err(error.into()),
    }
}
