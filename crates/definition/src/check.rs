//! Reads a zip from end to end without writing anything.

use std::{
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use zip::{CompressionMethod, ZipArchive, read::ZipFile, result::ZipError};

use crate::{
    Error, Kind, Limits,
    names::{Names, Shape, check_link},
    sniff,
};

pub(crate) type Archive = ZipArchive<BufReader<File>>;

/// What is in a definition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Files and links.
    pub files: u64,
    /// Their bytes, unpacked.
    pub bytes: u64,
}

/// Checks everything about the zip at `path`: kind, names, sizes, and that every entry unpacks
/// to what the headers say.
pub fn check(path: &Path, limits: &Limits) -> Result<Summary, Error> {
    let mut archive = open(path, limits)?;
    walk(&mut archive, limits, |entry| {
        let mut sink = vec![0; 64 * 1024];
        while entry.read(&mut sink)? > 0 {}
        Ok(())
    })
}

/// Opens the zip and checks all that its headers tell.
pub(crate) fn open(path: &Path, limits: &Limits) -> Result<Archive, Error> {
    let failed = |e| Error::file(path, e);
    let mut file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    if size > limits.zip_bytes {
        return Err(Error::ZipBytes { found: size, limit: limits.zip_bytes });
    }
    let mut head = Vec::new();
    (&mut file).take(512).read_to_end(&mut head).map_err(failed)?;
    match sniff(&head) {
        Kind::Zip => {}
        Kind::EmptyZip => return Err(Error::Nothing),
        other => return Err(Error::NotAZip(other)),
    }
    // Before the directory is read into memory.
    let said = entries_said(&mut file, size).map_err(failed)?;
    if said > limits.entries {
        return Err(Error::Entries { found: said, limit: limits.entries });
    }
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(broken)?;
    let found = archive.len() as u64;
    if found > limits.entries {
        return Err(Error::Entries { found, limit: limits.entries });
    }
    if archive.has_duplicate_names() {
        return Err(Error::Duplicate("one of its entries".to_owned()));
    }
    check_headers(&mut archive, limits)?;
    archive.validate_header_consistency().map_err(|e| Error::Lying(e.to_string()))?;
    Ok(archive)
}

/// The number of entries that the end record gives (APPNOTE 4.3.14 and 4.3.16); 0 when there is
/// no such record, which the reader then says in its own words.
fn entries_said(file: &mut File, size: u64) -> std::io::Result<u64> {
    const END: &[u8] = b"PK\x05\x06";
    const END_SIZE: usize = 22;
    const LOCATOR_SIZE: usize = 20;
    const SMALLEST_ENTRY: u64 = 46;
    let tail_size = size.min(65_535 + END_SIZE as u64 + LOCATOR_SIZE as u64);
    file.seek(SeekFrom::Start(size - tail_size))?;
    let mut tail = Vec::new();
    (&mut *file).take(tail_size).read_to_end(&mut tail)?;
    // A comment may hold what looks like an end record, and a reader may take any of them: the
    // largest number counts.
    let mut most = 0;
    let ends = tail.windows(END.len()).enumerate().filter(|(_, w)| *w == END).map(|(at, _)| at);
    for at in ends {
        let Some(count) = tail.get(at + 10..at + 12) else { continue };
        most = most.max(u64::from(u16::from_le_bytes([count[0], count[1]])));
        let locator = at.checked_sub(LOCATOR_SIZE).map(|from| &tail[from..at]);
        let Some(locator) = locator.filter(|l| l.starts_with(b"PK\x06\x07")) else { continue };
        let offset = u64::from_le_bytes(locator[8..16].try_into().unwrap_or_default());
        file.seek(SeekFrom::Start(offset.min(size)))?;
        let mut record = Vec::new();
        (&mut *file).take(56).read_to_end(&mut record)?;
        let number =
            |from: usize| record.get(from..from + 8).and_then(|c| c.try_into().ok()).map(u64::from_le_bytes);
        // What the record says, and what fits into the directory that it says there is.
        let directory = number(40).map_or(u64::MAX, |bytes| bytes / SMALLEST_ENTRY);
        most = most.max(number(32).unwrap_or(u64::MAX).min(directory.max(1)));
        most = most.max(number(24).unwrap_or(0).min(directory.max(1)));
    }
    Ok(most)
}

fn check_headers(archive: &mut Archive, limits: &Limits) -> Result<(), Error> {
    let mut names = Names::default();
    let (mut total, mut files) = (0u64, 0u64);
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(broken)?;
        let raw = entry.name().map_err(broken)?.into_owned();
        let name = names.add(&raw, if entry.is_dir() { Shape::Folder } else { Shape::Leaf })?;
        if entry.encrypted() {
            return Err(Error::Encrypted(name));
        }
        match entry.compression() {
            CompressionMethod::Stored | CompressionMethod::Deflated => {}
            other => return Err(Error::Method { name, method: format!("{other:?}") }),
        }
        if is_special(&entry) || (entry.is_dir() && entry.is_symlink()) {
            return Err(Error::Special(name));
        }
        total = total.saturating_add(entry.size());
        if total > limits.unpacked_bytes {
            return Err(Error::UnpackedBytes { name, limit: limits.unpacked_bytes });
        }
        if entry.size() > Limits::RATIO_FREE && entry.size() / entry.compressed_size().max(1) > limits.ratio {
            return Err(Error::Ratio { name, limit: limits.ratio });
        }
        files += u64::from(!entry.is_dir());
    }
    names.finish()?;
    if files == 0 { Err(Error::Nothing) } else { Ok(()) }
}

/// Devices, pipes and sockets, by the file type bits of the Unix mode.
fn is_special<R: Read>(entry: &ZipFile<'_, R>) -> bool {
    const TYPE: u32 = 0o170_000;
    matches!(entry.unix_mode().map(|m| m & TYPE), Some(0o010_000 | 0o020_000 | 0o060_000 | 0o140_000))
}

/// Unpacks every file entry through `each`, with the limits watched while bytes come: sizes in
/// headers may lie. Links are checked too.
pub(crate) fn walk(
    archive: &mut Archive,
    limits: &Limits,
    mut each: impl FnMut(&mut Entry<'_, '_>) -> std::io::Result<()>,
) -> Result<Summary, Error> {
    let mut summary = Summary::default();
    for index in 0..archive.len() {
        let mut file = archive.by_index(index).map_err(broken)?;
        let name = file.name().map_err(broken)?.trim_end_matches('/').to_owned();
        if file.is_dir() {
            continue;
        }
        summary.files += 1;
        let said = file.size();
        let left = limits.unpacked_bytes.saturating_sub(summary.bytes);
        let is_link = file.is_symlink();
        let mut entry = Entry { file: &mut file, name: &name, read: 0, limit: left.min(said), over: false };
        let result = if is_link {
            // A link's content is where it leads.
            let mut target = String::new();
            let read = (&mut entry).take(4097).read_to_string(&mut target);
            read.map(|_| Some(target))
        } else {
            each(&mut entry).map(|()| None)
        };
        let (read, over) = (entry.read, entry.over);
        if over {
            return Err(Error::Lying(format!("`{name}` has more than the {said} bytes that it says")));
        }
        match result {
            Ok(Some(target)) => check_link(&name, &target)?,
            Ok(None) => {}
            Err(e)
                if e.kind() == std::io::ErrorKind::InvalidData
                    || e.kind() == std::io::ErrorKind::InvalidInput =>
            {
                return Err(Error::Lying(format!("`{name}`: {e}")));
            }
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(Error::Broken(format!("`{name}` is cut off")));
            }
            Err(e) => return Err(Error::File { path: name, source: e }),
        }
        if read != said {
            return Err(Error::Lying(format!("`{name}` has {read} bytes, and says {said}")));
        }
        summary.bytes += read;
    }
    Ok(summary)
}

/// An entry being unpacked: counts, and stops past what its header says.
pub(crate) struct Entry<'e, 'a> {
    pub(crate) file: &'e mut ZipFile<'a, BufReader<File>>,
    pub(crate) name: &'e str,
    read: u64,
    limit: u64,
    over: bool,
}

impl Read for Entry<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.file.read(buffer)?;
        self.read += n as u64;
        if self.read > self.limit {
            self.over = true;
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "too many bytes"));
        }
        Ok(n)
    }
}

pub(crate) fn broken(error: ZipError) -> Error {
    match error {
        ZipError::Io(e) => Error::Broken(e.to_string()),
        other => Error::Broken(other.to_string()),
    }
}
