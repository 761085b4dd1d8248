//! See `qmq_fuzz::delay_bodies`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| qmq_fuzz::delay_bodies(bytes));
