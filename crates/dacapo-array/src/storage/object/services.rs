//! Opening buckets and web servers, with what it takes to reach them. What is done in one is elsewhere.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use object_store::aws::AmazonS3Builder;
use object_store::{ClientOptions, ObjectStore};

use super::again::{LONGEST, Patience};
use super::runtime::Asynchrony;
use super::{ObjectStorage, failed};
use crate::Result;
use crate::storage::http::HttpStorage;
use crate::storage::{Credentials, ObjectStoreOptions, Storage};

/// The buckets and servers that were asked for, with their connections, and the threads that serve them all.
#[derive(Clone, Debug, Default)]
pub(in crate::storage) struct Services(Arc<Mutex<BTreeMap<String, ObjectStorage>>>);

impl Services {
    /// The objects of `s3://bucket`.
    pub(in crate::storage) fn bucket(
        &self,
        bucket: &str,
        options: &ObjectStoreOptions,
    ) -> Result<Arc<dyn Storage>> {
        let patience = Patience::new(options.retries);
        let client = ClientOptions::new()
            .with_allow_http(options.allow_http)
            .with_timeout(LONGEST);
        let storage = self.get(format!("s3://{bucket}"), patience, || {
            let mut builder = AmazonS3Builder::new()
                .with_bucket_name(bucket)
                .with_region(options.region.as_deref().unwrap_or("us-east-1"))
                .with_client_options(client)
                .with_retry(patience.of_client())
                .with_virtual_hosted_style_request(options.virtual_hosted_style);
            if let Some(endpoint) = &options.endpoint {
                builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
            }
            builder = match &options.credentials {
                Credentials::Missing | Credentials::Machine => builder,
                Credentials::Unsigned => builder.with_skip_signature(true),
                Credentials::Key { id, secret, token } => {
                    let builder = builder.with_access_key_id(id).with_secret_access_key(secret);
                    match token {
                        Some(token) => builder.with_token(token),
                        None => builder,
                    }
                }
            };
            Ok(Arc::new(builder.build()?))
        })?;
        Ok(Arc::new(storage))
    }

    /// What a web server gives out: `http://host` or `https://host`.
    pub(in crate::storage) fn server(&self, server: String) -> Result<Arc<dyn Storage>> {
        let connect = || HttpStorage::connect(&server);
        let storage = self.get(server.clone(), Patience::new(None), || Ok(Arc::new(connect()?)))?;
        Ok(Arc::new(HttpStorage::new(storage)))
    }

    fn get(
        &self,
        name: String,
        patience: Patience,
        connect: impl FnOnce() -> object_store::Result<Arc<dyn ObjectStore>>,
    ) -> Result<ObjectStorage> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(storage) = open.get(&name) {
            return Ok(storage.clone());
        }
        let runtime = match open.values().next() {
            Some(storage) => storage.runtime.clone(),
            None => Asynchrony::start(&name)?,
        };
        let store = connect().map_err(|error| failed("reach", &name, error))?;
        let storage = ObjectStorage {
            store,
            name: name.clone(),
            runtime,
            patience,
        };
        open.insert(name, storage.clone());
        Ok(storage)
    }
}
