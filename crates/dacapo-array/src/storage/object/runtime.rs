//! Waiting for a service on any thread: all that is asynchronous stays in here.

use std::future::Future;
use std::path::Path;
use std::sync::{Arc, mpsc};

use tokio::runtime::{Builder, Runtime};

use crate::{Error, Result};

/// Threads that wait for services.
#[derive(Debug)]
pub(super) struct Asynchrony(Option<Runtime>);

impl Asynchrony {
    pub(super) fn start(name: &str) -> Result<Arc<Self>> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("dacapo-object-store")
            .enable_all()
            .build();
        let runtime = runtime.map_err(Error::io("reach", Path::new(name)))?;
        Ok(Arc::new(Self(Some(runtime))))
    }

    /// Waits for `future` on a thread that may belong to any pool, another runtime's too.
    pub(super) fn wait<T: Send + 'static>(
        &self,
        future: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> object_store::Result<T> {
        let stopped = |source: Box<dyn std::error::Error + Send + Sync>| object_store::Error::Generic {
            store: "runtime",
            source,
        };
        let Some(runtime) = &self.0 else {
            return Err(stopped("it was stopped".into()));
        };
        let (send, receive) = mpsc::sync_channel(1);
        runtime.spawn(async move {
            // Who waits is still there: nothing else takes from the channel.
            let _ = send.send(future.await);
        });
        receive.recv().map_err(|error| stopped(error.into()))?
    }
}

impl Drop for Asynchrony {
    fn drop(&mut self) {
        // Waiting for it would not be allowed on a thread of another runtime.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
