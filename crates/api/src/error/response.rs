//! A row of the table as a response with its headers.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::table::{BODY_TIMEOUT, DRAINING, INVALID_KEY, OVERLOADED, Retry, Row};
use super::{ApiError, ErrorBody};

/// An error's code, beside its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode(pub &'static str);

/// Gives requests that there was no room for `status`, which is the one part of the table that is a setting.
pub fn set_overload_status(response: &mut Response, status: StatusCode) {
    if response.extensions().get() == Some(&ErrorCode(OVERLOADED)) {
        *response.status_mut() = status;
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Row { status, code, retry, .. } = self.row();
        let mut response = (status, Json(ErrorBody { error: self.object() })).into_response();
        response.extensions_mut().insert(ErrorCode(code));
        let headers = response.headers_mut();
        let mut insert = |name, value| headers.insert(HeaderName::from_static(name), value);
        match retry {
            Retry::Unsaid => {}
            Retry::After(time) => {
                let time = time.clamp(Duration::from_secs(1), Duration::from_secs(60));
                let milliseconds = time.as_millis() as u64;
                insert("retry-after", HeaderValue::from(milliseconds.div_ceil(1000)));
                insert("retry-after-ms", HeaderValue::from(milliseconds));
            }
            Retry::Never => {
                insert("x-should-retry", HeaderValue::from_static("false"));
            }
        }
        if [DRAINING, BODY_TIMEOUT].contains(&code) || matches!(self, Self::Crowded { .. }) {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if code == INVALID_KEY {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use unmask_scheduler::{GenerationError, SubmitError};

    use super::*;

    #[test]
    fn a_client_is_told_to_come_back_within_a_minute() {
        let told = |milliseconds| {
            let retry_after = Duration::from_millis(milliseconds);
            let error = ApiError::from(SubmitError::QueueFull { waiting: 1, limit: 1, retry_after });
            let response = error.into_response();
            assert_eq!(response.status(), 503);
            ["retry-after", "retry-after-ms"]
                .map(|name| response.headers()[name].to_str().unwrap().to_owned())
        };
        assert_eq!(told(0), ["1", "1000"]);
        assert_eq!(told(2001), ["3", "2001"]);
        assert_eq!(told(u64::MAX), ["60", "60000"]);
    }

    #[test]
    fn only_a_lack_of_room_has_the_status_of_the_flag() {
        let status = |error: ApiError| {
            let mut response = error.into_response();
            set_overload_status(&mut response, StatusCode::TOO_MANY_REQUESTS);
            response.status().as_u16()
        };
        let [waited, asked, elapsed, retry_after] = [Duration::ZERO; 4];
        assert_eq!(status(GenerationError::QueueTimeout { waited, retry_after }.into()), 429);
        assert_eq!(status(SubmitError::ShuttingDown.into()), 503);
        assert_eq!(status(ApiError::Timeout { asked, elapsed }), 504);
    }
}
