//! What the benchmarks claim and a test can hold.

mod allocations;
