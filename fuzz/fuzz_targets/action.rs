//! See `qmq_fuzz::action`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| qmq_fuzz::action(bytes));
