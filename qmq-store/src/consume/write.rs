//! An action on its way into the log and into memory: the only way in which a consumer's doings change anything.

use super::{Action, Consumption};
use crate::error::Error;
use crate::index::active::Subject;
use crate::log::part::{Body, Part};
use crate::log::record::Kind;
use crate::log::writer::{How, Purpose};
use crate::store::Inner;

impl Inner {
    /// Writes an action and makes its change.
    pub(crate) fn act(
        &self,
        subject: &Subject,
        consumption: &mut Consumption,
        action: &Action<'_>,
    ) -> Result<u64, Error> {
        let mut body = Vec::with_capacity(128);
        action.encode(&mut body);
        let part = action_part(&subject.name, &body);
        let mut appender = self.log.lock(part.record_len(), Purpose::Action)?;
        appender.put(&part, How::Store)?;
        let end = appender.publish()?;
        consumption.apply(action, end, &self.names);
        Ok(end)
    }
}

/// The record of an action.
pub(crate) fn action_part<'a>(subject: &'a str, body: &'a [u8]) -> Part<'a> {
    Part::new(Kind::Action, subject, Body::one(body))
}
