//! What a request to `/management` has: parameters from its line and its body.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};

use super::form::Form;

/// Most bytes of a body.
const BODY_BYTES_MAX: usize = 64 << 10;
/// A body must have come by then.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Why it is not taken.
pub(super) type Refusal = (StatusCode, String);

/// The parameters. Those of the line come first, as with servlets; a body that is no form has none.
pub(super) async fn parameters(request: Request<Body>) -> Result<Form, Refusal> {
    let mut form = Form::default();
    let bad = |error: super::FormError| (StatusCode::BAD_REQUEST, format!("{error}\n"));
    let query = request.uri().query().unwrap_or_default();
    form.add(query.as_bytes()).map_err(bad)?;
    if !is_form(&request)? {
        return Ok(form);
    }
    let too_large = || {
        let text = format!("a body has at most {BODY_BYTES_MAX} bytes\n");
        (StatusCode::PAYLOAD_TOO_LARGE, text)
    };
    let body = tokio::time::timeout(BODY_TIMEOUT, to_bytes(request.into_body(), BODY_BYTES_MAX));
    let bytes = body
        .await
        .map_err(|_| {
            let text = format!(
                "the body has not come within {} s\n",
                BODY_TIMEOUT.as_secs()
            );
            (StatusCode::REQUEST_TIMEOUT, text)
        })?
        .map_err(|_| too_large())?;
    form.add(&bytes).map_err(bad)?;
    Ok(form)
}

/// Whether the body is a form; one in another encoding than UTF-8 is refused, since its names would become others.
fn is_form(request: &Request<Body>) -> Result<bool, Refusal> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let mut parts = kind.split(';').map(str::trim);
    let form = parts.next().unwrap_or_default();
    if !form.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Ok(false);
    }
    let charset = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.eq_ignore_ascii_case("charset")
            .then_some(value.trim_matches('"'))
    });
    match charset {
        Some(charset) if !charset.eq_ignore_ascii_case("utf-8") => Err((
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "forms are taken in UTF-8 only\n".to_owned(),
        )),
        _ => Ok(true),
    }
}
