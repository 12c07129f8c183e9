//! The contract, and a service that stops answering in the middle.

use object_store::memory::InMemory;
use tokio::runtime::Builder;

use super::*;
use crate::storage::{StorageExt, conformance};

fn storage(store: &Arc<InMemory>) -> ObjectStorage {
    ObjectStorage::new(store.clone(), "test://bucket").unwrap()
}

#[test]
fn conforms() {
    conformance::storage(&storage(&Arc::default()));
}

#[test]
fn it_answers_threads_of_any_pool() {
    use rayon::prelude::*;
    let storage = storage(&Arc::default());
    (0..64).into_par_iter().for_each(|i| {
        storage
            .write(&format!("a/{i}"), &[i as u8], Durability::Whole)
            .unwrap();
    });
    assert_eq!(storage.list("a").unwrap().len(), 64);
    let runtime = Builder::new_current_thread().build().unwrap();
    let read = runtime.block_on(async { storage.read("a/7") });
    assert_eq!(read.unwrap().unwrap(), [7]);
}

/// An S3 that stops answering after so many requests.
#[derive(Debug)]
struct Broken {
    store: Arc<InMemory>,
    left: std::sync::atomic::AtomicI64,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("broken")
    }
}

impl Broken {
    fn count(&self) -> object_store::Result<()> {
        use std::sync::atomic::Ordering::Relaxed;
        if self.left.fetch_sub(1, Relaxed) > 0 {
            return Ok(());
        }
        Err(object_store::Error::Generic {
            store: "broken",
            source: "it does not answer".into(),
        })
    }
}

#[async_trait::async_trait]
impl ObjectStore for Broken {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<object_store::PutResult> {
        self.count()?;
        self.store.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: object_store::PutMultipartOptions,
    ) -> object_store::Result<Box<dyn object_store::MultipartUpload>> {
        self.count()?;
        self.store.put_multipart_opts(location, options).await
    }

    async fn get_opts(
        &self,
        location: &Path,
        options: GetOptions,
    ) -> object_store::Result<object_store::GetResult> {
        self.count()?;
        self.store.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: futures_util::stream::BoxStream<'static, object_store::Result<Path>>,
    ) -> futures_util::stream::BoxStream<'static, object_store::Result<Path>> {
        match self.count() {
            Ok(()) => self.store.delete_stream(locations),
            Err(error) => futures_util::stream::once(async { Err(error) }).boxed(),
        }
    }

    fn list(
        &self,
        prefix: Option<&Path>,
    ) -> futures_util::stream::BoxStream<'static, object_store::Result<ObjectMeta>> {
        match self.count() {
            Ok(()) => self.store.list(prefix),
            Err(error) => futures_util::stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(
        &self,
        prefix: Option<&Path>,
    ) -> object_store::Result<object_store::ListResult> {
        self.count()?;
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        options: object_store::CopyOptions,
    ) -> object_store::Result<()> {
        self.count()?;
        self.store.copy_opts(from, to, options).await
    }
}

/// What a tree has that anybody can find: nothing of it, or all of it.
fn found(storage: &dyn Storage, prefix: &str) -> Option<String> {
    let marker = storage.read(&join(prefix, ".zarray")).unwrap();
    let chunks = ["0", "1/2"].map(|chunk| storage.read(&join(prefix, chunk)).unwrap());
    let kind = storage.kind(prefix).unwrap();
    let marker = marker.map(|bytes| String::from_utf8(bytes).unwrap());
    if let Some(content) = &marker {
        for chunk in chunks {
            assert_eq!(
                chunk.as_deref(),
                Some(content.as_bytes()),
                "{prefix} is half there"
            );
        }
    } else {
        assert_eq!(kind, None, "{prefix} looks like something");
        assert!(storage.list(prefix).unwrap().is_empty());
    }
    marker
}

/// A service that fails at any request leaves no half tree, and the same call does it later.
#[test]
fn a_failure_in_the_middle_leaves_nothing_that_looks_finished() {
    let mut failures = 0;
    for (calls, replace) in (0..200).flat_map(|calls| [(calls, false), (calls, true)]) {
        let store = Arc::new(InMemory::new());
        let healthy = storage(&store);
        let plant = |prefix: &str, content: &str| {
            for key in ["0", "1/2", ".zarray"] {
                healthy
                    .write(&join(prefix, key), content.as_bytes(), Durability::Synced)
                    .unwrap();
            }
        };
        plant("g/.unfinished-a", "new");
        if replace {
            plant("g/b", "old");
        }
        let broken = || {
            let service = Broken {
                store: store.clone(),
                left: calls.into(),
            };
            ObjectStorage::new(Arc::new(service), "test://broken").unwrap()
        };
        match broken().move_tree("g/.unfinished-a", "g/b", replace) {
            Ok(moved) => assert_eq!(moved, Moved::Moved),
            Err(_) => {
                failures += 1;
                let (old, new) = (found(&healthy, "g/b"), found(&healthy, "g/.unfinished-a"));
                assert!(
                    new.is_some() || old.as_deref() == Some("new"),
                    "after {calls} calls the new one is lost"
                );
                assert!(old.is_none() || replace || old.as_deref() == Some("new"));
            }
        }
        // Whatever happened: removing clears it, and the place is free.
        if broken().remove_tree("g/b").is_err() {
            found(&healthy, "g/b");
        }
        healthy.remove_tree("g/b").unwrap();
        healthy.sweep("g", Duration::ZERO).unwrap();
        assert!(
            healthy.below("").unwrap().is_empty(),
            "something is left after {calls} calls"
        );
    }
    assert!(failures > 20, "{failures}");
}
