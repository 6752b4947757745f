//! The faults, tried on programs whose behaviour is known: the `sqlite3` shell, `sh` and Python.

mod counting;
mod power_cut;
