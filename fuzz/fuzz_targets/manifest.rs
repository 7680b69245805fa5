//! No text makes the manifest parser or its report panic or run away.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(report) = trainyard_manifest::parse("fuzz.yml", text, &[]) {
        assert!(!report.problems.is_empty());
        let _ = report.render(false, 80);
        let _ = report.to_string();
    }
});
