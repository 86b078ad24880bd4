//! The example file has every key of this version, so that nobody has to look for one elsewhere.

use super::{
    keys::{ROOMS, Room},
    tree::{Kind, NodeId, Tree},
    yaml,
};

/// Adds the keys that are written in a room and in the rooms inside it.
fn walk(tree: &Tree<'_>, id: NodeId, room: Room, seen: &mut Vec<(Room, String)>) {
    match &tree.node(id).kind {
        Kind::List(items) => items.iter().for_each(|item| walk(tree, *item, room, seen)),
        Kind::Map(entries) => {
            for entry in entries {
                seen.push((room, entry.key.to_string()));
                let inner = match &*entry.key {
                    "node" => Room::Node,
                    "admin" => Room::Admin,
                    "log" => Room::Log,
                    "defaults" => Room::Defaults,
                    "health" => Room::Health,
                    "tcp" => Room::Tcp,
                    "timeouts" => Room::Timeouts,
                    "drain" => Room::Drain,
                    "limits" => Room::Limits,
                    "backends" => Room::Backend,
                    "services" => {
                        let Kind::Map(services) = &tree.node(entry.value).kind else { continue };
                        services.iter().for_each(|service| walk(tree, service.value, Room::Service, seen));
                        continue;
                    }
                    _ => continue,
                };
                walk(tree, entry.value, inner, seen);
            }
        }
        Kind::Null | Kind::Text { .. } => {}
    }
}

#[test]
fn the_example_has_every_key() {
    let text = include_str!("../../../deploy/tidegate.example.yaml");
    let tree = yaml::read(text).expect("valid").expect("a document");
    let mut seen = Vec::new();
    walk(&tree, tree.root, Room::File, &mut seen);
    for keys in &ROOMS {
        for key in keys.now {
            assert!(seen.contains(&(keys.room, (*key).to_owned())), "{:?}: {key} is missing", keys.room);
        }
    }
}
