//! What a program says of itself over HTTP: alive, ready, how far it is; and how it is asked to stop.
//!
//! | | |
//! |---|---|
//! | `GET /health` | 200 `{"status":"alive"}` as long as the process lives, also during a stop |
//! | `GET /ready` | 200 `{"status":"ready","accepting_traffic":true}`; 503 `{"status":"not_ready"}` until [`Health::set_ready`] and while a check fails; 503 `{"status":"shutting_down","accepting_traffic":false}` from the stop request on |
//! | `POST /shutdown` | `{"status":"shutdown_initiated"}`; the body may be `{"mode":"immediate","message":"why"}` |
//! | `GET /status` | what the [`Subject`] says, as JSON |
//! | `GET /metrics` | the same in numbers, in the [format](Exposition) of Prometheus |
//! | `GET /events` | the status as server-sent events, at most once a second, when it changed |
//! | `GET /` | a page that shows it |
//!
//! A program without a runtime calls [`Health::serve`], which has a thread of its own. One that serves HTTP already passes requests to
//! [`Health::answer`], for example as the fallback service of axum.
//!
//! # Example
//!
//! ```
//! use safepoint::Shutdown;
//! use safepoint::health::{Address, Health};
//!
//! # fn main() -> safepoint::Result<()> {
//! let shutdown = Shutdown::builder().build()?;
//! let health = Health::builder(&shutdown.token())
//!     .check("queue", || Ok::<_, std::io::Error>(())) // not ready while this fails, panics or hangs
//!     .build();
//! let server = health.serve(&Address::parse("127.0.0.1:0")?)?;
//! println!("listening on {}", server.address());
//! health.set_ready(true); // when the program has started up
//! // work until the stop; `/health` answers until the server is dropped
//! # Ok(())
//! # }
//! ```
//!
//! # Invariants
//!
//! 1. Nothing of the program runs on the thread that answers: checks and the [`Subject`] have threads of their own, one at a time each, and what
//!    they said is kept for a second. So neither a hung check nor a flood of questions delays `/health`, or costs the program more than one look a second.
//! 2. Everything that a client can make us hold is bounded: connections, bytes of a head and of a body, the time of each, streams of events.
//! 3. A stop is carried out only for somebody on this machine or with the [`Secret`], and never for a web page of another origin.
//!
//! Deliberately absent: TLS, HTTP/2, and any decision of when to stop. A server that is reached from afar belongs behind a proxy.

mod access;
mod address;
mod answer;
mod body;
mod builder;
mod check;
mod connection;
mod events;
mod exposition;
mod kept;
mod line;
mod listener;
mod own;
mod page;
mod refusal;
mod seats;
mod secret;
mod server;
mod stops;
mod subject;
mod wish;

pub use access::Peer;
pub use address::Address;
pub use answer::Health;
pub use body::Body;
pub use builder::{Builder, CHECK_LIMIT};
pub use events::MAX_STREAMS;
pub use exposition::{Exposition, Family};
pub use secret::Secret;
pub use server::{MAX_CONNECTIONS, Server};
pub use stops::requests as stop_requests;
pub use subject::Subject;
