//! Store of objects in a directory, with conditional creation as in S3.
//!
//! A create writes a temporary file, makes its content durable, gives it its name by a rename that
//! fails if the name exists (a hard link where the file system has no such rename), and makes the
//! name durable. Therefore a visible object is complete, and never replaced.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::future::BoxFuture;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use satchel_log::{Created, OBJECT_BYTES_MAX, ObjectMeta, ObjectStore, StoreError};

/// Directory of temporary files, below the store's directory. No object's name begins with a dot.
const TEMPORARY: &str = ".temporary";

/// An [`ObjectStore`] in a local directory. Several processes may use the same one.
///
/// Must be used within a tokio runtime: file operations run on its blocking threads.
#[derive(Clone, Debug)]
pub struct DirectoryStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    /// Prefix of this store's temporary files, unique among all stores.
    stamp: String,
    counter: AtomicU64,
    /// Directories known to exist durably.
    known: Mutex<BTreeSet<PathBuf>>,
}

impl DirectoryStore {
    /// Opens the directory, creates it if it is missing, and removes temporary files of dead
    /// processes.
    ///
    /// # Errors
    ///
    /// An error of the operating system, with the path in its message.
    pub fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        let inner = Inner::at(root.into());
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", inner.root.display()))
        };
        inner.make_root().map_err(named)?;
        inner.sweep().map_err(named)?;
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Opens an existing directory for reading. Creates and removes nothing.
    ///
    /// # Errors
    ///
    /// An error of the operating system, with the path in its message; also if the path is not a
    /// directory.
    pub fn open_existing(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        // Listing the directory reveals errors at once that reading would reveal later.
        fs::read_dir(&root).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", root.display()))
        })?;
        Ok(Self {
            inner: Arc::new(Inner::at(root)),
        })
    }

    /// Path of the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.root
    }

    fn blocking<T: Send + 'static>(
        &self,
        key: &str,
        work: impl FnOnce(&Inner, &str) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let inner = self.inner.clone();
        let key = key.to_owned();
        Box::pin(async move {
            let name = key.clone();
            tokio::task::spawn_blocking(move || work(&inner, &key))
                .await
                .unwrap_or_else(|stopped| {
                    Err(StoreError::Unavailable {
                        key: name,
                        reason: stopped.to_string(),
                    })
                })
        })
    }
}

impl ObjectStore for DirectoryStore {
    fn create<'a>(
        &'a self,
        key: &'a str,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<Created, StoreError>> {
        self.blocking(key, move |inner, key| {
            let path = inner.path(key)?;
            inner.create(&path, &bytes).map_err(|e| failed(key, &e))
        })
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        self.blocking(key, |inner, key| {
            let path = inner.path(key)?;
            absent_is_none(read_object(&path)).map_err(|e| failed(key, &e))
        })
    }

    fn get_range<'a>(
        &'a self,
        key: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        self.blocking(key, move |inner, key| {
            let path = inner.path(key)?;
            absent_is_none(read_range(&path, &range)).map_err(|e| failed(key, &e))
        })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        start_after: Option<&'a str>,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<ObjectMeta>, StoreError>> {
        let start_after = start_after.unwrap_or_default().to_owned();
        self.blocking(prefix, move |inner, prefix| {
            let directory = match prefix.strip_suffix('/') {
                Some(directory) => inner.path(directory)?,
                None if prefix.is_empty() => inner.root.clone(),
                None => return Err(refused(prefix, "a listed prefix must end with a slash")),
            };
            let mut keys = Vec::new();
            walk(&directory, prefix, &mut keys).map_err(|e| failed(prefix, &e))?;
            keys.retain(|key| *key > start_after);
            keys.sort_unstable();
            keys.truncate(max);
            let sized = keys
                .into_iter()
                .filter_map(|key| inner.meta(key).transpose());
            sized.collect()
        })
    }

    fn delete<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<(), StoreError>> {
        let keys = keys.to_vec();
        let first = keys.first().cloned().unwrap_or_default();
        self.blocking(&first, move |inner, _| {
            for key in &keys {
                let path = inner.path(key)?;
                absent_is_none(fs::remove_file(path)).map_err(|e| failed(key, &e))?;
            }
            Ok(())
        })
    }

    fn delete_exactly<'a>(
        &'a self,
        key: &'a str,
        bytes: &'a Bytes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let bytes = bytes.clone();
        self.blocking(key, move |inner, key| {
            // Comparing and removing are two steps. Requests to a local disk do not arrive late.
            let path = inner.path(key)?;
            let found = absent_is_none(read_object(&path)).map_err(|e| failed(key, &e))?;
            if found.is_some_and(|found| found == bytes) {
                absent_is_none(fs::remove_file(path)).map_err(|e| failed(key, &e))?;
            }
            Ok(())
        })
    }
}

impl Inner {
    fn at(root: PathBuf) -> Self {
        Self {
            root,
            stamp: format!(
                "{}-{:016x}",
                std::process::id(),
                RandomState::new().build_hasher().finish()
            ),
            counter: AtomicU64::new(0),
            known: Mutex::new(BTreeSet::new()),
        }
    }

    fn make_root(&self) -> io::Result<()> {
        fs::create_dir_all(&self.root)?;
        let temporary = self.root.join(TEMPORARY);
        match fs::create_dir(&temporary) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        sync_directory(&self.root)?;
        match self.root.parent().filter(|parent| parent.is_dir()) {
            Some(parent) => sync_directory(parent),
            None => Ok(()),
        }
    }

    /// Removes all temporary files. A live process that loses one by this cannot link it, and
    /// writes it again.
    fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.root.join(TEMPORARY))? {
            absent_is_none(fs::remove_file(entry?.path()))?;
        }
        Ok(())
    }

    /// Returns the file of `key`. Accepts only plain names, so that no key names a file outside the
    /// directory.
    fn path(&self, key: &str) -> Result<PathBuf, StoreError> {
        let plain = |name: &str| {
            !name.is_empty()
                && !name.starts_with('.')
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        let mut path = self.root.clone();
        for name in key.split('/') {
            if !plain(name) {
                return Err(refused(
                    key,
                    "a key must consist of names of letters, digits, '.', '_' and '-' \
                     that do not begin with a dot",
                ));
            }
            path.push(name);
        }
        Ok(path)
    }

    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<Created> {
        let parent = path.parent().unwrap_or(&self.root);
        if fs::exists(path)? {
            // Readers may rely on the object, so its name must be durable too.
            sync_directory(parent)?;
            return Ok(Created::Exists);
        }
        self.make_parent(parent)?;
        let count = self.counter.fetch_add(1, Ordering::Relaxed);
        let temporary = self
            .root
            .join(TEMPORARY)
            .join(format!("{}-{count}", self.stamp));
        let named = write_durably(&temporary, bytes).and_then(|()| name(&temporary, path));
        let created = match named {
            Ok(()) => Created::Stored,
            Err(error) => {
                absent_is_none(fs::remove_file(&temporary))?;
                match error.kind() {
                    ErrorKind::AlreadyExists => Created::Exists,
                    _ => return Err(error),
                }
            }
        };
        sync_directory(parent)?;
        Ok(created)
    }

    /// Creates a directory and its ancestors durably.
    fn make_parent(&self, directory: &Path) -> io::Result<()> {
        let lock = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if directory == self.root || lock().contains(directory) {
            return Ok(());
        }
        if let Some(above) = directory.parent() {
            self.make_parent(above)?;
            match fs::create_dir(directory) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            sync_directory(above)?;
        }
        lock().insert(directory.to_owned());
        Ok(())
    }

    fn meta(&self, key: String) -> Result<Option<ObjectMeta>, StoreError> {
        let meta = fs::metadata(self.path(&key)?);
        match absent_is_none(meta) {
            Ok(meta) => Ok(meta.map(|meta| ObjectMeta {
                size: meta.len(),
                key,
            })),
            Err(error) => Err(failed(&key, &error)),
        }
    }
}

/// Collects the keys of all files below `directory`. Each begins with `prefix`.
fn walk(directory: &Path, prefix: &str, keys: &mut Vec<String>) -> io::Result<()> {
    let Some(entries) = absent_is_none(fs::read_dir(directory))? else {
        return Ok(());
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        // Objects have plain names. Other files belong to another program.
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else {
            continue;
        };
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), &format!("{prefix}{name}/"), keys)?;
        } else {
            keys.push(format!("{prefix}{name}"));
        }
    }
    Ok(())
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    // Everything that reading the file needs, its size included.
    file.sync_data()
}

/// Gives a temporary file its name, unless that exists.
fn name(temporary: &Path, path: &Path) -> io::Result<()> {
    match renameat_with(CWD, temporary, CWD, path, RenameFlags::NOREPLACE) {
        // The file system does not know the flag.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            fs::hard_link(temporary, path)?;
            absent_is_none(fs::remove_file(temporary)).map(drop)
        }
        renamed => Ok(renamed?),
    }
}

/// Opens the file of an object. Anything else under that name is an error that says what it is:
/// opening a FIFO would wait for a writer, and a device may have no end.
fn open_object(path: &Path) -> io::Result<(File, u64)> {
    let meta = fs::metadata(path)?;
    let kind = meta.file_type();
    if kind.is_file() {
        return Ok((File::open(path)?, meta.len()));
    }
    let what = if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    Err(io::Error::new(
        ErrorKind::Unsupported,
        format!("{} is {what}, not the file of an object", path.display()),
    ))
}

fn read_object(path: &Path) -> io::Result<Bytes> {
    let (file, bytes) = open_object(path)?;
    if bytes > OBJECT_BYTES_MAX {
        return Err(io::Error::new(
            ErrorKind::Unsupported,
            format!("it has {bytes} bytes; an object has at most {OBJECT_BYTES_MAX}"),
        ));
    }
    let mut object = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default());
    file.take(OBJECT_BYTES_MAX).read_to_end(&mut object)?;
    Ok(Bytes::from(object))
}

fn read_range(path: &Path, range: &Range<u64>) -> io::Result<Bytes> {
    let (mut file, _) = open_object(path)?;
    file.seek(SeekFrom::Start(range.start))?;
    let mut part = Vec::new();
    file.take(range.end.saturating_sub(range.start))
        .read_to_end(&mut part)?;
    Ok(Bytes::from(part))
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn absent_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn refused(key: &str, reason: &str) -> StoreError {
    StoreError::Fatal {
        key: key.to_owned(),
        reason: reason.to_owned(),
    }
}

/// Converts an error. Transient ones, above all a full disk, are retryable; those that need an
/// operator are final.
fn failed(key: &str, error: &io::Error) -> StoreError {
    let key = key.to_owned();
    let reason = match error.kind() {
        ErrorKind::StorageFull => format!("no space left on the device ({error})"),
        ErrorKind::QuotaExceeded => format!("the disk quota is exceeded ({error})"),
        _ => error.to_string(),
    };
    match error.kind() {
        ErrorKind::PermissionDenied
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::NotADirectory
        | ErrorKind::IsADirectory
        | ErrorKind::InvalidFilename
        | ErrorKind::Unsupported => StoreError::Fatal { key, reason },
        _ => StoreError::Unavailable { key, reason },
    }
}

#[cfg(test)]
mod tests;
