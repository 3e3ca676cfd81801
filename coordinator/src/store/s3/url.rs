//! `s3://bucket/prefix`: location of a root in S3.

use std::fmt;
use std::str::FromStr;

/// Bucket and prefix of a root.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct S3Url {
    /// Name of the bucket.
    pub bucket: String,
    /// Common prefix of the root's keys, without a slash at either end; empty for the top of the
    /// bucket. It is the root's name for the log.
    pub prefix: String,
}

/// Error in an [`S3Url`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{url}` is not a location in S3: {reason}; write s3://bucket/prefix")]
pub struct S3UrlError {
    /// Text that was parsed.
    pub url: String,
    /// Description of the error.
    pub reason: String,
}

/// Maximum length of a prefix in bytes. S3 allows keys of 1024 bytes, and the longest name below a
/// root has about 100.
const PREFIX_BYTES_MAX: usize = 800;

impl FromStr for S3Url {
    type Err = S3UrlError;

    fn from_str(text: &str) -> Result<Self, S3UrlError> {
        let wrong = |reason: String| S3UrlError {
            url: text.to_owned(),
            reason,
        };
        let Some(rest) = text.strip_prefix("s3://") else {
            return Err(wrong("it does not begin with s3://".to_owned()));
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        check_bucket(bucket).map_err(wrong)?;
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        if !prefix.is_empty() {
            check_key(prefix).map_err(|reason| wrong(format!("in its prefix, {reason}")))?;
        }
        if prefix.len() > PREFIX_BYTES_MAX {
            let len = prefix.len();
            return Err(wrong(format!(
                "its prefix has {len} bytes, more than {PREFIX_BYTES_MAX}"
            )));
        }
        Ok(Self {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        })
    }
}

impl fmt::Display for S3Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if !self.prefix.is_empty() {
            write!(f, "/{}", self.prefix)?;
        }
        Ok(())
    }
}

/// Checks the most important rules for names of general purpose buckets (Amazon S3 User Guide,
/// "General purpose bucket naming rules").
fn check_bucket(bucket: &str) -> Result<(), String> {
    if bucket.is_empty() {
        return Err("it names no bucket".to_owned());
    }
    if bucket.ends_with("--x-s3") {
        return Err(format!(
            "`{bucket}` is a directory bucket, which does not list its objects in order: \
             use a general purpose bucket"
        ));
    }
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let well_formed = (3..=63).contains(&bucket.len())
        && bucket
            .bytes()
            .all(|byte| plain(byte) || b"-.".contains(&byte))
        && bucket.as_bytes().first().copied().is_some_and(plain)
        && bucket.as_bytes().last().copied().is_some_and(plain)
        && !bucket.contains("..");
    if well_formed {
        Ok(())
    } else {
        Err(format!(
            "`{bucket}` is no bucket: a name has 3 to 63 lower-case letters, digits, '-' and '.', \
             with a letter or digit at both ends"
        ))
    }
}

/// Checks that every store can hold `key`.
pub(super) fn check_key(key: &str) -> Result<(), String> {
    let plain = |name: &str| {
        !name.is_empty()
            && !name.starts_with('.')
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    match key.split('/').find(|name| !plain(name)) {
        None => Ok(()),
        Some("") => Err("a name between two slashes is empty".to_owned()),
        Some(name) => Err(format!(
            "`{name}` must consist of letters, digits, '.', '_' and '-', and not begin with a dot"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<(String, String), String> {
        match text.parse::<S3Url>() {
            Ok(url) => Ok((url.bucket, url.prefix)),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_url_is_a_bucket_and_a_prefix_without_slashes_at_its_ends() {
        let owned = |bucket: &str, prefix: &str| Ok((bucket.to_owned(), prefix.to_owned()));
        assert_eq!(parsed("s3://my-bucket"), owned("my-bucket", ""));
        assert_eq!(parsed("s3://my-bucket/"), owned("my-bucket", ""));
        assert_eq!(
            parsed("s3://my.bucket/a/b_C-1.x"),
            owned("my.bucket", "a/b_C-1.x")
        );
        assert_eq!(parsed("s3://my-bucket/a/b/"), owned("my-bucket", "a/b"));
    }

    #[test]
    fn a_url_is_written_as_it_is_read() {
        for text in ["s3://my-bucket", "s3://my-bucket/a/b"] {
            assert_eq!(text.parse::<S3Url>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said() {
        let long = format!("s3://my-bucket/{}", "x".repeat(801));
        for (text, reason) in [
            ("my-bucket/a", "it does not begin with s3://"),
            ("S3://my-bucket/a", "it does not begin with s3://"),
            ("s3://", "it names no bucket"),
            ("s3:///a", "it names no bucket"),
            ("s3://My-Bucket/a", "`My-Bucket` is no bucket"),
            ("s3://ab", "`ab` is no bucket"),
            ("s3://-bucket/a", "`-bucket` is no bucket"),
            ("s3://a..b/a", "`a..b` is no bucket"),
            ("s3://name--use1-az4--x-s3/a", "is a directory bucket"),
            (
                "s3://my-bucket//a",
                "in its prefix, a name between two slashes is empty",
            ),
            (
                "s3://my-bucket/a/../b",
                "in its prefix, `..` must consist of letters",
            ),
            (
                "s3://my-bucket/a?x=1",
                "in its prefix, `a?x=1` must consist of letters",
            ),
            (long.as_str(), "its prefix has 801 bytes"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(
                error.starts_with(&format!("`{text}` is not a location in S3: ")),
                "{error}"
            );
            assert!(error.contains(reason), "{text}: {error}");
            assert!(error.ends_with("write s3://bucket/prefix"), "{error}");
        }
    }
}
