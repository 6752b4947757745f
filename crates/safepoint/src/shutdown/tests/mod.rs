//! What the room does as a whole, tried from within.

mod interleavings;
mod open;
