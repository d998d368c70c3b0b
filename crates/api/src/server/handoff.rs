//! Requests leave the thread of the connections: a request is answered on the workers' runtime, whatever that takes,
//! and the pieces of its answer come back through a channel.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tower::{Service, ServiceExt};

use crate::error::ApiError;

type Piece = Result<Frame<Bytes>, axum::Error>;

/// Has the application answer on another runtime. A request whose client has left is dropped there.
#[derive(Clone, Debug)]
pub(super) struct Handoff {
    app: Router,
    workers: Handle,
}

impl Handoff {
    pub(super) fn new(app: Router, workers: Handle) -> Self {
        Self { app, workers }
    }
}

impl Service<Request> for Handoff {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let (head, answered) = oneshot::channel();
        self.workers.spawn(answer(self.app.clone(), request, head));
        // The application catches panics of handlers, so without an answer the workers are gone.
        Box::pin(async { Ok(answered.await.unwrap_or_else(|_| ApiError::Internal.into_response())) })
    }
}

/// Answers a request as long as its answer is waited for.
async fn answer(app: Router, request: Request, mut head: oneshot::Sender<Response>) {
    let response = tokio::select! {
        answered = app.oneshot(request) => answered.unwrap_or_else(|never| match never {}),
        () = head.closed() => return,
    };
    if response.body().size_hint().exact().is_some() {
        // Nothing of it is left to be done.
        let _ = head.send(response);
        return;
    }
    let (pieces, coming) = mpsc::channel(1);
    let (parts, mut body) = response.into_parts();
    if head.send(Response::from_parts(parts, Body::new(Coming(coming)))).is_err() {
        return;
    }
    loop {
        let piece = tokio::select! {
            piece = body.frame() => piece,
            () = pieces.closed() => return,
        };
        let Some(piece) = piece else { return };
        if pieces.send(piece).await.is_err() {
            return;
        }
    }
}

/// The pieces of an answer that is written elsewhere.
struct Coming(mpsc::Receiver<Piece>);

impl HttpBody for Coming {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Piece>> {
        self.0.poll_recv(context)
    }
}
