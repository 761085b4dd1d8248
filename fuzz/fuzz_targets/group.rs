//! See `qmq_fuzz::group`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| qmq_fuzz::group(bytes));
