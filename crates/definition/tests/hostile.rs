//! Zips with broken bytes: an error or a clean unpack, never a panic, never a file outside.

#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::io::{Cursor, Write};

use proptest::prelude::*;
use trainyard_definition::{Error, Limits, check, pack, unpack};
use zip::{ZipWriter, write::SimpleFileOptions};

fn good() -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, text) in [
        ("train.py", "print(1)\n".repeat(50)),
        ("lib/util.py", "x = 1\n".to_owned()),
        ("data/empty", String::new()),
    ] {
        zip.start_file(name, SimpleFileOptions::default().unix_permissions(0o755)).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.add_symlink("link.py", "lib/util.py", SimpleFileOptions::default()).unwrap();
    zip.finish().unwrap().into_inner()
}

fn open(bytes: &[u8]) -> (tempfile::TempDir, Result<u64, Error>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zip");
    std::fs::write(&path, bytes).unwrap();
    let limits = Limits { unpacked_bytes: 1 << 20, ..Limits::default() };
    let result = check(&path, &limits).and_then(|checked| {
        let unpacked = unpack(&path, &dir.path().join("out"), &limits)?;
        assert_eq!(checked, unpacked, "the check saw another zip than the unpacking");
        Ok(unpacked.files)
    });
    (dir, result)
}

#[test]
fn a_good_zip_unpacks_with_its_modes_and_links() {
    let (dir, result) = open(&good());
    assert_eq!(result.unwrap(), 4);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(dir.path().join("out/train.py")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o755);
    assert_eq!(std::fs::read_to_string(dir.path().join("out/link.py")).unwrap(), "x = 1\n");
}

#[test]
fn a_refused_zip_leaves_nothing_behind() {
    let mut bytes = good();
    let at = bytes.windows(8).position(|w| w == b"train.py").unwrap();
    bytes[at + 12] ^= 0xff;
    let (dir, result) = open(&bytes);
    assert!(result.is_err());
    assert!(!dir.path().join("out").exists());
}

#[test]
fn equal_folders_make_equal_zips() {
    let dir = tempfile::tempdir().unwrap();
    let mut sums = Vec::new();
    for n in 0..2 {
        let folder = dir.path().join(format!("f{n}"));
        std::fs::create_dir_all(folder.join("sub")).unwrap();
        std::fs::write(folder.join("sub/a"), "a").unwrap();
        std::fs::write(folder.join("b"), "b").unwrap();
        sums.push(pack(&folder, &dir.path().join(format!("{n}.zip"))).unwrap().sha256);
    }
    assert_eq!(sums[0], sums[1]);
    assert!(matches!(
        pack(&tempfile::tempdir().unwrap().keep(), &dir.path().join("none.zip")),
        Err(Error::Nothing)
    ));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn broken_bytes_never_panic_and_never_leave_the_folder(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = good();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let (dir, result) = open(&bytes);
        let beside: Vec<_> = std::fs::read_dir(dir.path()).unwrap().flatten().map(|e| e.file_name()).collect();
        prop_assert!(beside.len() <= 2, "{:?}", beside);
        prop_assert_eq!(result.is_ok(), dir.path().join("out").exists());
    }
}
