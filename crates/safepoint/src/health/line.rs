//! A connection's bytes, in and out, with a note of each in its seat.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};
use rustix::net::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::seats::{Seat, Stage};

/// The most bytes that are read at a time: requests are small.
const CHUNK: usize = 4096;
/// How much of what a client still sends is read when all is said.
const LINGER_BYTES: usize = 256 * 1024;

/// A connection of either kind.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Does the same with whichever it is.
macro_rules! either {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Tcp($inner) => $call,
            Stream::Unix($inner) => $call,
        }
    };
}

impl Stream {
    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_read(context, buffer))
    }
}

/// A connection as hyper reads and writes it.
#[derive(Debug)]
pub(super) struct Line {
    stream: Stream,
    seat: Arc<Seat>,
    /// How much is still read of a client to whom all is said.
    linger_left: usize,
}

impl Line {
    pub(super) fn new(stream: Stream, seat: Arc<Seat>) -> Self {
        Self {
            stream,
            seat,
            linger_left: LINGER_BYTES,
        }
    }

    /// Notes whether what is sent is read.
    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.seat.is_read(written.is_ready());
        written
    }
}

impl Read for Line {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mut chunk = [MaybeUninit::uninit(); CHUNK];
        let length = buffer.remaining().min(CHUNK);
        // By way of the chunk, as hyper's own buffer could be read into only with unsafe code.
        let mut read = ReadBuf::uninit(&mut chunk[..length]);
        ready!(this.stream.poll_read(context, &mut read))?;
        if !read.filled().is_empty() {
            this.seat.heard();
            buffer.put_slice(read.filled());
        }
        Poll::Ready(Ok(()))
    }
}

impl Write for Line {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written =
            either!(&mut this.stream, stream => Pin::new(stream).poll_write(context, bytes));
        this.note(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = either!(&mut this.stream, stream => Pin::new(stream).poll_write_vectored(context, slices));
        this.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.seat.flushed();
        Poll::Ready(Ok(()))
    }

    /// Says that nothing more is sent, and reads on for a while: a connection that is closed with something unread is reset, and the answer may be
    /// lost with it.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.seat.stage() != Stage::Leaving {
            // Whoever is gone already need not be told.
            let _ = either!(&this.stream, stream => rustix::net::shutdown(stream, Shutdown::Write));
            this.seat.enter(Stage::Leaving);
        }
        let mut chunk = [MaybeUninit::uninit(); CHUNK];
        while this.linger_left > 0 {
            let mut read = ReadBuf::uninit(&mut chunk);
            ready!(this.stream.poll_read(context, &mut read))?;
            if read.filled().is_empty() {
                break;
            }
            this.linger_left = this.linger_left.saturating_sub(read.filled().len());
        }
        Poll::Ready(Ok(()))
    }
}

const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\ncontent-length: 53\r\nconnection: close\r\n\r\n{\"error\":\"the request did not come whole within 2 s\"}";

impl Drop for Line {
    fn drop(&mut self) {
        if self.seat.is_lost() && self.seat.stage() == Stage::Asking {
            // As much as there is room for at once; who is slow gets no more time.
            let _ = either!(&self.stream, stream => stream.try_write(TOO_SLOW));
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
