//! Tokio's own runtime and tokio-util's own token.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use safepoint::on_tokio::{cancellation_token, follow, spawn, spawn_blocking};
use safepoint::shutdown::{Phase, ShutdownToken, StopRequest};
use safepoint::{Result, Shutdown};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use crate::support::{graceful, immediate, patient};

fn runtime() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).build().expect("a runtime")
}

fn tokens() -> (Shutdown, ShutdownToken) {
    let shutdown = patient();
    let token = shutdown.token();
    (shutdown, token)
}

#[test]
fn theirs_is_cancelled_before_the_request_returns() {
    let (_shutdown, token) = tokens();
    let below = token.child("below");
    let draining = cancellation_token(&below, Phase::Draining);
    let terminating = cancellation_token(&below, Phase::Terminating);
    let derived = draining.child_token();
    assert!(!draining.is_cancelled());
    token.request(graceful());
    assert!(draining.is_cancelled() && derived.is_cancelled());
    assert!(!terminating.is_cancelled());
    assert!(cancellation_token(&below, Phase::Draining).is_cancelled());
    token.request(immediate());
    assert!(terminating.is_cancelled());
}

#[test]
fn ours_is_asked_before_their_cancel_returns() {
    let (_shutdown, token) = tokens();
    let theirs = CancellationToken::new();
    let asked = StopRequest::graceful(safepoint::shutdown::Source::Programmatic, "theirs");
    let following = follow(&token, &theirs.child_token(), asked.clone());
    assert!(!token.is_stopping());
    theirs.cancel();
    assert_eq!(token.reason(), Some(asked));
    theirs.cancel();
    assert_eq!(token.requests().len(), 1);
    drop(following);
}

#[test]
fn following_begins_with_what_is_and_ends_with_its_handle() {
    let (_shutdown, token) = tokens();
    let theirs = CancellationToken::new();
    drop(follow(&token, &theirs, graceful()));
    theirs.cancel();
    assert!(!token.is_stopping());
    let _following = follow(&token, &theirs, graceful());
    assert!(token.is_stopping());
}

#[test]
fn two_tokens_that_follow_each_other_stop_once() {
    let (_shutdown, token) = tokens();
    let parent = CancellationToken::new();
    let theirs = parent.child_token();
    let ours = cancellation_token(&token, Phase::Draining);
    let _there = follow(&token, &theirs, graceful());
    let back = parent.clone();
    token.observe(move |_| {
        // What an observer of a stop may do with the tokens that led to it.
        back.cancel();
        assert!(back.child_token().is_cancelled());
    });
    theirs.cancel();
    assert!(ours.is_cancelled() && parent.is_cancelled());
    assert_eq!(token.requests().len(), 1);
}

/// Counts its end.
struct Noted(Arc<AtomicUsize>);

impl Drop for Noted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn spawned_work_is_waited_for_dropped_or_never_begun() -> Result<()> {
    let (shutdown, token) = tokens();
    let tracker = token.tracker("worker");
    let dropped = Arc::new(AtomicUsize::new(0));
    runtime().block_on(async {
        let stopping = token.stopping();
        let polite = spawn(&tracker, async {
            stopping.await;
            "came to an end"
        });
        let noted = Noted(Arc::clone(&dropped));
        let has_begun = CancellationToken::new();
        let begun = has_begun.clone();
        let stubborn = spawn(&tracker, async move {
            let _noted = noted;
            begun.cancel();
            pending::<()>().await;
        });
        has_begun.cancelled().await;
        let work = token.status().open;
        assert!(work.iter().any(|open| open.name == "worker"));
        token.request(graceful());
        assert_eq!(polite.await.expect("no panic"), Some("came to an end"));
        assert_eq!(spawn(&tracker, async {}).await.expect("no panic"), None);
        token.request(immediate());
        assert_eq!(stubborn.await.expect("no panic"), None);
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
        let report = shutdown.finish_async().await;
        assert!(report.given_up.is_empty(), "{report}");
        Ok(())
    })
}

#[test]
fn blocking_work_is_waited_for_or_never_begun() {
    let (shutdown, token) = tokens();
    let tracker = token.tracker("blocking");
    runtime().block_on(async {
        let (begun, has_begun) = channel();
        let seen = token.clone();
        let first = spawn_blocking(&tracker, move || {
            begun.send(()).expect("the test waits");
            seen.wait();
            7
        });
        has_begun.recv().expect("it begins");
        token.request(graceful());
        let second = spawn_blocking(&tracker, || 8);
        assert_eq!(first.await.expect("no panic"), Some(7));
        assert_eq!(second.await.expect("no panic"), None);
        assert!(shutdown.finish_async().await.given_up.is_empty());
    });
}

/// What axum's `with_graceful_shutdown` and its like ask of a future.
#[test]
fn stopping_is_a_future_for_servers() {
    fn for_a_server<F: Future<Output = ()> + Send + 'static>(_: F) {}
    let (_shutdown, token) = tokens();
    for_a_server(token.stopping());
}
