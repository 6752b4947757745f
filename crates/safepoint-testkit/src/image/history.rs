//! What happened to each file and to each name, and up to where a sync made it durable.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::{Image, Policy, build};
use crate::trace::{Event, Inode, Trace};

/// One file or directory for the whole of its life. Inode numbers are not, they come back.
pub(super) type Object = usize;

#[derive(Debug)]
pub(super) enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    Truncate { size: u64 },
}

#[derive(Debug)]
pub(super) enum NameChange {
    Add {
        path: PathBuf,
        object: Object,
    },
    Move {
        from: PathBuf,
        to: PathBuf,
        object: Object,
    },
    Remove {
        path: PathBuf,
    },
}

#[derive(Debug, Default)]
pub(super) struct Life {
    pub(super) directory: bool,
    /// With the event's number.
    pub(super) changes: Vec<(usize, Change)>,
    /// Begin and end of each sync, in the order of their ends.
    pub(super) syncs: Vec<(usize, usize)>,
}

impl Life {
    /// Changes before this event are durable at the cut.
    pub(super) fn durable(&self, cut: usize) -> usize {
        self.syncs
            .iter()
            .filter(|(_, end)| *end < cut)
            .map(|(begin, _)| *begin)
            .max()
            .unwrap_or(0)
    }
}

/// A recording, arranged by file and by name, from which images are made.
#[derive(Debug)]
pub struct History {
    pub(super) lives: Vec<Life>,
    /// With the event's number and the directory whose sync makes it durable.
    pub(super) names: Vec<(usize, Object, NameChange)>,
    events: usize,
}

/// The directory that was watched.
pub(super) const ROOT: Object = 0;

/// What is where while the events are read.
struct Reading {
    history: History,
    inodes: HashMap<Inode, Object>,
    live: BTreeMap<PathBuf, Object>,
    begun: HashMap<u64, (Object, usize)>,
}

impl History {
    /// Arranges a recording.
    pub fn new(trace: &Trace) -> Self {
        let root = Life {
            directory: true,
            ..Life::default()
        };
        let history = Self {
            lives: vec![root],
            names: Vec::new(),
            events: trace.events.len(),
        };
        let mut reading = Reading {
            history,
            inodes: HashMap::new(),
            live: BTreeMap::from([(PathBuf::new(), ROOT)]),
            begun: HashMap::new(),
        };
        for (number, event) in trace.events.iter().enumerate() {
            reading.event(number, event);
        }
        reading.history
    }

    /// The number of events: the last cut.
    pub fn events(&self) -> usize {
        self.events
    }

    /// What is left when all stops after the first `cut` events.
    pub fn image(&self, cut: usize, policy: Policy) -> Image {
        build::image(self, cut, policy)
    }
}

impl Reading {
    fn event(&mut self, number: usize, event: &Event) {
        match event {
            Event::Create { path, file } => self.create(number, path.as_deref(), *file),
            Event::Write {
                file,
                offset,
                bytes,
            } => {
                self.change(
                    number,
                    *file,
                    Change::Write {
                        offset: *offset,
                        bytes: bytes.clone(),
                    },
                );
            }
            Event::Truncate { file, size } => {
                self.change(number, *file, Change::Truncate { size: *size });
            }
            Event::SyncBegin { file, path, token } => {
                let named = self
                    .live
                    .get(path)
                    .filter(|object| self.history.lives[**object].directory);
                if let Some(object) = named.or_else(|| self.inodes.get(file)) {
                    self.begun.insert(*token, (*object, number));
                }
            }
            Event::SyncEnd { token } => {
                if let Some((object, begin)) = self.begun.remove(token) {
                    self.history.lives[object].syncs.push((begin, number));
                }
            }
            Event::Rename { from, to } => self.rename(number, from, to),
            Event::Link { file, to } => {
                if let Some(object) = self.inodes.get(file).copied() {
                    self.add(number, to, object);
                }
            }
            Event::Unlink { path } | Event::RemoveDirectory { path } => {
                if self.live.remove(path).is_some() {
                    self.note(number, path, NameChange::Remove { path: path.clone() });
                }
            }
            Event::MakeDirectory { path, file } => {
                if !path.as_os_str().is_empty() {
                    let object = self.begin_life(*file, true);
                    self.add(number, path, object);
                }
            }
            Event::Acknowledge { .. } => {}
        }
    }

    /// Opening what is there already changes no name.
    fn create(&mut self, number: usize, path: Option<&Path>, file: Inode) {
        let known = path.and_then(|path| self.live.get(path));
        if known.is_some() && known == self.inodes.get(&file) {
            return;
        }
        let object = self.begin_life(file, false);
        if let Some(path) = path {
            self.add(number, path, object);
        }
    }

    fn begin_life(&mut self, file: Inode, directory: bool) -> Object {
        let object = self.history.lives.len();
        self.history.lives.push(Life {
            directory,
            ..Life::default()
        });
        self.inodes.insert(file, object);
        object
    }

    fn change(&mut self, number: usize, file: Inode, change: Change) {
        if let Some(object) = self.inodes.get(&file) {
            self.history.lives[*object].changes.push((number, change));
        }
    }

    fn add(&mut self, number: usize, path: &Path, object: Object) {
        self.live.insert(path.to_owned(), object);
        self.note(
            number,
            path,
            NameChange::Add {
                path: path.to_owned(),
                object,
            },
        );
    }

    fn rename(&mut self, number: usize, from: &Path, to: &Path) {
        let Some(object) = self.live.get(from).copied() else {
            return;
        };
        build::move_name(&mut self.live, from, to);
        self.note(
            number,
            to,
            NameChange::Move {
                from: from.to_owned(),
                to: to.to_owned(),
                object,
            },
        );
    }

    fn note(&mut self, number: usize, path: &Path, change: NameChange) {
        let parent = path
            .parent()
            .and_then(|parent| self.live.get(parent))
            .copied()
            .unwrap_or(ROOT);
        self.history.names.push((number, parent, change));
    }
}
