//! The message of qmq, and the rules of its names.
//!
//! A [`Message`] has a subject, a body of bytes, and a few attributes: an id, tags, properties of the
//! application's own, a creation time, a due time and an order key. As bytes they are [`Attributes`]. Consumers of a group choose among the messages of a subject with a [`TagFilter`]. A delivery that
//! fails goes to a subject of its own, named by [`retry_subject`], and to [`dead_letter_subject`] when it has failed
//! too often.
//!
//! Building a message checks nothing, so that it can be passed around freely. What takes messages in calls
//! [`check_subject`] and [`Message::check`] once, at its door.
//!
//! ```
//! use qmq_message::{Message, SubjectName, TagFilter, check_subject, parse, retry_subject};
//!
//! let message = Message::new("order.changed", r#"{"order": 4711}"#)
//!     .with_id("4711-1")
//!     .tag("paid")
//!     .tag("eu");
//! check_subject(message.subject())?;
//! message.check()?;
//!
//! let both = TagFilter::Every(vec!["paid".into(), "eu".into()]);
//! assert!(both.matches(message.tags().iter().map(String::as_str)));
//!
//! let retries = retry_subject(message.subject(), "billing");
//! assert_eq!(retries, "%RETRY%order.changed%billing");
//! assert_eq!(parse(&retries), SubjectName::Retry { subject: "order.changed", group: "billing" });
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod attributes;
mod message;
pub mod subject;
mod tags;

pub use attributes::{ATTRIBUTES_BYTES_MAX, Attributes};
pub use message::{
    ID_BYTES_MAX, Message, MessageError, ORDER_KEY_BYTES_MAX, PROPERTIES_MAX,
    PROPERTY_KEY_BYTES_MAX, PROPERTY_VALUE_BYTES_MAX, TAG_BYTES_MAX, TAGS_MAX,
};
pub use subject::{
    CONSUMER_BYTES_MAX, GROUP_BYTES_MAX, NameError, NameKind, SUBJECT_BYTES_MAX, SubjectName,
    check_consumer, check_group, check_subject, dead_letter_subject, parse, retry_subject,
    subject_from_bytes,
};
pub use tags::TagFilter;
