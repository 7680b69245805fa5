//! The end of a lost runner's own log, which says why it ended when it could.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

/// Lines that are quoted.
const QUOTED: usize = 5;
/// Bytes that are looked at for them.
const LOOKED_AT: u64 = 4096;

/// What stands at the end of `log`, in words for behind a sentence; nothing where there is no log.
pub(crate) fn last_words(log: &Path) -> String {
    let text = tail(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    match &lines[lines.len().saturating_sub(QUOTED)..] {
        [] => String::new(),
        tail => format!("; its log ends with: {}", tail.join(" | ")),
    }
}

fn tail(log: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(log)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(LOOKED_AT)))?;
    let mut text = Vec::new();
    file.take(LOOKED_AT).read_to_end(&mut text)?;
    Ok(text)
}
