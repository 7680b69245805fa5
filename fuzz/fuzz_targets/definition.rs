//! No bytes make the zip checks panic, and what passes them unpacks inside its folder.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trainyard_definition::{Limits, check, unpack};

fuzz_target!(|bytes: &[u8]| {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let zip = dir.path().join("zip");
    std::fs::write(&zip, bytes).expect("a temporary file");
    let limits = Limits { unpacked_bytes: 1 << 20, ..Limits::default() };
    if check(&zip, &limits).is_ok() {
        unpack(&zip, &dir.path().join("out"), &limits).expect("what passed the check can be unpacked");
    }
    assert!(std::fs::read_dir(dir.path()).expect("the folder").count() <= 2, "something was written beside");
});
