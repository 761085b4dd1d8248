//! See `qmq_fuzz::identity`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| qmq_fuzz::identity(bytes));
