//! See `qmq_fuzz::scan`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| qmq_fuzz::scan(bytes));
