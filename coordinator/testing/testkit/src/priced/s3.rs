//! S3's REST API, as far as the state of an application needs it.
//!
//! | Operation | Known |
//! |---|---|
//! | `PutObject`, `CompleteMultipartUpload` | `If-None-Match: *`, `If-Match` |
//! | `GetObject` | `Range` of one range; the CRC-32C of whole objects |
//! | `ListObjectsV2` | prefix, start, continuation tokens, number of keys |
//! | `DeleteObject` | `If-Match` |
//! | `DeleteObjects`, `CreateMultipartUpload`, `UploadPart`, `AbortMultipartUpload` | |
//!
//! Everything else is refused with 501 and its name. Signatures are not checked. Buckets are not
//! versioned. A checksum that a client sends is kept and returned, but not verified.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use hyper::http::Method;

use super::server::{Answer, Ask, Service, Timing};

use self::objects::{Objects, Refused};
use self::xml::{decode, escape, values};

mod chunked;
mod objects;
mod xml;

/// Maximum number of keys in a page of a listing.
const PAGE: usize = 1000;

const CHECKSUM: &str = "x-amz-checksum-crc32c";

/// Buckets and their objects.
#[derive(Debug)]
pub(super) struct S3 {
    bucket: String,
    objects: Mutex<Objects>,
}

impl S3 {
    pub(super) fn new(bucket: &str) -> Self {
        Self {
            bucket: bucket.to_owned(),
            objects: Mutex::default(),
        }
    }

    /// Bytes of all objects.
    pub(super) fn stored_bytes(&self) -> u64 {
        self.objects().bytes()
    }

    fn objects(&self) -> std::sync::MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Performs an operation at once.
    fn apply(&self, operation: &str, ask: &Ask) -> Result<Answer, Refused> {
        let (bucket, key) = ask.path.split_once('/').unwrap_or((&ask.path, ""));
        if bucket != self.bucket {
            return Err(Refused(404, "NoSuchBucket", format!("no bucket {bucket}")));
        }
        let parameter = |name: &str| ask.query.get(name).map(String::as_str);
        let mut objects = self.objects();
        match operation {
            "PutObject" => {
                let (body, trailer) = body(ask)?;
                let checksum = ask.header(CHECKSUM).map(str::to_owned).or(trailer);
                let tag = objects.put(key, body, checksum.clone(), &conditions(ask))?;
                let answer = Answer::new(200).header("etag", tag);
                Ok(match checksum {
                    Some(checksum) => answer.header(CHECKSUM, checksum),
                    None => answer,
                })
            }
            "GetObject" => get(&objects, key, ask),
            "ListObjectsV2" => list(&objects, bucket, ask),
            "DeleteObject" => {
                objects.delete(key, ask.header("if-match"))?;
                Ok(Answer::new(204))
            }
            "DeleteObjects" => {
                let (body, _) = body(ask)?;
                let text = String::from_utf8_lossy(&body);
                let mut answer = String::from("<DeleteResult>");
                let quiet = values(&text, "Quiet").any(|quiet| quiet == "true");
                for key in values(&text, "Key").map(decode) {
                    objects.delete(&key, None)?;
                    if !quiet {
                        let key = escape(&key);
                        answer.push_str(&format!("<Deleted><Key>{key}</Key></Deleted>"));
                    }
                }
                Ok(xml(200, &(answer + "</DeleteResult>")))
            }
            "CreateMultipartUpload" => {
                let id = objects.begin_upload(key);
                let key = escape(key);
                Ok(xml(
                    200,
                    &format!(
                        "<InitiateMultipartUploadResult><Bucket>{bucket}</Bucket><Key>{key}</Key>\
                         <UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
                    ),
                ))
            }
            "UploadPart" => {
                let (body, trailer) = body(ask)?;
                let upload = parameter("uploadId").unwrap_or_default();
                let number = parameter("partNumber").unwrap_or_default();
                let number = number.parse().map_err(|_| {
                    Refused(400, "InvalidArgument", format!("part number {number}"))
                })?;
                let tag = objects.put_part(upload, number, body)?;
                let answer = Answer::new(200).header("etag", tag);
                Ok(match ask.header(CHECKSUM).map(str::to_owned).or(trailer) {
                    Some(checksum) => answer.header(CHECKSUM, checksum),
                    None => answer,
                })
            }
            "CompleteMultipartUpload" => {
                let text = String::from_utf8_lossy(&ask.body);
                let numbers = values(&text, "PartNumber").map(|number| number.parse());
                let numbers: Vec<u32> = numbers.collect::<Result<_, _>>().map_err(|_| {
                    Refused(400, "MalformedXML", "a part without a number".to_owned())
                })?;
                let upload = parameter("uploadId").unwrap_or_default();
                let tag = objects.complete_upload(upload, &numbers, &conditions(ask))?;
                let (key, tag) = (escape(key), escape(&tag));
                Ok(xml(
                    200,
                    &format!(
                        "<CompleteMultipartUploadResult><Bucket>{bucket}</Bucket><Key>{key}</Key>\
                         <ETag>{tag}</ETag></CompleteMultipartUploadResult>"
                    ),
                ))
            }
            "AbortMultipartUpload" => {
                objects.abort_upload(parameter("uploadId").unwrap_or_default())?;
                Ok(Answer::new(204))
            }
            other => Err(unknown(other)),
        }
    }
}

impl Service for S3 {
    fn operation(&self, ask: &Ask) -> Result<String, Answer> {
        let has = |name: &str| ask.query.contains_key(name);
        let of_object = ask
            .path
            .split_once('/')
            .is_some_and(|(_, key)| !key.is_empty());
        let unsupported = ["versionId", "versions", "acl", "tagging", "delimiter"];
        if let Some(name) = unsupported.into_iter().find(|name| has(name)) {
            return Err(refusal(&unknown(&format!("the parameter {name}"))));
        }
        if let Some(name) = ["x-amz-copy-source", "if-modified-since"]
            .into_iter()
            .find(|name| ask.headers.contains_key(*name))
        {
            return Err(refusal(&unknown(&format!("the header {name}"))));
        }
        let operation = match (&ask.method, of_object) {
            (&Method::PUT, true) if has("uploadId") => "UploadPart",
            (&Method::PUT, true) => "PutObject",
            (&Method::GET, true) => "GetObject",
            (&Method::DELETE, true) if has("uploadId") => "AbortMultipartUpload",
            (&Method::DELETE, true) => "DeleteObject",
            (&Method::POST, true) if has("uploads") => "CreateMultipartUpload",
            (&Method::POST, true) if has("uploadId") => "CompleteMultipartUpload",
            (&Method::POST, false) if has("delete") => "DeleteObjects",
            (&Method::GET, false) if has("list-type") => "ListObjectsV2",
            (method, _) => {
                let what = format!("{method} {} {:?}", ask.path, ask.query.keys());
                return Err(refusal(&unknown(&what)));
            }
        };
        Ok(operation.to_owned())
    }

    fn throttled(&self) -> Answer {
        let text = "Please reduce your request rate.".to_owned();
        refusal(&Refused(503, "SlowDown", text))
    }

    async fn perform(&self, operation: &str, ask: Ask, timing: Timing<'_>) -> Answer {
        timing.effect().await;
        let answer = self.apply(operation, &ask);
        timing.answer().await;
        answer.unwrap_or_else(|refused| refusal(&refused))
    }
}

/// Conditions of a write.
#[derive(Debug, Default)]
struct WriteConditions {
    /// True for `If-None-Match: *`.
    absent: bool,
    /// Entity tag of `If-Match`.
    tag: Option<String>,
}

fn conditions(ask: &Ask) -> WriteConditions {
    WriteConditions {
        absent: ask.headers.contains_key("if-none-match"),
        tag: ask.header("if-match").map(str::to_owned),
    }
}

/// The content of a request, and the checksum behind it, if there is one.
fn body(ask: &Ask) -> Result<(Bytes, Option<String>), Refused> {
    let encoding = ask.header("content-encoding").unwrap_or_default();
    if !encoding.contains("aws-chunked") {
        return Ok((ask.body.clone(), None));
    }
    chunked::decode(&ask.body, CHECKSUM)
        .ok_or_else(|| Refused(400, "IncompleteBody", "chunks that end early".to_owned()))
}

fn get(objects: &Objects, key: &str, ask: &Ask) -> Result<Answer, Refused> {
    let object = objects.get(key)?;
    let answer = |status| Answer::new(status).header("etag", object.tag.clone());
    let content_type = "application/octet-stream";
    let Some(range) = ask.header("range") else {
        let whole = answer(200).body(content_type, object.bytes.clone());
        let wanted = ask.header("x-amz-checksum-mode") == Some("ENABLED");
        return Ok(match &object.checksum {
            Some(checksum) if wanted => whole.header(CHECKSUM, checksum.clone()),
            _ => whole,
        });
    };
    let bounds = range
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'));
    let bounds = bounds.and_then(|(first, last)| {
        let first: usize = first.parse().ok()?;
        let last: usize = match last {
            "" => usize::MAX - 1,
            last => last.parse().ok()?,
        };
        (first <= last).then_some((first, last))
    });
    let Some((first, last)) = bounds else {
        return Err(unknown(&format!("the range {range}")));
    };
    let size = object.bytes.len();
    if first >= size {
        let text = "The requested range is not satisfiable".to_owned();
        return Err(Refused(416, "InvalidRange", text));
    }
    let end = size.min(last + 1);
    Ok(answer(206)
        .body(content_type, object.bytes.slice(first..end))
        .header("content-range", format!("bytes {first}-{}/{size}", end - 1)))
}

fn list(objects: &Objects, bucket: &str, ask: &Ask) -> Result<Answer, Refused> {
    let parameter = |name: &str| ask.query.get(name).map(String::as_str);
    let prefix = parameter("prefix").unwrap_or_default();
    let max = match parameter("max-keys").map(str::parse::<usize>) {
        None => PAGE,
        Some(Ok(max)) => max.min(PAGE),
        Some(Err(_)) => return Err(unknown("this number of keys")),
    };
    // The token is the last key of the page before, behind a letter that makes it opaque.
    let token = parameter("continuation-token");
    let after = match token.map(|token| token.strip_prefix('t')) {
        None => parameter("start-after").unwrap_or_default().to_owned(),
        Some(Some(after)) => after.to_owned(),
        Some(None) => {
            let text = "The continuation token provided is incorrect".to_owned();
            return Err(Refused(400, "InvalidArgument", text));
        }
    };
    let (page, truncated) = objects.page(prefix, &after, max);
    let mut answer = format!(
        "<ListBucketResult><Name>{bucket}</Name><Prefix>{}</Prefix><MaxKeys>{max}</MaxKeys>\
         <KeyCount>{}</KeyCount><IsTruncated>{truncated}</IsTruncated>",
        escape(prefix),
        page.len()
    );
    if truncated {
        let last = page.last().map_or(after.as_str(), |(key, _)| key);
        let token = escape(&format!("t{last}"));
        answer.push_str(&format!(
            "<NextContinuationToken>{token}</NextContinuationToken>"
        ));
    }
    for (key, object) in page {
        let (key, tag, size) = (escape(key), escape(&object.tag), object.bytes.len());
        answer.push_str(&format!(
            "<Contents><Key>{key}</Key><ETag>{tag}</ETag><Size>{size}</Size></Contents>"
        ));
    }
    Ok(xml(200, &(answer + "</ListBucketResult>")))
}

fn xml(status: u16, text: &str) -> Answer {
    let text = format!(r#"<?xml version="1.0" encoding="UTF-8"?>{text}"#);
    Answer::new(status).body("application/xml", text)
}

fn unknown(what: &str) -> Refused {
    let text = format!("the stand-in does not know {what}");
    Refused(501, "NotImplemented", text)
}

fn refusal(Refused(status, code, message): &Refused) -> Answer {
    let message = escape(message);
    let text = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
    xml(*status, &text)
}
