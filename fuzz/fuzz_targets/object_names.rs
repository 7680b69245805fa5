//! Object names that pass the check stay below their folder.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|names: Vec<String>| {
    if trainyard_transfer::check_names(names.iter().map(String::as_str)).is_ok() {
        for name in &names {
            assert!(!name.starts_with('/') && !name.split('/').any(|p| p == ".."));
        }
    }
});
