//! Values that must go together, and those that follow from others.

use super::error::Problem;
use super::settings::Settings;
use super::value::Value;
use crate::doors::quic::LEAST_WINDOW_BYTES;

/// `http.port` follows `broker.port`.
pub(super) fn http_port(
    settings: &mut Settings,
    problems: &mut Vec<Problem>,
) -> Result<(), Problem> {
    let port: u64 = settings.number("broker.port")?;
    let unset = settings.get("http.port").map(|s| &s.value) == Some(&Value::None);
    if unset && port > 55_535 {
        problems.push(
            settings.conflict(
                "broker.port",
                "at most 55535 unless http.port is set, which is broker.port + 10000 otherwise"
                    .to_owned(),
            ),
        );
    }
    settings.computed("http.port", Value::Number(port + 10_000));
    Ok(())
}

/// `message.max.bytes` fits into a segment and into each budget of memory.
pub(super) fn bodies(settings: &mut Settings, problems: &mut Vec<Problem>) -> Result<(), Problem> {
    let segment: u64 = settings.number("store.segment.bytes")?;
    let quarter = segment / 4;
    settings.computed("message.max.bytes", Value::Number(quarter.min(4 << 20)));
    let body: u64 = settings.number("message.max.bytes")?;
    if body > quarter {
        problems.push(settings.conflict(
            "message.max.bytes",
            format!("at most {quarter}, a quarter of store.segment.bytes"),
        ));
    }
    for budget in ["memory.produce.bytes", "memory.deliver.bytes"] {
        if settings.number::<u64>(budget)? < body {
            let allowed =
                format!("at least {body}, message.max.bytes, or no such message gets through");
            problems.push(settings.conflict(budget, allowed));
        }
    }
    Ok(())
}

/// `memory.windows.bytes` has room for `connection.max`.
pub(super) fn windows(settings: &Settings, problems: &mut Vec<Problem>) -> Result<(), Problem> {
    let connections: u64 = settings.number("connection.max")?;
    let least = 2 * LEAST_WINDOW_BYTES * connections;
    if settings.number::<u64>("memory.windows.bytes")? < least {
        let allowed = format!(
            "at least {least}, {} KiB each way for each of connection.max; lower connection.max or raise this",
            LEAST_WINDOW_BYTES >> 10
        );
        problems.push(settings.conflict("memory.windows.bytes", allowed));
    }
    Ok(())
}

/// Names of servers and groups follow the rules of names.
pub(super) fn names(
    settings: &Settings,
    keys: &[&'static str],
    problems: &mut Vec<Problem>,
) -> Result<(), Problem> {
    for name in keys {
        let text = settings.text(name)?;
        if !text.is_empty() && qmq_message::check_group(&text).is_err() {
            let allowed = "a name of at most 100 bytes without slashes and white space";
            problems.push(settings.conflict(name, allowed.to_owned()));
        }
    }
    Ok(())
}

/// The least of two lengths of time is not above the greatest.
pub(super) fn least_and_greatest(
    settings: &Settings,
    least: &'static str,
    greatest: &'static str,
    problems: &mut Vec<Problem>,
) -> Result<(), Problem> {
    let limit = settings.duration(greatest)?;
    if settings.duration(least)? > limit {
        let allowed = format!("at most {} ms, {greatest}", limit.as_millis());
        problems.push(settings.conflict(least, allowed));
    }
    Ok(())
}
