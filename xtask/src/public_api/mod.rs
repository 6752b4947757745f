//! What the library exports, as a list of lines: a name or signature that is changed or gone shows in review.
//!
//! The compiler's own list (rustdoc's JSON, which `cargo public-api` reads) needs a nightly toolchain. This one is read from the sources with all
//! features on: items, fields, variants, methods, derives and implementations of traits, under the paths they are exported as. Types stand as they are
//! written. What the compiler infers is not in it: `Send` and `Sync`, and what a macro generates.

mod modules;
mod names;
mod text;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use syn::{Attribute, Fields, ImplItem, Item, ItemImpl, TraitItem, Type, Visibility};

use modules::House;
use names::Target;
use text::{Text, end, start};

/// The list, relative to the repository.
pub const FILE: &str = "crates/safepoint/public-api.txt";

const SOURCES: &str = "crates/safepoint/src";

const NOTICE: &str = "# Made by `cargo xtask public-api` from the sources. A line that goes or changes breaks somebody.\n\n";

/// The list as it must be.
///
/// # Errors
///
/// A source cannot be read, or exports something in a way that is not understood.
pub fn public_api(root: &Path) -> io::Result<String> {
    let sources = root.join(SOURCES);
    let read = |path: &str| fs::read_to_string(sources.join(path)).ok();
    let lines = lines("safepoint", &read).map_err(io::Error::other)?;
    Ok(format!("{NOTICE}{}\n", lines.join("\n")))
}

/// The lines that were recorded and are gone, and those that are new; both are empty when the list is as it must be.
///
/// # Errors
///
/// As with [`public_api`].
pub fn changes(root: &Path) -> io::Result<Vec<String>> {
    let recorded = fs::read_to_string(root.join(FILE)).unwrap_or_default();
    let current = public_api(root)?;
    let (old, new): (BTreeSet<&str>, BTreeSet<&str>) =
        (recorded.lines().collect(), current.lines().collect());
    let gone = old.difference(&new).map(|line| format!("- {line}"));
    let come = new.difference(&old).map(|line| format!("+ {line}"));
    Ok(gone.chain(come).collect())
}

/// The lines of a crate's list, sorted by path. `read` gives a source by its path below `src`.
fn lines(name: &str, read: &dyn Fn(&str) -> Option<String>) -> Result<Vec<String>, String> {
    let house = House::read(read)?;
    let mut list = List {
        house: &house,
        paths: BTreeMap::new(),
        lines: BTreeSet::new(),
    };
    list.export(0, name)?;
    list.write_items();
    list.write_impls();
    let lines = list.lines.into_iter();
    Ok(lines.map(|(_, _, line)| line).collect())
}

struct List<'a> {
    house: &'a House,
    /// For each item that is exported, by its module and name, the paths it is exported as.
    paths: BTreeMap<(usize, String), BTreeSet<String>>,
    /// Each with the path it is sorted by; what declares an item comes before what belongs to it.
    lines: BTreeSet<(String, Rank, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Declaration,
    Derive,
    Implementation,
}

impl List<'_> {
    fn line(&mut self, path: &str, rank: Rank, line: String) {
        self.lines.insert((path.to_owned(), rank, line));
    }

    /// Notes what the module exports under `path`.
    fn export(&mut self, module: usize, path: &str) -> Result<(), String> {
        self.line(path, Rank::Declaration, format!("pub mod {path}"));
        let house = self.house;
        for item in &house.modules[module].items {
            if let Item::Use(item) = item
                && is_public(&item.vis)
            {
                for import in names::imports(&item.tree) {
                    self.export_import(module, path, &import)?;
                }
                continue;
            }
            let Some((name, visibility)) = modules::declared(item) else {
                continue;
            };
            if !is_public(visibility) {
                continue;
            }
            let full = format!("{path}::{name}");
            match house.modules[module].children.get(&name) {
                Some(child) if matches!(item, Item::Mod(_)) => self.export(*child, &full)?,
                _ => {
                    self.paths.entry((module, name)).or_default().insert(full);
                }
            }
        }
        Ok(())
    }

    fn export_import(
        &mut self,
        module: usize,
        path: &str,
        import: &names::Import,
    ) -> Result<(), String> {
        let full = format!("{path}::{}", import.alias);
        match self.house.resolve(module, &import.path) {
            _ if import.is_glob => Err(format!("`{path}` exports with `*`")),
            Some(Target::Module(child)) => self.export(child, &full),
            Some(Target::Item(owner, name)) => {
                self.paths.entry((owner, name)).or_default().insert(full);
                Ok(())
            }
            None => {
                let of = import.path.join("::");
                self.line(&full, Rank::Declaration, format!("pub use {full} = {of}"));
                Ok(())
            }
        }
    }

    /// The one path that an item's lines stand under: the deepest, which is in the room that owns it.
    fn path(&self, module: usize, name: &str) -> Option<&String> {
        let paths = self.paths.get(&(module, name.to_owned()))?;
        paths.iter().max_by_key(|path| path.matches("::").count())
    }

    fn write_items(&mut self) {
        for ((module, name), paths) in self.paths.clone() {
            let Some(path) = self.path(module, &name).cloned() else {
                continue;
            };
            for other in paths.iter().filter(|other| **other != path) {
                let line = format!("pub use {other} = {path}");
                self.line(other, Rank::Declaration, line);
            }
            let house = self.house;
            let source = &house.modules[module];
            let of_name = |item: &&Item| {
                modules::declared(item).is_some_and(|(declared, _)| declared == name)
            };
            for item in source.items.iter().filter(of_name) {
                self.write_item(&Text(&source.text), item, &path);
            }
        }
    }

    fn write_item(&mut self, text: &Text<'_>, item: &Item, path: &str) {
        let declare = |list: &mut Self, from, ident: &syn::Ident, to, more: &str| {
            let line = text.named(from, ident, path, to);
            list.line(path, Rank::Declaration, format!("{line}{more}"));
        };
        match item {
            Item::Const(item) => declare(
                self,
                open(&item.vis),
                &item.ident,
                start(item.eq_token.span),
                "",
            ),
            Item::Static(item) => declare(
                self,
                open(&item.vis),
                &item.ident,
                start(item.eq_token.span),
                "",
            ),
            Item::Type(item) => declare(
                self,
                open(&item.vis),
                &item.ident,
                start(item.semi_token.span),
                "",
            ),
            Item::Fn(item) => {
                let body = start(item.block.brace_token.span.open());
                declare(self, open(&item.vis), &item.sig.ident, body, "");
            }
            Item::Struct(item) => {
                let is_open = item.fields.iter().all(|field| is_public(&field.vis))
                    && !is_non_exhaustive(&item.attrs);
                let more = if is_open { "" } else { " { .. }" };
                let to = match &item.fields {
                    Fields::Named(fields) => start(fields.brace_token.span.open()),
                    Fields::Unnamed(fields) => start(fields.paren_token.span.open()),
                    Fields::Unit => item.semi_token.as_ref().map_or(0, |semi| start(semi.span)),
                };
                declare(self, open(&item.vis), &item.ident, to, more);
                self.write_derives(&item.attrs, path);
                self.write_fields(text, &item.fields, path, false);
            }
            Item::Enum(item) => {
                let more = if is_non_exhaustive(&item.attrs) {
                    " { .. }"
                } else {
                    ""
                };
                let to = start(item.brace_token.span.open());
                declare(self, open(&item.vis), &item.ident, to, more);
                self.write_derives(&item.attrs, path);
                for variant in &item.variants {
                    let name = format!("{path}::{}", variant.ident);
                    let more = if is_non_exhaustive(&variant.attrs) {
                        " { .. }"
                    } else {
                        ""
                    };
                    self.line(&name, Rank::Declaration, format!("variant {name}{more}"));
                    self.write_fields(text, &variant.fields, &name, true);
                }
            }
            Item::Trait(item) => {
                let to = start(item.brace_token.span.open());
                declare(self, open(&item.vis), &item.ident, to, "");
                for member in &item.items {
                    self.write_member(text, member, path);
                }
            }
            // A macro or something newer than this list: named at least.
            _ => self.line(path, Rank::Declaration, format!("pub {path}")),
        }
    }

    fn write_fields(&mut self, text: &Text<'_>, fields: &Fields, path: &str, all: bool) {
        let types = match fields {
            Fields::Named(fields) => {
                let braces = fields.brace_token.span;
                text::types(&fields.named, braces.open(), braces.close())
            }
            Fields::Unnamed(fields) => {
                let parentheses = fields.paren_token.span;
                text::types(&fields.unnamed, parentheses.open(), parentheses.close())
            }
            Fields::Unit => return,
        };
        for (index, (field, (from, to))) in fields.iter().zip(types).enumerate() {
            if all || is_public(&field.vis) {
                let name = field
                    .ident
                    .as_ref()
                    .map_or(index.to_string(), ToString::to_string);
                let name = format!("{path}::{name}");
                let line = format!("field {name}: {}", text.between(from, to));
                self.line(&name, Rank::Declaration, line);
            }
        }
    }

    fn write_derives(&mut self, attributes: &[Attribute], path: &str) {
        let mut derived = BTreeSet::new();
        let derives = attributes
            .iter()
            .filter(|one| one.path().is_ident("derive"));
        for attribute in derives {
            // What is no list of paths does not compile.
            let _ = attribute.parse_nested_meta(|meta| {
                let last = meta.path.segments.last();
                derived.extend(last.map(|last| last.ident.to_string()));
                Ok(())
            });
        }
        if !derived.is_empty() {
            let derived: Vec<String> = derived.into_iter().collect();
            let line = format!("derive {} for {path}", derived.join(", "));
            self.line(path, Rank::Derive, line);
        }
    }

    fn write_member(&mut self, text: &Text<'_>, member: &TraitItem, path: &str) {
        let (ident, from, to, more) = match member {
            TraitItem::Fn(member) => {
                let (to, more) = match (&member.default, &member.semi_token) {
                    (Some(body), _) => (start(body.brace_token.span.open()), " { .. }"),
                    (None, semi) => (semi.as_ref().map_or(0, |semi| start(semi.span)), ""),
                };
                (&member.sig.ident, text::first(&member.sig), to, more)
            }
            TraitItem::Const(member) => {
                let to = start(member.semi_token.span);
                (&member.ident, start(member.const_token.span), to, "")
            }
            TraitItem::Type(member) => {
                let to = start(member.semi_token.span);
                (&member.ident, start(member.type_token.span), to, "")
            }
            _ => return,
        };
        let full = format!("{path}::{ident}");
        let line = format!("{}{more}", text.named(from, ident, &full, to));
        self.line(&full, Rank::Declaration, line);
    }

    fn write_impls(&mut self) {
        let house = self.house;
        for (module, source) in house.modules.iter().enumerate() {
            for item in &source.items {
                if let Item::Impl(item) = item {
                    self.write_impl(module, &Text(&source.text), item);
                }
            }
        }
    }

    /// The exported path that `path` in `module` leads to; `Err` for an item of this crate that is not exported.
    fn exported(&self, module: usize, path: &syn::Path) -> Result<Option<String>, ()> {
        let names: Vec<String> = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        match self.house.resolve(module, &names) {
            Some(Target::Item(owner, name)) => self.path(owner, &name).cloned().map(Some).ok_or(()),
            Some(Target::Module(_)) => Err(()),
            None => Ok(None),
        }
    }

    fn write_impl(&mut self, module: usize, text: &Text<'_>, item: &ItemImpl) {
        let Type::Path(own) = &*item.self_ty else {
            return;
        };
        let (Ok(own_path), Some(first), Some(last)) = (
            self.exported(module, &own.path),
            own.path.segments.first(),
            own.path.segments.last(),
        ) else {
            return;
        };
        let body = start(item.brace_token.span.open());
        let header = |path: &str| {
            let before = text.between(start(item.impl_token.span), start(first.ident.span()));
            let after = text.between(end(last.ident.span()), body);
            text::tight(&format!("{before} {path}"), &after)
        };
        if let Some((implemented, _)) = &item.trait_ {
            let Ok(implemented) = self.exported(module, implemented) else {
                return;
            };
            // Neither the trait nor the type is this crate's, or both are unknown: nothing of ours.
            let Some(sorted_by) = own_path.clone().or(implemented) else {
                return;
            };
            let path = own_path.unwrap_or_else(|| last.ident.to_string());
            self.line(&sorted_by, Rank::Implementation, header(&path));
            for member in &item.items {
                if let ImplItem::Type(member) = member {
                    let full = format!("{path}::{}", member.ident);
                    let (from, to) = (start(member.type_token.span), start(member.semi_token.span));
                    let line = text.named(from, &member.ident, &full, to);
                    self.line(&full, Rank::Declaration, line);
                }
            }
            return;
        }
        let Some(path) = own_path else {
            return;
        };
        let is_bound = item.generics.params.iter().any(
            |parameter| matches!(parameter, syn::GenericParam::Type(bound) if !bound.bounds.is_empty()),
        );
        let mut has_members = false;
        for member in &item.items {
            let (visibility, ident, to) = match member {
                ImplItem::Fn(member) => {
                    let body = start(member.block.brace_token.span.open());
                    (&member.vis, &member.sig.ident, body)
                }
                ImplItem::Const(member) => {
                    (&member.vis, &member.ident, start(member.eq_token.span))
                }
                _ => continue,
            };
            if is_public(visibility) {
                has_members = true;
                let full = format!("{path}::{ident}");
                let line = text.named(open(visibility), ident, &full, to);
                self.line(&full, Rank::Declaration, line);
            }
        }
        if has_members && (is_bound || item.generics.where_clause.is_some()) {
            self.line(&path, Rank::Implementation, header(&path));
        }
    }
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

/// Where a public declaration begins.
fn open(visibility: &Visibility) -> usize {
    match visibility {
        Visibility::Public(public) => start(public.span),
        _ => 0,
    }
}

fn is_non_exhaustive(attributes: &[Attribute]) -> bool {
    let mut attributes = attributes.iter();
    attributes.any(|attribute| attribute.path().is_ident("non_exhaustive"))
}

#[cfg(test)]
mod tests;
