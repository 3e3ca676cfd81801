//! Files of people, read only up to a size: a device or a wrong path must not fill the memory.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// Maximum size of a file with a token, in bytes.
pub(crate) const TOKEN_BYTES_MAX: u64 = 64 << 10;

/// Maximum size of a module file, a certificate or a key, in bytes.
pub(crate) const TEXT_BYTES_MAX: u64 = 16 << 20;

/// Reads a file of at most `bytes_max` bytes.
///
/// # Errors
///
/// An error of the operating system, or that the file is larger.
pub(crate) fn read(file: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(file)?
        .take(bytes_max + 1)
        .read_to_end(&mut bytes)?;
    if read as u64 > bytes_max {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("the file is larger than {bytes_max} bytes"),
        ));
    }
    Ok(bytes)
}

/// Reads a file of at most `bytes_max` bytes as UTF-8.
///
/// # Errors
///
/// As [`read`], or that the file is not UTF-8. No error shows the content.
pub(crate) fn read_text(file: &Path, bytes_max: u64) -> io::Result<String> {
    String::from_utf8(read(file, bytes_max)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the file is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endless_file_is_refused_by_its_limit() {
        let error = read(Path::new("/dev/zero"), TOKEN_BYTES_MAX).unwrap_err();
        assert_eq!(error.to_string(), "the file is larger than 65536 bytes");
    }

    #[test]
    fn a_file_of_the_maximum_size_is_read_and_other_than_text_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, b"four").unwrap();
        assert_eq!(read_text(&file, 4).unwrap(), "four");
        assert!(read_text(&file, 3).is_err());
        std::fs::write(&file, b"\xff").unwrap();
        let error = read_text(&file, 4).unwrap_err();
        assert_eq!(error.to_string(), "the file is not UTF-8");
    }
}
