//! Multipart uploads, for objects that are too large for one request.

use std::ops::Range;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use satchel_log::{Created, StoreError};

use super::failure::{Failure, Problem};
use super::{CHECKSUM, S3Operation, S3Store};

/// Maximum number of parts of an object in S3.
const PARTS_MAX: u64 = 10_000;

impl S3Store {
    /// Creates an object in parts. Only the last request makes it visible, and carries the
    /// condition.
    pub(super) async fn create_in_parts(
        &self,
        key: &str,
        bytes: Bytes,
    ) -> Result<Created, StoreError> {
        // After an unknown outcome, the log repeats an object that may exist already. One request
        // shows that before all the parts are sent again.
        if self.read_range(key, 0..0).await?.is_some() {
            return Ok(Created::Exists);
        }
        let upload = Upload::begin(self, key).await?;
        match upload.fill_and_complete(&bytes).await {
            Ok(()) => {
                upload.completed();
                Ok(Created::Stored)
            }
            Err((_, Failure::Exists)) => {
                upload.abort().await;
                Ok(Created::Exists)
            }
            Err((operation, failure)) => {
                upload.abort().await;
                Err(failure.into_error(operation, &self.bucket, key))
            }
        }
    }
}

/// Upload in progress. Dropping it before its end aborts the upload.
struct Upload {
    store: S3Store,
    key: String,
    /// `None` once there is nothing to abort.
    id: Option<String>,
}

impl Upload {
    async fn begin(store: &S3Store, key: &str) -> Result<Self, StoreError> {
        let operation = S3Operation::CreateMultipartUpload;
        let encryption = &store.options.encryption;
        let request = store
            .client
            .create_multipart_upload()
            .bucket(&*store.bucket)
            .key(key)
            .checksum_algorithm(CHECKSUM)
            .set_server_side_encryption(encryption.algorithm())
            .set_ssekms_key_id(encryption.key_id())
            .set_bucket_key_enabled(encryption.bucket_key());
        let call = async {
            let answer = store.within(0, Box::pin(request.send())).await?;
            let nameless = || Problem::local("an upload without an id".to_owned());
            Ok((answer.upload_id.ok_or_else(nameless)?, 0))
        };
        let id = store.ask(operation, key, call).await;
        let id = id.map_err(|failure| failure.into_error(operation, &store.bucket, key))?;
        Ok(Self {
            store: store.clone(),
            key: key.to_owned(),
            id: Some(id),
        })
    }

    async fn fill_and_complete(&self, bytes: &Bytes) -> Result<(), (S3Operation, Failure)> {
        let parallel = self.store.options.parallel_parts.max(1);
        let parts = cut(bytes.len() as u64, self.store.options.part_bytes())
            .into_iter()
            .zip(1..)
            .map(|(range, number)| {
                let part = bytes.slice(range.start as usize..range.end as usize);
                self.part(number, part)
            });
        // In the order of their numbers, as S3 requires for the completion.
        let parts: Vec<CompletedPart> = stream::iter(parts)
            .buffered(parallel)
            .try_collect()
            .await
            .map_err(|failure| (S3Operation::UploadPart, failure))?;
        self.complete(parts)
            .await
            .map_err(|failure| (S3Operation::CompleteMultipartUpload, failure))
    }

    async fn part(&self, number: i32, bytes: Bytes) -> Result<CompletedPart, Failure> {
        let store = &self.store;
        let size = bytes.len() as u64;
        let request = store
            .client
            .upload_part()
            .bucket(&*store.bucket)
            .key(&self.key)
            .set_upload_id(self.id.clone())
            .part_number(number)
            .checksum_algorithm(CHECKSUM)
            .body(ByteStream::from(bytes));
        let call = async {
            let answer = store.within(size, Box::pin(request.send())).await?;
            let part = CompletedPart::builder()
                .part_number(number)
                .set_e_tag(answer.e_tag)
                .set_checksum_crc32_c(answer.checksum_crc32_c)
                .build();
            Ok((part, size))
        };
        store.ask(S3Operation::UploadPart, &self.key, call).await
    }

    async fn complete(&self, parts: Vec<CompletedPart>) -> Result<(), Failure> {
        let store = &self.store;
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts));
        let request = store
            .client
            .complete_multipart_upload()
            .bucket(&*store.bucket)
            .key(&self.key)
            .set_upload_id(self.id.clone())
            .if_none_match("*")
            .multipart_upload(parts.build());
        let call = async {
            store.within(0, Box::pin(request.send())).await?;
            Ok(((), 0))
        };
        store
            .ask(S3Operation::CompleteMultipartUpload, &self.key, call)
            .await
    }

    fn completed(mut self) {
        self.id = None;
    }

    async fn abort(mut self) {
        if let Some(id) = self.id.take() {
            abort(&self.store, &self.key, id).await;
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else {
            return;
        };
        // Outside a runtime, the process is ending. The bucket's lifecycle rule drops the parts.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (store, key) = (self.store.clone(), std::mem::take(&mut self.key));
            runtime.spawn(async move { abort(&store, &key, id).await });
        }
    }
}

/// Drops the parts. If that fails, they only cost storage until the bucket's lifecycle rule drops
/// them.
async fn abort(store: &S3Store, key: &str, id: String) {
    let request = store
        .client
        .abort_multipart_upload()
        .bucket(&*store.bucket)
        .key(key)
        .upload_id(&id);
    let call = async {
        store.within(0, Box::pin(request.send())).await?;
        Ok(((), 0))
    };
    let operation = S3Operation::AbortMultipartUpload;
    if let Err(failure) = store.ask(operation, key, call).await {
        let error = failure.into_error(operation, &store.bucket, key);
        // The upload may be complete after all. Then there are no parts to drop.
        tracing::warn!(
            %error,
            upload = id,
            "abort of an upload failed; its parts may remain until the lifecycle rule drops them"
        );
    }
}

/// Divides an object of `len` bytes into parts of `part_bytes`, or larger ones if there were too
/// many.
fn cut(len: u64, part_bytes: u64) -> Vec<Range<u64>> {
    let part_bytes = part_bytes.max(len.div_ceil(PARTS_MAX));
    (0..len.div_ceil(part_bytes))
        .map(|part| part * part_bytes..((part + 1) * part_bytes).min(len))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_cut_into_parts_without_gaps() {
        assert_eq!(cut(10, 4), [0..4, 4..8, 8..10]);
        assert_eq!(cut(8, 4), [0..4, 4..8]);
        assert_eq!(cut(5, 4), [0..4, 4..5]);
    }

    #[test]
    fn there_are_never_more_parts_than_s3_takes() {
        let parts = cut(PARTS_MAX * 7 + 1, 7);
        assert!(parts.len() as u64 <= PARTS_MAX, "{}", parts.len());
        assert_eq!(parts.last().unwrap().end, PARTS_MAX * 7 + 1);
        assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start));
    }
}
