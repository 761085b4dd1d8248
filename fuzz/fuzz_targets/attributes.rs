//! See `qmq_fuzz::attributes`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| qmq_fuzz::attributes(bytes));
