//! Which item a path leads to.

use syn::{Item, UseTree};

use super::modules::{House, declared};

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Module(usize),
    /// The module that declares it, and its name there.
    Item(usize, String),
}

/// One name that a `use` brings in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Import {
    pub(super) path: Vec<String>,
    pub(super) alias: String,
    pub(super) is_glob: bool,
}

/// Each name of a tree of imports.
pub(super) fn imports(tree: &UseTree) -> Vec<Import> {
    let mut imports = Vec::new();
    flatten(tree, &mut Vec::new(), &mut imports);
    imports
}

fn flatten(tree: &UseTree, path: &mut Vec<String>, imports: &mut Vec<Import>) {
    let mut add = |last: Option<String>, alias: String, is_glob| {
        let path = path.iter().cloned().chain(last).collect();
        imports.push(Import {
            path,
            alias,
            is_glob,
        });
    };
    match tree {
        UseTree::Path(tree) => {
            path.push(tree.ident.to_string());
            flatten(&tree.tree, path, imports);
            path.pop();
        }
        UseTree::Name(name) if name.ident == "self" => {
            add(None, path.last().cloned().unwrap_or_default(), false);
        }
        UseTree::Name(name) => add(Some(name.ident.to_string()), name.ident.to_string(), false),
        UseTree::Rename(name) => {
            add(Some(name.ident.to_string()), name.rename.to_string(), false);
        }
        UseTree::Glob(_) => add(None, String::new(), true),
        UseTree::Group(group) => {
            for tree in &group.items {
                flatten(tree, path, imports);
            }
        }
    }
}

/// How many imports a path may lead through; more is a circle.
const DEPTH: usize = 16;

impl House {
    /// What `path`, written in `module`, leads to; nothing for what is of another crate.
    pub(super) fn resolve(&self, module: usize, path: &[String]) -> Option<Target> {
        self.follow(module, path, DEPTH)
    }

    fn follow(&self, module: usize, path: &[String], depth: usize) -> Option<Target> {
        let depth = depth.checked_sub(1)?;
        let (first, rest) = path.split_first()?;
        let mut target = match first.as_str() {
            "crate" => Target::Module(0),
            "self" => Target::Module(module),
            "super" => Target::Module(self.modules[module].parent?),
            name => self.look_up(module, name, depth)?,
        };
        for name in rest {
            target = match target {
                Target::Module(inner) if name == "super" => {
                    Target::Module(self.modules[inner].parent?)
                }
                Target::Module(inner) => self.look_up(inner, name, depth)?,
                // A variant or a member, which is not an item of its own.
                Target::Item(..) => return None,
            };
        }
        Some(target)
    }

    fn look_up(&self, module: usize, name: &str, depth: usize) -> Option<Target> {
        let here = &self.modules[module];
        if let Some(child) = here.children.get(name) {
            return Some(Target::Module(*child));
        }
        let mut declared = here.items.iter().filter_map(declared);
        if declared.any(|(declared, _)| declared == name) {
            return Some(Target::Item(module, name.to_owned()));
        }
        here.items.iter().find_map(|item| {
            let Item::Use(item) = item else { return None };
            imports(&item.tree).iter().find_map(|import| {
                if import.is_glob {
                    return match self.follow(module, &import.path, depth)? {
                        Target::Module(inner) => self.look_up(inner, name, depth.checked_sub(1)?),
                        Target::Item(..) => None,
                    };
                }
                if import.alias != name {
                    return None;
                }
                // `use name;` of another crate would lead back here.
                if import.path == [name] {
                    return None;
                }
                self.follow(module, &import.path, depth)
            })
        })
    }
}
