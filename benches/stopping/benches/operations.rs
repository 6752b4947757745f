//! The operations that are shorter than reading a clock, by divan: quartiles and throughput of each tool.
//!
//! `cargo bench -p safepoint-benches --bench operations`, with `-- --test` to see that it works. The table of the book is made by the
//! benchmark `stopping`, which lets the tools take turns.

use divan::Bencher;
use divan::counter::ItemsCount;
use safepoint_benches::rates;
use safepoint_benches::tools::{
    AsyncShutdown, Check, Children, RelaxedLoad, Safepoint, SafepointOwned, Swansong,
    SwansongReporting, TokioGraceful, TokioUtil, Tool, Units,
};

/// Operations in one of divan's iterations. Each takes some time, so that two threads that start a little apart still meet.
const CHECKS: u64 = 1_000_000;
const UNITS: u64 = 50_000;
const CHILDREN: u64 = 10_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    // tokio-graceful starts a task when it is made.
    let _entered = runtime.as_ref().map(tokio::runtime::Runtime::enter);
    divan::main();
}

#[divan::bench(types = [Safepoint, TokioUtil, Swansong, AsyncShutdown, RelaxedLoad], threads = [1, 2])]
fn check<T: Check>(bencher: Bencher) {
    block::<T>(bencher, CHECKS, rates::check);
}

#[divan::bench(types = [Safepoint, SafepointOwned, TokioUtil, Swansong, SwansongReporting, AsyncShutdown, TokioGraceful], threads = [1, 2])]
fn unit<T: Units>(bencher: Bencher) {
    block::<T>(bencher, UNITS, rates::unit);
}

#[divan::bench(types = [Safepoint, SafepointOwned, TokioUtil, Swansong, SwansongReporting, AsyncShutdown, TokioGraceful], threads = [1, 2])]
fn lent_unit<T: Units>(bencher: Bencher) {
    block::<T>(bencher, UNITS, rates::lent_unit);
}

#[divan::bench(types = [Safepoint, TokioUtil, Swansong], threads = [1, 2])]
fn child<T: Children>(bencher: Bencher) {
    block::<T>(bencher, CHILDREN, rates::child);
}

fn block<T: Tool>(bencher: Bencher, times: u64, run: fn(&T, u64)) {
    let tool = T::new();
    bencher
        .counter(ItemsCount::new(times))
        .bench(|| run(&tool, times));
}
