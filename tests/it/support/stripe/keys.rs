//! The API keys, and the account and permissions of each.

use std::sync::MutexGuard;

use super::FakeStripe;
use super::faults::NO_ACCESS;
use super::routes::Answer;
use super::server::Served;
use super::world::World;

/// A key for writes, valid beside the ordinary key.
const WRITE_KEY: &str = "rk_test_fakewrite";

impl FakeStripe {
    /// The key for writes.
    #[expect(clippy::unused_self, reason = "it is a property of the fake, like `key`")]
    pub(crate) fn write_key(&self) -> &'static str {
        WRITE_KEY
    }

    /// Makes the write key belong to another account, which has none of the objects. Its writes create stray objects
    /// there, see [`FakeStripe::stray_writes`].
    pub(crate) fn write_key_belongs_to_another_account(&self) {
        self.control().is_write_key_foreign = true;
    }

    /// Makes the write key belong to our own account again.
    pub(crate) fn write_key_belongs_to_our_account(&self) {
        self.control().is_write_key_foreign = false;
    }

    /// Removes a permission from the keys: writes below these paths get 403, reads are answered.
    pub(crate) fn forbid_writes(&self, paths: &[&str], permission: &'static str) {
        self.control().forbid_writes(paths, permission);
    }

    /// 401 or 403, if the key may not make the request.
    pub(crate) fn refusal(&self, served: &Served) -> Option<Answer> {
        let is_valid = served.key.as_deref().is_some_and(|key| key == self.key() || key == WRITE_KEY);
        if !is_valid {
            return Some(Answer::refusal(401, "Invalid API Key provided: sk_test_****"));
        }
        let missing = self.control().missing_permission(served);
        missing.map(|missing| if missing == NO_ACCESS { Answer::no_access() } else { Answer::forbidden(missing) })
    }

    /// The world that the key and the account of a request show: ours, or that of the other account.
    pub(crate) fn world_of(&self, served: &Served) -> MutexGuard<'_, World> {
        let is_write_key_foreign = self.control().is_write_key_foreign && served.key.as_deref() == Some(WRITE_KEY);
        let world = self.world();
        let is_elsewhere = world.owner.is_some_and(|owner| served.account.as_deref() != Some(owner));
        let is_foreign = world.is_foreign || is_write_key_foreign;
        if !is_foreign && !is_elsewhere {
            return world;
        }
        let mut elsewhere = self.elsewhere.lock().unwrap();
        elsewhere.now = world.now;
        elsewhere.is_foreign = is_foreign;
        elsewhere
    }
}
