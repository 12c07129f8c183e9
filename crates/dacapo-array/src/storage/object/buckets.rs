//! Opening buckets, with what it takes to reach them. What is done in one is elsewhere.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use object_store::aws::AmazonS3Builder;

use super::runtime::Asynchrony;
use super::{ObjectStorage, failed};
use crate::Result;
use crate::storage::{Credentials, ObjectStoreOptions, Storage};

/// The buckets that were asked for, with their connections, and the threads that serve them all.
#[derive(Clone, Debug, Default)]
pub(in crate::storage) struct Buckets(Arc<Mutex<BTreeMap<String, ObjectStorage>>>);

impl Buckets {
    pub(in crate::storage) fn get(
        &self,
        bucket: &str,
        options: &ObjectStoreOptions,
    ) -> Result<Arc<dyn Storage>> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(storage) = open.get(bucket) {
            return Ok(Arc::new(storage.clone()));
        }
        let name = format!("s3://{bucket}");
        let runtime = match open.values().next() {
            Some(storage) => storage.runtime.clone(),
            None => Asynchrony::start(&name)?,
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(options.region.as_deref().unwrap_or("us-east-1"))
            .with_allow_http(options.allow_http)
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
        let store = builder.build().map_err(|error| failed("reach", &name, error))?;
        let storage = ObjectStorage {
            store: Arc::new(store),
            name,
            runtime,
        };
        open.insert(bucket.to_owned(), storage.clone());
        Ok(Arc::new(storage))
    }
}
