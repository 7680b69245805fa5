//! `--set path.to.key=value`: settings that win over the manifest's text.

use crate::{
    Problem,
    tree::{Key, Node, Value},
};

/// Puts `setting` into the tree; mappings on its way are made where they are missing.
pub(crate) fn apply(root: &mut Node, setting: &str, problems: &mut Vec<Problem>) {
    // The value may be a secret: only the path is said.
    let Some((path, value)) = setting.split_once('=') else {
        problems.push(Problem::new(0..0, "--set: write `--set path.to.key=value`", ""));
        return;
    };
    let bad = |why: &str| Problem::new(0..0, format!("--set {path}: {why}"), "");
    let parts: Vec<&str> = path.trim().split('.').collect();
    if parts.iter().any(|p| p.is_empty()) {
        problems.push(bad("the path has an empty part"));
        return;
    }
    let mut node = root;
    for part in parts {
        if matches!(node.value, Value::Null) {
            node.value = Value::Map(Vec::new());
        }
        let Value::Map(entries) = &mut node.value else {
            problems.push(bad(&format!("what stands before `{part}` is not a mapping")));
            return;
        };
        let at = if let Some(at) = entries.iter().position(|(k, _)| k.text == part) {
            at
        } else {
            let key = Key { text: part.to_owned(), span: node.span.clone() };
            entries.push((key, Node { span: node.span.clone(), value: Value::Null }));
            entries.len() - 1
        };
        node = &mut entries[at].1;
    }
    node.value = Value::Scalar { text: value.to_owned(), quoted: true };
}
