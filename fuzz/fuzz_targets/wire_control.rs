//! See `qmq_fuzz::wire_control`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| qmq_fuzz::wire_control(bytes));
