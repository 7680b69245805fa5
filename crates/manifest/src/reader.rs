//! Reads a mapping key by key, and notes what is missing, of the wrong type, or not known.

use std::ops::Range;

use crate::{
    Problem, old_forms,
    tree::{Key, Node, Value},
};

/// A mapping being read. Every key that is asked for counts as known.
pub(crate) struct Reader<'a> {
    /// Dotted path of the mapping, for messages; empty at the top.
    path: String,
    span: Range<usize>,
    entries: &'a [(Key, Node)],
    known: Vec<&'static str>,
    taken: Vec<&'static str>,
}

impl<'a> Reader<'a> {
    /// Over `node`; `None`, with a problem noted, when it is no mapping.
    pub(crate) fn new(node: &'a Node, path: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        if let Value::Map(entries) = &node.value {
            Some(Self {
                path: path.to_owned(),
                span: node.span.clone(),
                entries,
                known: Vec::new(),
                taken: Vec::new(),
            })
        } else {
            let name = if path.is_empty() { "the manifest".to_owned() } else { format!("`{path}`") };
            let message = format!("{name} has to be a mapping");
            problems.push(Problem::new(node.span.clone(), message, format!("this is {}", node.kind())));
            None
        }
    }

    /// Dotted path of a key in here.
    pub(crate) fn at(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The value of `key`, unless it is absent or null.
    pub(crate) fn get(&mut self, key: &'static str) -> Option<&'a Node> {
        self.known.push(key);
        let (_, node) = self.entries.iter().find(|(k, _)| k.text == key)?;
        self.taken.push(key);
        (!matches!(node.value, Value::Null)).then_some(node)
    }

    /// The value of `key`, noted when it is absent.
    pub(crate) fn require(&mut self, key: &'static str, problems: &mut Vec<Problem>) -> Option<&'a Node> {
        let found = self.get(key);
        if found.is_none() {
            self.missing(key, problems);
        }
        found
    }

    /// Notes that `key` is missing: at its own place when it stands there without a value.
    pub(crate) fn missing(&self, key: &str, problems: &mut Vec<Problem>) {
        let message = format!("`{}` is missing", self.at(key));
        let problem = if let Some((k, _)) = self.entries.iter().find(|(k, _)| k.text == key) {
            Problem::new(k.span.clone(), message, "it has no value")
        } else {
            // A whole block as a label hides more than it shows: point at where it begins.
            let start = self.span.start;
            let end = self.entries.first().map_or(self.span.end, |(k, _)| k.span.end);
            Problem::new(start..end.max(start), message, format!("add `{key}:` to this mapping"))
        };
        problems.push(problem);
    }

    /// Text; numbers and booleans are taken as they are written.
    pub(crate) fn text(&mut self, key: &'static str, problems: &mut Vec<Problem>) -> Option<String> {
        let path = self.at(key);
        self.get(key).and_then(|node| scalar(node, &path, problems))
    }

    /// Text that has to be there and not be empty.
    pub(crate) fn required_text(&mut self, key: &'static str, problems: &mut Vec<Problem>) -> String {
        let path = self.at(key);
        let Some(node) = self.require(key, problems) else { return String::new() };
        let Some(text) = scalar(node, &path, problems) else { return String::new() };
        if text.trim().is_empty() {
            problems.push(Problem::new(
                node.span.clone(),
                format!("`{path}` is empty"),
                "write something here",
            ));
        }
        text
    }

    /// A mapping below `key`.
    pub(crate) fn child(&mut self, key: &'static str, problems: &mut Vec<Problem>) -> Option<Reader<'a>> {
        let path = self.at(key);
        self.get(key).and_then(|node| Reader::new(node, &path, problems))
    }

    /// A mapping below `key` that has to be there.
    pub(crate) fn required_child(
        &mut self,
        key: &'static str,
        problems: &mut Vec<Problem>,
    ) -> Option<Reader<'a>> {
        let path = self.at(key);
        self.require(key, problems).and_then(|node| Reader::new(node, &path, problems))
    }

    /// Notes every key that nobody asked for.
    pub(crate) fn finish(self, problems: &mut Vec<Problem>) {
        for (key, _) in self.entries.iter().filter(|(k, _)| !self.taken.contains(&k.text.as_str())) {
            let message = format!("`{}` is not a key of a manifest", self.at(&key.text));
            let problem = Problem::new(key.span.clone(), message, "not known here");
            problems.push(match (old_forms::advice(&key.text), nearest(&key.text, &self.known)) {
                (Some(advice), _) => problem.help(advice),
                (None, Some(near)) => problem.help(format!("did you mean `{near}`?")),
                (None, None) => problem.help(format!("known here: {}", self.known.join(", "))),
            });
        }
    }
}

/// The text of a scalar.
pub(crate) fn scalar(node: &Node, path: &str, problems: &mut Vec<Problem>) -> Option<String> {
    if let Value::Scalar { text, .. } = &node.value {
        Some(text.clone())
    } else {
        let message = format!("`{path}` has to be text");
        problems.push(Problem::new(node.span.clone(), message, format!("this is {}", node.kind())));
        None
    }
}

/// The candidate that `word` was likely meant to be.
pub(crate) fn nearest<'c>(word: &str, candidates: &[&'c str]) -> Option<&'c str> {
    let fold = |s: &str| s.to_lowercase().replace(['-', ' '], "_");
    let scored = candidates.iter().map(|c| (strsim::damerau_levenshtein(&fold(word), &fold(c)), *c));
    scored
        .min_by_key(|(d, _)| *d)
        .filter(|(d, c)| *d <= 2.max(c.len() / 4) && *d < word.len())
        .map(|(_, c)| c)
}
