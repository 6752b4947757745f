//! What the room does as a whole, tried from within.

mod callers_code;
mod interleavings;
mod open;
