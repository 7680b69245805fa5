//! Whatever a program writes as metrics, in any two pieces, is read or passed over.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trainyard_metrics::{Emetrics, TensorBoard};

fuzz_target!(|input: (usize, &[u8])| {
    let (at, bytes) = input;
    let at = at % (bytes.len() + 1);
    let now = trainyard_api::Time(0);
    let mut lines = Emetrics::default();
    let used = lines.read(&bytes[..at], now).used;
    let _ = lines.read_last(&bytes[used..], now);
    let mut records = TensorBoard::default();
    let first = records.read(&bytes[..at], "group", now);
    let _ = records.read(&bytes[first.used..], "group", now);
});
