//! One client: connects, asks, reads in its own way, and writes down what happened.
//!
//! Every request has a connection of its own, like the users it stands for. This also lets a client vanish
//! by nothing but closing its socket.

use std::str::FromStr;
use std::time::Duration;

use futures_util::StreamExt;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use sse_stream::SseStream;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::answer::{Answer, StreamReading, Told, error_code};
use crate::ending::{Ending, Failure, Record, Refusal, milliseconds};
use crate::trace::{Planned, Reader};

/// Bytes that the system may hold back for a slow reader. As little as it takes: the server should notice.
const SLOW_WINDOW: u32 = 4096;
/// The least that the HTTP client can work with.
const SLOW_BUFFER: usize = 8192;

/// Why an address was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not of the form http://host:port")]
pub struct AddressError(String);

/// `http://host:port`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(String);

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(url: &str) -> Result<Self, AddressError> {
        let error = || AddressError(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| error())?;
        let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http")).ok_or_else(error)?;
        if uri.path() != "/" {
            return Err(error());
        }
        let port = authority.port_u16().unwrap_or(80);
        Ok(Self(format!("{}:{port}", authority.host())))
    }
}

/// The server under load, as clients know it.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its address.
    pub address: Address,
    /// The longest time that a client waits for the end of an answer.
    pub patience: Duration,
    /// The deadline that requests ask the server to keep, if any (`x-request-timeout-ms`).
    pub deadline: Option<Duration>,
    /// The API key that requests carry, if any.
    pub key: Option<String>,
}

/// An answer that has begun. Dropping it closes the connection.
struct Exchange {
    response: Response<Incoming>,
    /// Keeps the connection open; drives it.
    _connection: (SendRequest<Full<Bytes>>, JoinSet<()>),
}

/// The parts of an answer that a client has seen before the end.
#[derive(Debug, Default)]
struct Seen {
    states: u32,
    first_state: Option<Instant>,
}

impl Server {
    /// Sends a request that is due at `due`, reads the answer and writes down what happened.
    pub async fn perform(&self, planned: &Planned, due: Instant) -> Record {
        let sent = Instant::now();
        let mut seen = Seen::default();
        let vanishing = match planned.reader {
            Reader::VanishAfter(time) if time < self.patience => Some(time),
            _ => None,
        };
        let end = due + vanishing.unwrap_or(self.patience);
        let ending = match timeout_at(end, self.converse(planned, &mut seen)).await {
            Ok(Ok(answer)) => Ending::Finished(answer),
            Ok(Err(ending)) => ending,
            Err(_) if vanishing.is_some() => Ending::Vanished,
            Err(_) => Ending::Failed(Failure::Timeout),
        };
        let since_due = |time: Instant| milliseconds(time.saturating_duration_since(due));
        Record {
            number: planned.number,
            due_s: planned.at.as_secs_f64(),
            route: planned.call.route,
            canvas: planned.call.canvas,
            streamed: planned.streamed,
            reader: planned.reader,
            late_ms: since_due(sent),
            first_state_ms: seen.first_state.map(since_due),
            total_ms: since_due(Instant::now()),
            ending,
        }
    }

    async fn converse(&self, planned: &Planned, seen: &mut Seen) -> Result<Answer, Ending> {
        let slow = matches!(planned.reader, Reader::Slow(_));
        let body = planned.call.body(planned.streamed);
        let exchange = self
            .exchange(Method::POST, planned.call.route.path(), Some(&body), slow)
            .await
            .map_err(Ending::Failed)?;
        if exchange.response.status() != StatusCode::OK {
            return Err(self.turned_down(exchange).await);
        }
        if planned.streamed {
            self.read_stream(exchange, planned.reader, seen).await
        } else {
            let body = read_json(exchange).await.map_err(Ending::Failed)?;
            Answer::from_json(&body).map_err(Ending::Failed)
        }
    }

    async fn read_stream(
        &self,
        exchange: Exchange,
        reader: Reader,
        seen: &mut Seen,
    ) -> Result<Answer, Ending> {
        let Exchange { response, _connection } = exchange;
        let mut events = SseStream::new(response.into_body());
        let mut reading = StreamReading::default();
        while let Some(event) = events.next().await {
            let event = event.map_err(|error| Ending::Failed(Failure::Broken(error.to_string())))?;
            let Some(data) = event.data else { continue };
            match reading.take(&data) {
                Ok(Told::Done(answer)) => return Ok(answer),
                Ok(Told::State) => {
                    seen.states += 1;
                    seen.first_state.get_or_insert_with(Instant::now);
                }
                Ok(Told::Other) => {}
                Err(Failure::Stream { code }) if self.asked_for(&code) => return Err(Ending::Expired),
                Err(failure) => return Err(Ending::Failed(failure)),
            }
            match reader {
                Reader::VanishAfterStates(states) if seen.states >= states => return Err(Ending::Vanished),
                Reader::Slow(pause) => sleep(pause).await,
                _ => {}
            }
        }
        Err(Ending::Failed(Failure::Cut))
    }

    /// The ending for an answer with another status than 200.
    async fn turned_down(&self, exchange: Exchange) -> Ending {
        let status = exchange.response.status().as_u16();
        let retry_after = exchange.response.headers().get(header::RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
        let code = match read_json(exchange).await {
            Ok(body) => error_code(&body["error"]),
            Err(failure) => return Ending::Failed(failure),
        };
        match status {
            503 | 429 => Ending::Refused(Refusal { status, code, retry_after }),
            504 if self.asked_for(&code) => Ending::Expired,
            _ => Ending::Failed(Failure::Status { status, code }),
        }
    }

    fn asked_for(&self, code: &str) -> bool {
        self.deadline.is_some() && code == "request_timeout"
    }

    /// The body of `GET path`, whatever its status.
    ///
    /// # Errors
    /// If the server does not answer in time, or not with text.
    pub async fn get(&self, path: &str) -> Result<(u16, String), Failure> {
        let asking = async {
            let exchange = self.exchange(Method::GET, path, None, false).await?;
            let status = exchange.response.status().as_u16();
            let text = String::from_utf8(read(exchange).await?.to_vec());
            Ok((status, text.map_err(|error| Failure::Malformed(error.to_string()))?))
        };
        timeout_at(Instant::now() + self.patience, asking).await.map_err(|_| Failure::Timeout)?
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        slow: bool,
    ) -> Result<Exchange, Failure> {
        let stream = self.connect(slow).await.map_err(|error| Failure::Connect(error.to_string()))?;
        let broken = |error: hyper::Error| Failure::Broken(error.to_string());
        let mut builder = http1::Builder::new();
        if slow {
            builder.max_buf_size(SLOW_BUFFER);
        }
        let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // A set, because it ends its tasks when it is dropped.
        let mut driver = JoinSet::new();
        driver.spawn(async { drop(connection.await) });
        let request = self.request(method, path, body)?;
        let response = sender.send_request(request).await.map_err(broken)?;
        Ok(Exchange { response, _connection: (sender, driver) })
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.address.0)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| Failure::Malformed(error.to_string()))?;
        if let Some(deadline) = self.deadline {
            let milliseconds = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
            request.headers_mut().insert("x-request-timeout-ms", HeaderValue::from(milliseconds));
        }
        if let Some(key) = &self.key {
            let value = HeaderValue::from_str(&format!("Bearer {key}"));
            let value = value.map_err(|error| Failure::Malformed(error.to_string()))?;
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        Ok(request)
    }

    async fn connect(&self, slow: bool) -> std::io::Result<TcpStream> {
        let mut last = std::io::Error::other("the host has no address");
        for address in lookup_host(&self.address.0).await? {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            if slow {
                socket.set_recv_buffer_size(SLOW_WINDOW)?;
            }
            match socket.connect(address).await {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

async fn read(exchange: Exchange) -> Result<Bytes, Failure> {
    let Exchange { response, _connection } = exchange;
    let body = response.into_body().collect().await;
    Ok(body.map_err(|error| Failure::Broken(error.to_string()))?.to_bytes())
}

async fn read_json(exchange: Exchange) -> Result<Value, Failure> {
    serde_json::from_slice(&read(exchange).await?).map_err(|error| Failure::Malformed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_plain_http() {
        let address = |text: &str| text.parse::<Address>().map(|Address(authority)| authority);
        assert_eq!(address("http://127.0.0.1:8080"), Ok("127.0.0.1:8080".to_owned()));
        assert_eq!(address("http://[::1]:8080/"), Ok("[::1]:8080".to_owned()));
        assert_eq!(address("http://localhost"), Ok("localhost:80".to_owned()));
        for text in ["https://example.org", "127.0.0.1:8080", "http://a/b", ""] {
            assert_eq!(address(text), Err(AddressError(text.to_owned())), "{text}");
        }
    }

    #[tokio::test]
    async fn events_may_come_in_any_pieces() {
        let whole = "data: {\"a\":\"é▒\"}\n\n:\n\nevent: fill.state\ndata: {\"b\":2}\n\ndata: [DONE]\n\n";
        for size in 1..whole.len() {
            let pieces = whole.as_bytes().chunks(size).map(Ok::<_, std::io::Error>);
            let events: Vec<_> =
                SseStream::from_bytes_stream(futures_util::stream::iter(pieces)).collect().await;
            let data: Vec<String> = events.into_iter().filter_map(|event| event.unwrap().data).collect();
            assert_eq!(data, ["{\"a\":\"é▒\"}", "{\"b\":2}", "[DONE]"], "cut into pieces of {size}");
        }
    }
}
