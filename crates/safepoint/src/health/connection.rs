//! One connection from its beginning to its end.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;

use super::access::Peer;
use super::answer::{Health, MAX_HEAD};
use super::line::{Line, Stream};
use super::seats::{Stage, Taken};

/// What hyper may gather of a head before it gives up. More than is allowed, so that what is too long by a bit is told why.
const GATHERED: usize = 2 * MAX_HEAD;
/// How long what a client still sends is read when all is said, and how much of it: a connection that is closed with something unread is reset, and
/// the answer may be lost with it.
const LINGER: Duration = Duration::from_millis(300);
const LINGER_BYTES: usize = 256 * 1024;

const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\ncontent-length: 53\r\nconnection: close\r\n\r\n{\"error\":\"the request did not come whole within 2 s\"}";

/// Answers the requests of a connection until it ends or loses its seat.
pub(super) async fn serve(health: Health, stream: Stream, peer: Peer, taken: Taken) {
    let stream = Arc::new(stream);
    let seat = Arc::clone(&taken.seat);
    let line = Line::new(Arc::clone(&stream), Arc::clone(&seat));
    let service = service_fn(|request| {
        let (health, seat) = (&health, &seat);
        seat.enter(Stage::Answering);
        async move {
            let answer = health.answer(request, peer).await;
            seat.enter(if answer.body().is_stream() {
                Stage::Streaming
            } else {
                Stage::Sending
            });
            Ok::<_, Infallible>(answer)
        }
    });
    let is_lost = {
        let connection = http1::Builder::new()
            .max_buf_size(GATHERED)
            .serve_connection(line, service);
        let mut connection = pin!(connection);
        let mut lost = pin!(seat.lost());
        poll_fn(|context| {
            if lost.as_mut().poll(context).is_ready() {
                return Poll::Ready(true);
            }
            // How it ended is the client's affair: there is nobody else to tell.
            connection.as_mut().poll(context).map(|_| false)
        })
        .await
    };
    if is_lost {
        if seat.stage() == Stage::Asking {
            // As much as there is room for at once; who is slow gets no more time.
            let _ = stream.try_write(TOO_SLOW);
        }
        return;
    }
    let _ = tokio::time::timeout(LINGER, linger(&stream)).await;
}

/// Reads what is still sent, and throws it away.
async fn linger(stream: &Stream) {
    stream.end();
    let mut buffer = [0; 4096];
    let mut left = LINGER_BYTES;
    while left > 0 {
        match stream.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => left = left.saturating_sub(count),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                if stream.readable().await.is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::TOO_SLOW;

    #[test]
    fn the_length_that_is_said_is_that_of_the_body() {
        let text = std::str::from_utf8(TOO_SLOW).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())));
    }
}
