//! Where the context of a trace comes from.

use std::fmt;

/// The property of a message that carries the W3C trace context. A handler goes on with the trace of
/// `received.attributes().property(TRACEPARENT)`, by whichever library it traces with; `qmq.handle`, the span that it runs in, has no parent of its own.
pub const TRACEPARENT: &str = "traceparent";

/// Gives messages the context of the trace in which they are sent. A message that has a [`TRACEPARENT`] property keeps it.
pub trait TraceContext: Send + Sync {
    /// The value of W3C's `traceparent` header for the current span; `None`: there is none.
    fn inject(&self) -> Option<String>;
}

impl fmt::Debug for dyn TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TraceContext")
    }
}
