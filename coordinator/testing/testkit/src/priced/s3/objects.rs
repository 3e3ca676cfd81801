//! Objects and unfinished uploads.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher as _};
use std::ops::Bound;

use bytes::{Bytes, BytesMut};

use super::WriteConditions;

/// Refusal of a request: status, code and message.
#[derive(Debug)]
pub(super) struct Refused(pub(super) u16, pub(super) &'static str, pub(super) String);

#[derive(Debug)]
pub(super) struct Object {
    pub(super) bytes: Bytes,
    /// Entity tag, in quotes.
    pub(super) tag: String,
    /// CRC-32C as the client sent it.
    pub(super) checksum: Option<String>,
}

#[derive(Debug, Default)]
struct Upload {
    key: String,
    parts: BTreeMap<u32, Bytes>,
}

/// Objects of a bucket.
#[derive(Debug, Default)]
pub(super) struct Objects {
    objects: BTreeMap<String, Object>,
    uploads: BTreeMap<String, Upload>,
    uploads_begun: u64,
}

impl Objects {
    pub(super) fn bytes(&self) -> u64 {
        let sizes = self.objects.values().map(|object| object.bytes.len());
        sizes.sum::<usize>() as u64
    }

    pub(super) fn get(&self, key: &str) -> Result<&Object, Refused> {
        self.objects.get(key).ok_or_else(|| {
            let text = "The specified key does not exist.".to_owned();
            Refused(404, "NoSuchKey", text)
        })
    }

    /// Stores an object and returns its tag.
    pub(super) fn put(
        &mut self,
        key: &str,
        bytes: Bytes,
        checksum: Option<String>,
        conditions: &WriteConditions,
    ) -> Result<String, Refused> {
        self.check(key, conditions)?;
        let tag = tag(&bytes);
        let object = Object {
            bytes,
            tag: tag.clone(),
            checksum,
        };
        self.objects.insert(key.to_owned(), object);
        Ok(tag)
    }

    /// Deletes an object, which need not exist unless a tag is given.
    pub(super) fn delete(&mut self, key: &str, tag: Option<&str>) -> Result<(), Refused> {
        if let Some(tag) = tag
            && self.get(key)?.tag != tag
        {
            return Err(precondition_failed());
        }
        self.objects.remove(key);
        Ok(())
    }

    /// Up to `max` objects behind `after` whose keys begin with `prefix`, and whether there are
    /// more.
    pub(super) fn page(
        &self,
        prefix: &str,
        after: &str,
        max: usize,
    ) -> (Vec<(&str, &Object)>, bool) {
        let from = if after < prefix {
            Bound::Included(prefix)
        } else {
            Bound::Excluded(after)
        };
        let found = self.objects.range::<str, _>((from, Bound::Unbounded));
        let mut found = found
            .map(|(key, object)| (key.as_str(), object))
            .take_while(|(key, _)| key.starts_with(prefix));
        let page = found.by_ref().take(max).collect();
        (page, found.next().is_some())
    }

    pub(super) fn begin_upload(&mut self, key: &str) -> String {
        self.uploads_begun += 1;
        let id = format!("upload-{}", self.uploads_begun);
        let upload = Upload {
            key: key.to_owned(),
            ..Upload::default()
        };
        self.uploads.insert(id.clone(), upload);
        id
    }

    pub(super) fn put_part(
        &mut self,
        upload: &str,
        number: u32,
        bytes: Bytes,
    ) -> Result<String, Refused> {
        let tag = tag(&bytes);
        let found = self.uploads.get_mut(upload);
        found
            .ok_or_else(no_such_upload)?
            .parts
            .insert(number, bytes);
        Ok(tag)
    }

    pub(super) fn complete_upload(
        &mut self,
        upload: &str,
        numbers: &[u32],
        conditions: &WriteConditions,
    ) -> Result<String, Refused> {
        let found = self.uploads.get(upload).ok_or_else(no_such_upload)?;
        let mut whole = BytesMut::new();
        for number in numbers {
            let part = found.parts.get(number).ok_or_else(|| {
                let text = format!("there is no part {number}");
                Refused(400, "InvalidPart", text)
            })?;
            whole.extend_from_slice(part);
        }
        let key = found.key.clone();
        let tag = self.put(&key, whole.freeze(), None, conditions)?;
        self.uploads.remove(upload);
        Ok(tag)
    }

    pub(super) fn abort_upload(&mut self, upload: &str) -> Result<(), Refused> {
        let removed = self.uploads.remove(upload);
        removed.map(drop).ok_or_else(no_such_upload)
    }

    fn check(&self, key: &str, conditions: &WriteConditions) -> Result<(), Refused> {
        if conditions.absent && self.objects.contains_key(key) {
            return Err(precondition_failed());
        }
        match &conditions.tag {
            Some(tag) if self.get(key)?.tag != *tag => Err(precondition_failed()),
            _ => Ok(()),
        }
    }
}

/// A tag that depends on the content. S3's is an MD5 for small objects; no client may rely on that.
fn tag(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    format!("\"{:016x}{:016x}\"", hasher.finish(), bytes.len())
}

fn precondition_failed() -> Refused {
    let text = "At least one of the pre-conditions you specified did not hold".to_owned();
    Refused(412, "PreconditionFailed", text)
}

fn no_such_upload() -> Refused {
    let text = "The specified multipart upload does not exist.".to_owned();
    Refused(404, "NoSuchUpload", text)
}
