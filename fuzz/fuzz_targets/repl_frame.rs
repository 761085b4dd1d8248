//! See `qmq_fuzz::repl_frame`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| qmq_fuzz::repl_frame(bytes));
