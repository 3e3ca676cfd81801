//! Store of objects in Amazon S3, or in a store that speaks its protocol.
//!
//! ```text
//! create ─► up to 16 MiB: PutObject, If-None-Match: * ───────────────────┬─ 200 ─► Stored
//!        └► larger: CreateMultipartUpload ─► UploadPart…                  ├─ 412 ─► Exists
//!             │       ─► CompleteMultipartUpload, If-None-Match: * ───────┴─ 409, 5xx, silence
//!             └─ on failure: AbortMultipartUpload                             ─► retryable error
//! ```
//!
//! Neither this adapter nor the SDK retries: the log repeats sealed bytes and compares what it
//! finds. S3 checks the CRC-32C of every object that it stores. An object that was stored as a
//! whole is checked again when it is read as a whole.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use aws_sdk_s3::Client;
use aws_sdk_s3::operation::get_object::builders::GetObjectFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, Delete, Object, ObjectIdentifier, ServerSideEncryption,
};
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use satchel_aws::server_date::ServerDate;
use satchel_log::{
    Created, OBJECT_BYTES_MAX, ObjectMeta, ObjectStore, RECORD_BYTES_MAX, StoreError,
};

use self::failure::{Failure, Problem};
use super::url::check_key;
use super::{Encryption, S3Operation, S3Options, S3Outcome, S3Request};

mod client;
mod failure;
mod multipart;

/// Maximum number of objects that S3 lists or deletes at once.
const PAGE: usize = 1000;

/// Maximum number of empty pages in a row. S3 may return some, such as where many objects were
/// deleted.
const EMPTY_PAGES_MAX: usize = 1000;

/// Checksum of objects in transfer. Of S3's strong algorithms, the most compatible stores support
/// this one.
const CHECKSUM: ChecksumAlgorithm = ChecksumAlgorithm::Crc32C;

/// Beginning of a page of a listing.
enum PageStart {
    /// Behind this key, or at the first one.
    After(Option<String>),
    /// End of the page before, as the store names it, and the last key until there.
    Token {
        token: String,
        after: Option<String>,
    },
}

/// Page of a listing.
struct Page {
    objects: Vec<ObjectMeta>,
    /// Beginning of the next page, unless this is the last one.
    next: Option<PageStart>,
}

impl PageStart {
    fn after(&self) -> Option<&str> {
        match self {
            Self::After(after) | Self::Token { after, .. } => after.as_deref(),
        }
    }
}

/// [`ObjectStore`] in a bucket. Cheap to clone. Must be used within a tokio runtime.
///
/// The bucket needs a lifecycle rule that drops incomplete multipart uploads after a day, because a
/// killed process leaves its own behind.
#[derive(Clone)]
pub struct S3Store {
    client: Client,
    bucket: Arc<str>,
    options: Arc<S3Options>,
    date: ServerDate,
}

impl S3Store {
    /// Returns by how much the calendar of this machine was ahead of the store's at its last
    /// answer, in ms; `None` before the first one.
    #[must_use]
    pub fn calendar_ahead_ms(&self) -> Option<i64> {
        self.date.ahead_ms()
    }

    /// Checks that the store refuses to create an object that exists. Some stores that resemble S3
    /// ignore `If-None-Match`, and would let two owners write the same number. `key` is an object
    /// that never changes (the application's record). Returns false, unchecked, if it does not
    /// exist yet.
    ///
    /// The check proves nothing: a store may be right for one writer and wrong for two at once.
    ///
    /// # Errors
    ///
    /// [`StoreError::Fatal`] if the store cannot hold a root; else as for the requests.
    pub async fn check_conditional_create(&self, key: &str) -> Result<bool, StoreError> {
        let Some(found) = self.get_range(key, 0..RECORD_BYTES_MAX + 1).await? else {
            return Ok(false);
        };
        if found.len() as u64 > RECORD_BYTES_MAX {
            return Err(self.refused(key, "it is larger than any record of an application"));
        }
        // The same bytes again, so that a store which ignores the condition does no harm.
        match self.create(key, found).await? {
            Created::Exists => Ok(true),
            Created::Stored => Err(self.refused(
                key,
                "this store replaces an object that exists (it ignores If-None-Match: *), \
                 so it cannot fence a former owner",
            )),
        }
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<Created, StoreError> {
        let operation = S3Operation::PutObject;
        let size = bytes.len() as u64;
        let encryption = &self.options.encryption;
        let request = self
            .client
            .put_object()
            .bucket(&*self.bucket)
            .key(key)
            .if_none_match("*")
            .checksum_algorithm(CHECKSUM)
            .set_server_side_encryption(encryption.algorithm())
            .set_ssekms_key_id(encryption.key_id())
            .set_bucket_key_enabled(encryption.bucket_key())
            .body(ByteStream::from(bytes));
        let call = async {
            self.within(size, Box::pin(request.send())).await?;
            Ok(((), size))
        };
        match self.ask(operation, key, call).await {
            Ok(()) => Ok(Created::Stored),
            Err(Failure::Exists) => Ok(Created::Exists),
            Err(failure) => Err(failure.into_error(operation, &self.bucket, key)),
        }
    }

    fn get_request(&self, key: &str) -> GetObjectFluentBuilder {
        self.client.get_object().bucket(&*self.bucket).key(key)
    }

    async fn read(&self, key: &str, request: GetObjectFluentBuilder) -> Result<Bytes, Failure> {
        let (bytes, _) = self.read_with_tag(key, request).await?;
        Ok(bytes)
    }

    /// Reads an object with its entity tag.
    async fn read_with_tag(
        &self,
        key: &str,
        request: GetObjectFluentBuilder,
    ) -> Result<(Bytes, Option<String>), Failure> {
        let call = async {
            let mut answer = self.within(0, Box::pin(request.send())).await?;
            let tag = answer.e_tag.take();
            let size = u64::try_from(answer.content_length().unwrap_or_default());
            let size = size.unwrap_or_default();
            if size > OBJECT_BYTES_MAX {
                return Err(Problem::too_large(size));
            }
            let body = read_body(answer.body);
            let bytes = self.within(size, body).await?;
            let read = bytes.len() as u64;
            Ok(((bytes, tag), read))
        };
        self.ask(S3Operation::GetObject, key, call).await
    }

    async fn delete_one(&self, key: &str, bytes: &Bytes) -> Result<(), StoreError> {
        let failed = |operation: S3Operation, failure: Failure| match failure {
            // There is no object, or a different one.
            Failure::Absent | Failure::Exists => Ok(()),
            failure => Err(failure.into_error(operation, &self.bucket, key)),
        };
        let (found, tag) = match self.read_with_tag(key, self.get_request(key)).await {
            Ok(found) => found,
            Err(failure) => return failed(S3Operation::GetObject, failure),
        };
        if found != *bytes {
            return Ok(());
        }
        let operation = S3Operation::DeleteObject;
        let request = self.client.delete_object().bucket(&*self.bucket).key(key);
        let request = request.set_if_match(tag);
        let call = async {
            self.within(0, Box::pin(request.send())).await?;
            Ok(((), 0))
        };
        let answer = self.ask(operation, key, call).await;
        answer.or_else(|failure| failed(operation, failure))
    }

    /// Reads a part of an object. A range beyond the object's end is empty, unlike a missing
    /// object.
    async fn read_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, StoreError> {
        // HTTP has no empty ranges: reading one byte shows whether there is an object.
        let wanted = range.end.saturating_sub(range.start);
        let last = range.start.saturating_add(wanted.max(1) - 1);
        let header = format!("bytes={}-{last}", range.start);
        let part = self.read(key, self.get_request(key).range(header)).await;
        match part {
            Ok(_) if wanted == 0 => Ok(Some(Bytes::new())),
            Ok(bytes) if bytes.len() as u64 > wanted => Err(self.refused(
                key,
                "this store answers a request for a range with more than the range",
            )),
            Ok(bytes) => Ok(Some(bytes)),
            Err(Failure::BehindEnd) => Ok(Some(Bytes::new())),
            Err(Failure::Absent) => Ok(None),
            Err(failure) => Err(failure.into_error(S3Operation::GetObject, &self.bucket, key)),
        }
    }

    /// Lists one page, of which `from` says the beginning.
    async fn page(&self, prefix: &str, from: &PageStart, max: usize) -> Result<Page, StoreError> {
        let operation = S3Operation::ListObjectsV2;
        let (after, token) = match from {
            PageStart::After(after) => (after.clone(), None),
            PageStart::Token { token, .. } => (None, Some(token.clone())),
        };
        let request = self
            .client
            .list_objects_v2()
            .bucket(&*self.bucket)
            .prefix(prefix)
            .set_start_after(after)
            .set_continuation_token(token)
            .max_keys(i32::try_from(max.min(PAGE)).unwrap_or(1000));
        let call = async {
            let answer = self.within(0, Box::pin(request.send())).await?;
            let last = !answer.is_truncated().unwrap_or(false);
            let token = answer.next_continuation_token;
            let objects = answer.contents.unwrap_or_default();
            let objects: Vec<ObjectMeta> =
                objects.into_iter().map(meta).collect::<Result<_, _>>()?;
            if objects.is_empty() && !last && token.is_none() {
                let text = "an empty page that is not the last, without a continuation token";
                return Err(Problem::local(text.to_owned()));
            }
            Ok(((objects, last, token), 0))
        };
        let answer = self.ask(operation, prefix, call).await;
        let (objects, last, token) =
            answer.map_err(|failure| failure.into_error(operation, &self.bucket, prefix))?;
        let mut before = from.after();
        for object in &objects {
            if before.is_some_and(|before| before >= object.key.as_str()) {
                return Err(
                    self.refused(prefix, "this store does not list in the order of the keys")
                );
            }
            before = Some(&object.key);
        }
        let after = before.map(str::to_owned);
        let next = match token {
            _ if last => None,
            Some(token) => Some(PageStart::Token { token, after }),
            None => Some(PageStart::After(after)),
        };
        Ok(Page { objects, next })
    }

    /// Removes up to [`PAGE`] objects. Of the errors in the answer, returns the first final one,
    /// else the first.
    async fn delete_page(&self, keys: &[String]) -> Result<(), StoreError> {
        let operation = S3Operation::DeleteObjects;
        let first = keys.first().map(String::as_str).unwrap_or_default();
        let mut names = Vec::with_capacity(keys.len());
        for key in keys {
            let name = ObjectIdentifier::builder().key(key).build();
            names.push(name.map_err(|error| self.refused(key, &error.to_string()))?);
        }
        let names = Delete::builder().set_objects(Some(names)).quiet(true);
        let names = names.build();
        let names = names.map_err(|error| self.refused(first, &error.to_string()))?;
        let request = self
            .client
            .delete_objects()
            .bucket(&*self.bucket)
            .checksum_algorithm(CHECKSUM)
            .delete(names);
        let call = async {
            let answer = self.within(0, Box::pin(request.send())).await?;
            Ok((answer.errors.unwrap_or_default(), 0))
        };
        let answer = self.ask(operation, first, call).await;
        let errors =
            answer.map_err(|failure| failure.into_error(operation, &self.bucket, first))?;
        let mut failed = None;
        for error in errors {
            let key = error.key().unwrap_or(first);
            let problem = Problem::of_key(error.code(), error.message());
            match problem.judge(operation, &self.bucket, key) {
                // The object does not exist, as intended.
                Failure::Absent => {}
                failure => {
                    let error = failure.into_error(operation, &self.bucket, key);
                    if !error.is_retryable() {
                        return Err(error);
                    }
                    failed.get_or_insert(error);
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Waits for an answer that carries `object_bytes` bytes of an object, within its time limit.
    async fn within<T, E>(
        &self,
        object_bytes: u64,
        answer: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Problem>
    where
        Problem: From<E>,
    {
        let limit = self.options.limit(object_bytes);
        match tokio::time::timeout(limit, answer).await {
            Ok(answer) => answer.map_err(Problem::from),
            Err(_) => Err(Problem::late(limit)),
        }
    }

    /// Makes one request, reports it to the hook, and classifies its failure. `call` returns the
    /// answer and the number of object bytes that it carried.
    async fn ask<T>(
        &self,
        operation: S3Operation,
        key: &str,
        call: impl Future<Output = Result<(T, u64), Problem>>,
    ) -> Result<T, Failure> {
        let begun = Instant::now();
        let answer = call
            .await
            .map_err(|problem| problem.judge(operation, &self.bucket, key));
        (self.options.on_request)(S3Request {
            operation,
            outcome: match &answer {
                Ok(_) => S3Outcome::Done,
                Err(failure) => failure.outcome(),
            },
            object_bytes: answer.as_ref().map_or(0, |(_, bytes)| *bytes),
            elapsed: begun.elapsed(),
        });
        answer.map(|(answer, _)| answer)
    }

    fn checked<'k>(&self, key: &'k str) -> Result<&'k str, StoreError> {
        match check_key(key) {
            Ok(()) => Ok(key),
            Err(reason) => Err(self.refused(key, &reason)),
        }
    }

    fn refused(&self, key: &str, reason: &str) -> StoreError {
        StoreError::Fatal {
            key: key.to_owned(),
            reason: format!("in bucket {}: {reason}", self.bucket),
        }
    }
}

impl ObjectStore for S3Store {
    fn create<'a>(
        &'a self,
        key: &'a str,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<Created, StoreError>> {
        Box::pin(async move {
            let key = self.checked(key)?;
            if bytes.len() as u64 > self.options.part_bytes() * 2 {
                self.create_in_parts(key, bytes).await
            } else {
                self.put(key, bytes).await
            }
        })
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(async move {
            let key = self.checked(key)?;
            let request = self.get_request(key).checksum_mode(ChecksumMode::Enabled);
            match self.read(key, request).await {
                Ok(bytes) => Ok(Some(bytes)),
                Err(Failure::Absent) => Ok(None),
                Err(failure) => Err(failure.into_error(S3Operation::GetObject, &self.bucket, key)),
            }
        })
    }

    fn get_range<'a>(
        &'a self,
        key: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(async move { self.read_range(self.checked(key)?, range).await })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        start_after: Option<&'a str>,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<ObjectMeta>, StoreError>> {
        Box::pin(async move {
            match prefix.strip_suffix('/') {
                Some(above) => self.checked(above)?,
                None if prefix.is_empty() => prefix,
                None => return Err(self.refused(prefix, "a listed prefix must end with a slash")),
            };
            let mut found: Vec<ObjectMeta> = Vec::new();
            let mut from = PageStart::After(start_after.map(str::to_owned));
            let mut empty_pages = 0;
            while found.len() < max {
                let page = self.page(prefix, &from, max - found.len()).await?;
                empty_pages = if page.objects.is_empty() {
                    empty_pages + 1
                } else {
                    0
                };
                found.extend(page.objects);
                match page.next {
                    None => break,
                    Some(_) if empty_pages > EMPTY_PAGES_MAX => {
                        return Err(
                            self.refused(prefix, "this store lists empty pages without end")
                        );
                    }
                    Some(next) => from = next,
                }
            }
            found.truncate(max);
            Ok(found)
        })
    }

    fn delete<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            for key in keys {
                self.checked(key)?;
            }
            for page in keys.chunks(PAGE) {
                self.delete_page(page).await?;
            }
            Ok(())
        })
    }

    fn delete_exactly<'a>(
        &'a self,
        key: &'a str,
        bytes: &'a Bytes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let key = self.checked(key)?;
            self.delete_one(key, bytes).await
        })
    }
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Store")
            .field("bucket", &self.bucket)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Encryption {
    fn algorithm(&self) -> Option<ServerSideEncryption> {
        match self {
            Self::BucketDefault => None,
            Self::S3 => Some(ServerSideEncryption::Aes256),
            Self::Kms { .. } => Some(ServerSideEncryption::AwsKms),
        }
    }

    fn key_id(&self) -> Option<String> {
        match self {
            Self::Kms { key_id } => key_id.clone(),
            Self::BucketDefault | Self::S3 => None,
        }
    }

    fn bucket_key(&self) -> Option<bool> {
        matches!(self, Self::Kms { .. }).then_some(true)
    }
}

/// Reads a body, and stops as soon as it is larger than any object.
async fn read_body(mut body: ByteStream) -> Result<Bytes, Problem> {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = body.next().await {
        bytes.extend_from_slice(&chunk?);
        if bytes.len() as u64 > OBJECT_BYTES_MAX {
            return Err(Problem::too_large(bytes.len() as u64));
        }
    }
    Ok(bytes.freeze())
}

fn meta(object: Object) -> Result<ObjectMeta, Problem> {
    let size = object.size().and_then(|size| u64::try_from(size).ok());
    match (object.key, size) {
        (Some(key), Some(size)) => Ok(ObjectMeta { key, size }),
        (key, _) => {
            let name = key.unwrap_or_else(|| "an object".to_owned());
            Err(Problem::local(format!(
                "a listing in which {name} has no key or no size"
            )))
        }
    }
}
