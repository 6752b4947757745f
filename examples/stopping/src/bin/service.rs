//! A service on tokio and axum: not ready at once when a stop is asked for, still serving while load balancers notice, then no new connections, and
//! the requests that were let in are answered. Orchestrators ask it `/health`, `/ready` and `/metrics`, and may `POST /shutdown`.
//!
//! `cargo run -p safepoint-examples --bin service`, then `curl` the address it prints, and Ctrl-C. Its argument is the time that load balancers get, in
//! milliseconds.

#![expect(clippy::print_stdout, reason = "a program talks to its user")]

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::routing::get;
use safepoint::health::{Health, Peer};
use safepoint::shutdown::{Order, Shutdown, ShutdownToken};
use safepoint::{Error, ErrorKind};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

#[tokio::main]
async fn main() -> safepoint::Result<ExitCode> {
    let delay = std::env::args().nth(1).and_then(|delay| delay.parse().ok());
    let (close, closed) = oneshot::channel::<()>();
    let shutdown = Shutdown::builder()
        .grace(Duration::from_secs(25))
        .ready_delay(Duration::from_millis(delay.unwrap_or(200)))
        .hook(Order::Accept, "close the listener", move |_| {
            // The server may have ended by itself.
            let _ = close.send(());
        })
        .async_hook(Order::Close, "close the database", |share| async move {
            println!(
                "closing the database with {:.0} s left",
                share.remaining().as_secs_f64()
            );
        })
        .install()?;
    let token = shutdown.token();

    let health = Health::builder(&token).build();
    let asked = health.clone();
    // Whatever the service has no route of its own for.
    let fallback = move |ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request| async move {
        asked.answer(request, Peer::from(peer)).await
    };
    let app = Router::new()
        .route("/", get(work))
        .with_state(token.clone())
        .fallback(fallback)
        .into_make_service_with_connect_info::<SocketAddr>();
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .map_err(|error| refused(&error))?;
    let address = listener.local_addr().map_err(|error| refused(&error))?;
    health.set_ready(true);
    println!("listening on http://{address}/, ready on http://{address}/ready; Ctrl-C stops");
    let server = axum::serve(listener, app).with_graceful_shutdown(async {
        // Not the stop itself: the listener stays open for the delay.
        let _ = closed.await;
    });
    let server = token.tracker("server").future(server.into_future());
    let server = tokio::spawn(server);

    token.stopping().await;
    let report = shutdown.finish_async().await; // waits for the server, which waits for its requests
    drop(server);
    println!("{report}");
    Ok(ExitCode::from(report.exit_code()))
}

/// Stands for the work of a request: a unit, so that the report names it when the stop has to wait for it.
async fn work(State(token): State<ShutdownToken>) -> Result<&'static str, StatusCode> {
    let unit = token
        .owned_unit("GET /")
        .ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
    tokio::task::yield_now().await;
    unit.commit();
    Ok("done\n")
}

fn refused(error: &std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot listen: {error}"))
}
