//! See `qmq_fuzz::segment_header`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| qmq_fuzz::segment_header(bytes));
