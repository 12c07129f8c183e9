//! A lock where no kernel knows who is alive: an object that says who holds it and until when. What it protects
//! is said in [`crate::lease`].

use std::{
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use dacapo_array::storage::{Storage, StorageExt, unique};
use serde::{Deserialize, Serialize};

use crate::{Holder, Result};

/// How long it holds without being renewed. The clocks of those who share it may differ by less than the third
/// of this.
const TERM: Duration = Duration::from_secs(60);
/// How often it is renewed.
const RENEWAL: Duration = Duration::from_secs(15);

/// What the object says.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Note {
    #[serde(flatten)]
    holder: Holder,
    /// No other lock has the same.
    token: String,
    /// Seconds since 1970.
    until: u64,
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Note {
    fn is_over(&self) -> bool {
        now().as_secs() > self.until
    }

    /// What nobody can read holds nothing.
    fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// The same until a time since 1970.
    fn until(&self, until: Duration) -> Vec<u8> {
        let note = Self {
            until: until.as_secs(),
            ..self.clone()
        };
        // A struct of texts and numbers always makes text.
        serde_json::to_vec(&note).unwrap_or_default()
    }
}

/// A lock that is held, and the thread that renews it.
#[derive(Debug)]
pub(crate) struct LockObject {
    shared: Arc<Shared>,
    renewal: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    storage: Arc<dyn Storage>,
    key: String,
    note: Note,
    term: Duration,
    /// When it runs out, in milliseconds since 1970: a renewal that hangs says nothing.
    until: AtomicU64,
    is_lost: AtomicBool,
    is_over: Mutex<bool>,
    wake: Condvar,
}

impl LockObject {
    /// Takes the lock, or says who holds it.
    pub(crate) fn acquire(
        storage: &Arc<dyn Storage>,
        key: &str,
        holder: &Holder,
    ) -> Result<Result<Self, Holder>> {
        Self::acquire_for(storage, key, holder, TERM, RENEWAL)
    }

    fn acquire_for(
        storage: &Arc<dyn Storage>,
        key: &str,
        holder: &Holder,
        term: Duration,
        renewal: Duration,
    ) -> Result<Result<Self, Holder>> {
        let note = Note {
            holder: holder.clone(),
            token: unique(&format!("{}-", holder.host)),
            until: 0,
        };
        let mut other = None;
        let asked = now();
        if !storage.create(key, &note.until(now() + term))? {
            let taken = storage.update(key, &mut |present| {
                match present.and_then(Note::parse) {
                    Some(present) if !present.is_over() && present.token != note.token => {
                        other = Some(present.holder);
                        // Ends the update; nobody sees it.
                        Err(dacapo_array::Error::Spec {
                            reason: "it is held".to_owned(),
                        })
                    }
                    _ => {
                        other = None;
                        Ok(note.until(now() + term))
                    }
                }
            });
            if let Some(holder) = other {
                return Ok(Err(holder));
            }
            taken?;
        }
        let shared = Arc::new(Shared {
            storage: storage.clone(),
            key: key.to_owned(),
            note,
            term,
            until: AtomicU64::new(millis(asked + term)),
            is_lost: AtomicBool::new(false),
            is_over: Mutex::new(false),
            wake: Condvar::new(),
        });
        let renewing = shared.clone();
        let renewal = thread::Builder::new()
            .name("dacapo-lease".to_owned())
            .spawn(move || renewing.keep(renewal))
            .map_err(crate::Error::io("renew", storage.describe(key)))?;
        Ok(Ok(Self {
            shared,
            renewal: Some(renewal),
        }))
    }

    /// Who holds the lock now; nobody if it is free or not there.
    pub(crate) fn holder(storage: &dyn Storage, key: &str) -> Result<Option<Holder>> {
        let note = storage.read(key)?.as_deref().and_then(Note::parse);
        Ok(note.filter(|note| !note.is_over()).map(|note| note.holder))
    }

    /// Whether somebody else may hold it by now.
    pub(crate) fn is_lost(&self) -> bool {
        self.shared.is_lost()
    }
}

impl Shared {
    fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed) || millis(now()) >= self.until.load(Ordering::Relaxed)
    }

    /// Renews the lock until it is over or lost.
    fn keep(&self, every: Duration) {
        loop {
            let over = self.is_over.lock().unwrap_or_else(PoisonError::into_inner);
            let (over, _) = self
                .wake
                .wait_timeout_while(over, every, |over| !*over)
                .unwrap_or_else(PoisonError::into_inner);
            if *over {
                return;
            }
            drop(over);
            // What is written says a later time, if any.
            let asked = now();
            match self.rewrite(|| now() + self.term) {
                Ok(true) => (self.until).store(millis(asked + self.term), Ordering::Relaxed),
                Ok(false) => self.is_lost.store(true, Ordering::Relaxed),
                Err(error) => tracing::warn!(%error, key = self.key, "cannot renew a lease"),
            }
            if self.is_lost() {
                self.is_lost.store(true, Ordering::Relaxed);
                return;
            }
        }
    }

    /// Makes the object say another time, unless it is another's by now. Whether it is this lock's.
    fn rewrite(&self, until: impl Fn() -> Duration) -> dacapo_array::Result<bool> {
        let mut is_mine = true;
        let written = self.storage.update(&self.key, &mut |present| {
            let present = present.and_then(Note::parse);
            is_mine = present.is_some_and(|present| present.token == self.note.token);
            if is_mine {
                return Ok(self.note.until(until()));
            }
            Err(dacapo_array::Error::Spec {
                reason: "it is another's".to_owned(),
            })
        });
        match written {
            Err(_) if !is_mine => Ok(false),
            written => written.map(|()| true),
        }
    }
}

impl Drop for LockObject {
    fn drop(&mut self) {
        *self.shared.is_over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.wake.notify_all();
        if let Some(renewal) = self.renewal.take() {
            // It has nothing to say.
            let _ = renewal.join();
        }
        // Said to be over, and not deleted: between looking whose it is and deleting it, another could take it.
        if let Err(error) = self.shared.rewrite(|| Duration::ZERO) {
            // It runs out.
            tracing::debug!(%error, "cannot give a lease back");
        }
    }
}

#[cfg(test)]
mod tests {
    use dacapo_array::storage::{Durability, MemoryStorage};

    use super::*;

    fn holder(pid: u32) -> Holder {
        Holder {
            host: "host".to_owned(),
            pid,
            since: "now".to_owned(),
            program: "test".to_owned(),
        }
    }

    #[test]
    fn one_holds_it_until_it_is_dropped_or_runs_out() {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new("m"));
        let first = LockObject::acquire(&storage, "run/.lock", &holder(1))
            .unwrap()
            .unwrap();
        let refused = LockObject::acquire(&storage, "run/.lock", &holder(2)).unwrap();
        assert_eq!(refused.unwrap_err(), holder(1));
        assert_eq!(
            LockObject::holder(&*storage, "run/.lock").unwrap(),
            Some(holder(1))
        );
        drop(first);
        assert_eq!(LockObject::holder(&*storage, "run/.lock").unwrap(), None);

        // One that is not renewed any more is taken over, as is what nobody can read.
        let over = Note {
            holder: holder(3),
            token: "dead".to_owned(),
            until: 5,
        };
        let over = serde_json::to_vec(&over).unwrap();
        for dead in [&over[..], b"garbled"] {
            storage.write("run/.lock", dead, Durability::Synced).unwrap();
            assert_eq!(LockObject::holder(&*storage, "run/.lock").unwrap(), None);
            let next = LockObject::acquire(&storage, "run/.lock", &holder(4))
                .unwrap()
                .unwrap();
            assert!(!next.is_lost());
        }
    }

    #[test]
    fn it_is_renewed_and_its_loss_is_known() {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new("m"));
        let every = Duration::from_millis(5);
        let lock = LockObject::acquire_for(&storage, ".lock", &holder(1), TERM, every)
            .unwrap()
            .unwrap();
        let before = storage.stamp(".lock").unwrap();
        let wait = |until: &dyn Fn() -> bool| {
            (0..1000).any(|_| {
                until() || {
                    thread::sleep(every);
                    false
                }
            })
        };
        assert!(wait(&|| storage.stamp(".lock").unwrap() != before), "renewed");
        let other = Note {
            holder: holder(2),
            token: "other".to_owned(),
            until: u64::MAX,
        };
        let other = serde_json::to_vec(&other).unwrap();
        storage.write(".lock", &other, Durability::Synced).unwrap();
        assert!(wait(&|| lock.is_lost()), "lost");
        drop(lock);
        assert_eq!(
            storage.read(".lock").unwrap(),
            Some(other),
            "another's is not given back"
        );
    }
}
