//! See `qmq_fuzz::repl_node`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| qmq_fuzz::repl_node(bytes));
