//! The modules of a crate, read from its files: what is compiled for users on Linux with every feature on.

use std::collections::BTreeMap;
use std::rc::Rc;

use syn::punctuated::Punctuated;
use syn::{Attribute, Item, Meta, Token, Visibility};

/// All modules; the first one is the crate's root.
pub(super) struct House {
    pub(super) modules: Vec<Module>,
}

pub(super) struct Module {
    pub(super) parent: Option<usize>,
    pub(super) children: BTreeMap<String, usize>,
    /// The text of the file it stands in.
    pub(super) text: Rc<str>,
    pub(super) items: Vec<Item>,
}

type Read<'a> = &'a dyn Fn(&str) -> Option<String>;

impl House {
    pub(super) fn read(read: Read<'_>) -> Result<Self, String> {
        let mut house = Self {
            modules: Vec::new(),
        };
        house.read_file(read, "lib.rs", "", None)?;
        Ok(house)
    }

    fn read_file(
        &mut self,
        read: Read<'_>,
        file: &str,
        folder: &str,
        parent: Option<usize>,
    ) -> Result<Option<usize>, String> {
        let text = read(file).ok_or_else(|| format!("`{file}` cannot be read"))?;
        let parsed = syn::parse_file(&text).map_err(|error| format!("`{file}`: {error}"))?;
        if !are_for_users(&parsed.attrs) {
            return Ok(None);
        }
        self.add(read, &text.into(), parsed.items, folder, parent)
            .map(Some)
    }

    /// Adds a module with `items`, and the modules below it, whose files are in `folder`.
    fn add(
        &mut self,
        read: Read<'_>,
        text: &Rc<str>,
        items: Vec<Item>,
        folder: &str,
        parent: Option<usize>,
    ) -> Result<usize, String> {
        let place = self.modules.len();
        self.modules.push(Module {
            parent,
            children: BTreeMap::new(),
            text: Rc::clone(text),
            items: Vec::new(),
        });
        for mut item in items {
            if !are_for_users(attributes(&item)) {
                continue;
            }
            if let Item::Mod(module) = &mut item {
                let name = module.ident.to_string();
                let below = format!("{folder}{name}/");
                let child = if let Some((_, items)) = module.content.take() {
                    Some(self.add(read, text, items, &below, Some(place))?)
                } else {
                    let flat = format!("{folder}{name}.rs");
                    let nested = format!("{below}mod.rs");
                    let file = if read(&flat).is_some() { flat } else { nested };
                    self.read_file(read, &file, &below, Some(place))?
                };
                let Some(child) = child else { continue };
                self.modules[place].children.insert(name, child);
            }
            self.modules[place].items.push(item);
        }
        Ok(place)
    }
}

/// The name and the visibility of what an item declares.
pub(super) fn declared(item: &Item) -> Option<(String, &Visibility)> {
    let (ident, visibility) = match item {
        Item::Const(item) => (&item.ident, &item.vis),
        Item::Enum(item) => (&item.ident, &item.vis),
        Item::Fn(item) => (&item.sig.ident, &item.vis),
        Item::Mod(item) => (&item.ident, &item.vis),
        Item::Static(item) => (&item.ident, &item.vis),
        Item::Struct(item) => (&item.ident, &item.vis),
        Item::Trait(item) => (&item.ident, &item.vis),
        Item::TraitAlias(item) => (&item.ident, &item.vis),
        Item::Type(item) => (&item.ident, &item.vis),
        Item::Union(item) => (&item.ident, &item.vis),
        _ => return None,
    };
    Some((ident.to_string(), visibility))
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether what has these attributes is compiled for users.
fn are_for_users(attributes: &[Attribute]) -> bool {
    let mut conditions = attributes.iter().filter(|one| one.path().is_ident("cfg"));
    conditions.all(|one| one.parse_args::<Meta>().is_ok_and(|meta| holds(&meta)))
}

fn holds(condition: &Meta) -> bool {
    let nested = |list: &syn::MetaList| {
        list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)
            .unwrap_or_default()
    };
    match condition {
        Meta::List(list) if list.path.is_ident("not") => !nested(list).iter().all(holds),
        Meta::List(list) if list.path.is_ident("any") => nested(list).iter().any(holds),
        Meta::List(list) => nested(list).iter().all(holds),
        // Every feature is on, and the system is the one there is.
        Meta::NameValue(_) => true,
        Meta::Path(path) => !path.is_ident("test") && !path.is_ident("safepoint_loom"),
    }
}
