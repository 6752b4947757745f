//! An item on its way through a run.

use std::borrow::Cow;

use crate::queue::{OpenItem, State};

use super::input::InputItem;

/// An item that is to be attempted, or is being attempted.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) index: u64,
    pub(super) key: Option<Box<str>>,
    pub(super) content: Box<[u8]>,
    /// The state of its row, if it has one.
    pub(super) from: Option<State>,
    /// Attempts that failed so far.
    pub(super) attempts: u32,
    pub(super) crashes: u32,
    /// It shared a worker with others when that worker failed, so it runs with nothing else beside it.
    pub(super) alone: bool,
}

impl Work {
    /// The key, which is the index unless the item has another.
    pub(super) fn key(&self) -> Cow<'_, str> {
        match &self.key {
            Some(key) => Cow::Borrowed(key),
            None => Cow::Owned(self.index.to_string()),
        }
    }

    /// The number of the attempt that is next or in progress, from 1.
    pub(super) fn attempt(&self) -> u32 {
        self.attempts + self.crashes + 1
    }
}

impl From<OpenItem> for Work {
    fn from(item: OpenItem) -> Self {
        Self {
            index: item.index,
            key: item.key,
            content: item.content,
            from: Some(item.state),
            attempts: item.attempts,
            crashes: item.crashes,
            alone: false,
        }
    }
}

impl From<InputItem> for Work {
    fn from(item: InputItem) -> Self {
        Self {
            index: item.index,
            key: item.key,
            content: item.content,
            from: None,
            attempts: 0,
            crashes: 0,
            alone: false,
        }
    }
}
