//! What a change survives once its caller was told that it is made.

/// What a change survives once its caller was told that it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// A kill of the process and a power cut: each commit is synced.
    #[default]
    PowerCut,
    /// A kill of the process. After a power cut the latest changes may be undone, in their order: items that were acknowledged run again. Commits
    /// do not wait for the disk.
    Kill,
}
