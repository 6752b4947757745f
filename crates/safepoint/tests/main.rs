//! The library as a program uses it: real processes, real signals.

mod signals;
