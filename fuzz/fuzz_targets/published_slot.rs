//! See `qmq_fuzz::published_slot`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| qmq_fuzz::published_slot(bytes));
