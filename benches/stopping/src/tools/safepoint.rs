//! safepoint itself.

use std::time::Duration;

use safepoint::clock::Clock;
use safepoint::shutdown::ShutdownToken;

use super::{Check, Tool};

/// A token that no signal reaches.
#[derive(Clone, Debug)]
pub struct Safepoint(ShutdownToken);

impl Tool for Safepoint {
    const NAME: &str = "safepoint";

    fn new() -> Self {
        Self(ShutdownToken::detached(
            Clock::start(),
            Duration::from_secs(60),
        ))
    }
}

impl Check for Safepoint {
    fn is_stopping(&self) -> bool {
        self.0.is_stopping()
    }
}
