//! Asking again where no answer came. The client does so by itself after most failures; here are the requests that it
//! does not repeat since they change something: all of ours can be repeated, conditional ones by their marks.

use std::error::Error;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use object_store::client::{HttpError, HttpErrorKind};
use object_store::{Attribute, Attributes, BackoffConfig, RetryConfig};

/// For how long a request is repeated, and how long one may take: a shard of 64 MiB at half a megabyte a second.
const PATIENCE: Duration = Duration::from_secs(180);
pub(super) const LONGEST: Duration = Duration::from_secs(128);
/// How often a request is repeated, if nothing else is said.
const RETRIES: usize = 10;
const MARK: Attribute = Attribute::Metadata(std::borrow::Cow::Borrowed("dacapo-write"));

/// How often requests are repeated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience(usize);

impl Patience {
    pub(super) fn new(retries: Option<usize>) -> Self {
        Self(retries.unwrap_or(RETRIES))
    }

    /// What the client does by itself.
    pub(super) fn of_client(self) -> RetryConfig {
        RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: self.0,
            retry_timeout: PATIENCE,
        }
    }

    /// Does `request` until it is answered.
    pub(super) fn insist<T>(
        self,
        mut request: impl FnMut() -> object_store::Result<T>,
    ) -> object_store::Result<T> {
        let begun = Instant::now();
        let mut pause = Duration::from_millis(100);
        let mut left = self.0;
        loop {
            match request() {
                Err(error) if left > 0 && begun.elapsed() < PATIENCE && is_unanswered(&error) => {
                    tracing::info!(%error, ?pause, "a request was not answered; it is repeated");
                }
                answer => return answer,
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_secs(15));
            left -= 1;
        }
    }
}

/// Whether what was asked for may have been done, and the answer is what failed.
fn is_unanswered(error: &object_store::Error) -> bool {
    use HttpErrorKind::{Decode, Interrupted, Request, Timeout};
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<HttpError>() {
            return matches!(error.kind(), Decode | Interrupted | Request | Timeout);
        }
        cause = error.source();
    }
    false
}

/// What a conditional write leaves with the object, so that it is told from every other: where the answer to it was
/// lost, the object says whether it was done.
#[derive(Clone, Debug)]
pub(super) struct Mark(String);

impl Mark {
    pub(super) fn new() -> Self {
        // Other machines have processes of the same number.
        let random = RandomState::new().hash_one(0);
        Self(crate::storage::unique(&format!("{random:016x}-")))
    }

    pub(super) fn attributes(&self) -> Attributes {
        [(MARK, self.0.clone())].into_iter().collect()
    }

    pub(super) fn is_in(&self, attributes: &Attributes) -> bool {
        attributes.get(&MARK).is_some_and(|mark| **mark == *self.0)
    }
}
