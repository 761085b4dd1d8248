//! See `qmq_fuzz::damaged_store`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| qmq_fuzz::damaged_store(bytes));
