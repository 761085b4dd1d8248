//! See `qmq_fuzz::delay_checkpoint`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| qmq_fuzz::delay_checkpoint(bytes));
