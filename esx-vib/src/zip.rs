//! The offline bundle's container. The crate does the format; times are fixed, and reading is bounded.

use std::collections::BTreeMap;
use std::io::{Cursor, Read as _, Write as _};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter};

use crate::error::{BuildError, ReadError};

/// All files together: a bundle of every release of one package.
pub const MOST_BYTES: u64 = 256 * 1024 * 1024;
/// How many files.
pub const MOST_FILES: usize = 1000;

const WHAT: &str = "the bundle";

/// Writes files in their order. Packages and archives in it are compressed already and stored as they are.
///
/// # Errors
/// [`BuildError`] for a name that comes twice.
pub fn write(files: &[(String, Vec<u8>)]) -> Result<Vec<u8>, BuildError> {
    let failed = |e: String| BuildError::Container(e);
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        let packed = [".vib", ".zip"].iter().any(|end| name.ends_with(end));
        let method = if packed {
            CompressionMethod::Stored
        } else {
            CompressionMethod::Deflated
        };
        let options = SimpleFileOptions::default()
            .compression_method(method)
            // 1980: the first moment the format knows.
            .last_modified_time(DateTime::default())
            .unix_permissions(0o644);
        writer
            .start_file(name.as_str(), options)
            .map_err(|e| failed(e.to_string()))?;
        writer.write_all(bytes).map_err(|e| failed(e.to_string()))?;
    }
    let done = writer.finish().map_err(|e| failed(e.to_string()))?;
    Ok(done.into_inner())
}

/// Reads all files, by name; folders are left out.
///
/// # Errors
/// [`ReadError`], also when more than [`MOST_BYTES`] come out or a name leads out of the bundle.
pub fn read(bytes: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, ReadError> {
    let wrong = |e: String| ReadError::malformed(WHAT, e);
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|e| wrong(e.to_string()))?;
    if archive.len() > MOST_FILES {
        return Err(ReadError::TooMany {
            what: WHAT,
            most: MOST_FILES,
        });
    }
    let mut files = BTreeMap::new();
    let mut left = MOST_BYTES;
    for at in 0..archive.len() {
        let file = archive.by_index(at).map_err(|e| wrong(e.to_string()))?;
        if file.is_dir() {
            continue;
        }
        let name = file.name().map_err(|e| wrong(e.to_string()))?.into_owned();
        let inside = name.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !inside || name.contains('\\') {
            return Err(wrong(format!("'{name}' is no name of a file in it")));
        }
        let mut data = Vec::new();
        file.take(left.saturating_add(1))
            .read_to_end(&mut data)
            .map_err(|e| wrong(format!("{name}: {e}")))?;
        left = left
            .checked_sub(data.len() as u64)
            .ok_or(ReadError::TooLarge {
                what: WHAT,
                bytes: MOST_BYTES.saturating_add(1),
                most: MOST_BYTES,
            })?;
        if files.insert(name.clone(), data).is_some() {
            return Err(wrong(format!("'{name}' is there twice")));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Vec<(String, Vec<u8>)> {
        vec![
            ("index.xml".to_owned(), b"<x/>".repeat(100)),
            ("vib20/a/a.vib".to_owned(), vec![1; 3000]),
        ]
    }

    #[test]
    fn what_is_written_is_read_and_the_same_each_time() {
        let bytes = write(&files()).unwrap();
        assert_eq!(bytes, write(&files()).unwrap());
        let read = read(&bytes).unwrap();
        assert_eq!(read.into_iter().collect::<Vec<_>>(), files());
    }

    #[test]
    fn what_is_no_bundle_is_refused() {
        assert!(read(b"").is_err());
        assert!(read(b"PK\x05\x06").is_err());
        let bytes = write(&[("../x".to_owned(), vec![1])]).unwrap();
        let refused = read(&bytes).unwrap_err().to_string();
        assert!(refused.contains("../x"), "{refused}");
        let mut damaged = write(&files()).unwrap();
        let at = damaged.windows(3).position(|w| w == [1, 1, 1]).unwrap();
        damaged[at] = 2;
        assert!(read(&damaged).is_err());
    }
}
