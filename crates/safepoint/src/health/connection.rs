//! One connection from its beginning to its end.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use hyper::server::conn::http1;
use hyper::service::service_fn;

use super::access::Peer;
use super::answer::{Health, MAX_HEAD};
use super::line::{Line, Stream};
use super::seats::{Stage, Taken};

/// What hyper may gather of a head before it gives up. More than is allowed, so that what is too long by a bit is told why.
const GATHERED: usize = 2 * MAX_HEAD;

/// Answers the requests of a connection until it ends or loses its seat.
pub(super) async fn serve(health: Health, stream: Stream, peer: Peer, taken: Taken) {
    let seat = &taken.seat;
    let line = Line::new(stream, Arc::clone(seat));
    let service = service_fn(|request| {
        let health = &health;
        // It was there before the answer to the one before was sent.
        let is_in_line = seat.stage() != Stage::Asking;
        seat.enter(Stage::Answering);
        async move {
            if is_in_line {
                // Whoever sends many at once waits for everybody else after each of them.
                tokio::task::yield_now().await;
            }
            let answer = health.answer(request, peer).await;
            seat.enter(if answer.body().is_stream() {
                Stage::Streaming
            } else {
                Stage::Sending
            });
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .max_buf_size(GATHERED)
        .serve_connection(line, service);
    let mut connection = pin!(connection);
    let mut lost = pin!(seat.lost());
    poll_fn(|context| {
        if lost.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        // How it ended is the client's affair: there is nobody else to tell.
        connection.as_mut().poll(context).map(drop)
    })
    .await;
}
