//! What any check costs at least.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Check, Tool};

/// A bare flag behind an `Arc`, as one writes it without any crate.
#[derive(Clone, Debug)]
pub struct RelaxedLoad(Arc<AtomicBool>);

impl Tool for RelaxedLoad {
    const NAME: &str = "a bare relaxed load";

    fn new() -> Self {
        Self(Arc::default())
    }
}

impl Check for RelaxedLoad {
    #[inline(always)]
    fn is_stopping(&self) -> bool {
        // Relaxed: the flag guards no other memory.
        self.0.load(Ordering::Relaxed)
    }
}
