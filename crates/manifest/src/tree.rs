//! The manifest as a tree in which every key and every value knows its place.

use std::{collections::HashMap, ops::Range};

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use crate::{MAX_SIZE, Problem, Report, overrides, syntax};

/// Nodes of one manifest at most, aliases unfolded: more is an attack.
const MAX_NODES: usize = 20_000;
/// Deepest nesting.
const MAX_DEPTH: usize = 40;

/// A value and its place, in bytes.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) span: Range<usize>,
    pub(crate) value: Value,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// Text, a number, a boolean: YAML tells them apart by looks only, and so does the check.
    Scalar {
        text: String,
        quoted: bool,
    },
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) span: Range<usize>,
}

impl Node {
    /// What it is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Scalar { text, quoted: false } if text.parse::<f64>().is_ok() => "a number",
            Value::Scalar { .. } => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

/// Parses `text`, applies `overrides`, and has `read` make something of it; all problems in one report.
pub(crate) fn read_whole<T>(
    name: &str,
    text: &str,
    overrides: &[String],
    read: impl FnOnce(&Node, &mut Vec<Problem>) -> T,
) -> Result<T, Report> {
    let mut problems = Vec::new();
    if text.len() > MAX_SIZE {
        let problem =
            Problem::new(0..0, format!("the file has {} bytes, {MAX_SIZE} are allowed", text.len()), "");
        return Err(Report::new(name, "", vec![problem]));
    }
    let root = parse(text, &mut problems);
    let Some(mut root) = root else {
        if problems.is_empty() {
            problems.push(Problem::new(0..0, "the manifest is empty", ""));
        }
        return Err(Report::new(name, text, problems));
    };
    for setting in overrides {
        overrides::apply(&mut root, setting, &mut problems);
    }
    let manifest = read(&root, &mut problems);
    if problems.is_empty() { Ok(manifest) } else { Err(Report::new(name, text, problems)) }
}

/// Parses `text`. Duplicate keys and syntax errors go into `problems`; the tree holds what could
/// be read, which is `None` when that is nothing.
fn parse(text: &str, problems: &mut Vec<Problem>) -> Option<Node> {
    let offsets: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let mut builder =
        Builder { text, offsets: &offsets, problems, anchors: HashMap::new(), nodes: 0, root: None };
    match builder.run() {
        Ok(()) => builder.root,
        Err(Stop::Syntax(at, info)) => {
            problems.push(syntax::explain(text, at, &info));
            None
        }
        Err(Stop::Said) => None,
    }
}

enum Stop {
    Syntax(usize, String),
    /// The problem has been noted.
    Said,
}

struct Builder<'a> {
    text: &'a str,
    offsets: &'a [usize],
    problems: &'a mut Vec<Problem>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    root: Option<Node>,
}

enum Open {
    List(Vec<Node>),
    Map(Vec<(Key, Node)>, Option<Key>),
}

struct Frame {
    open: Open,
    start: usize,
    anchor: usize,
}

impl Builder<'_> {
    fn bytes(&self, span: Span) -> Range<usize> {
        let at = |index: usize| self.offsets.get(index).copied().unwrap_or(self.text.len());
        at(span.start.index())..at(span.end.index())
    }

    fn run(&mut self) -> Result<(), Stop> {
        let mut stack: Vec<Frame> = Vec::new();
        let mut documents = 0;
        for event in Parser::new_from_str(self.text) {
            let (event, span) = event.map_err(|e| {
                let at = self.offsets.get(e.marker().index()).copied().unwrap_or(self.text.len());
                Stop::Syntax(at, e.info().to_owned())
            })?;
            let place = self.bytes(span);
            match event {
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        return self.stop(
                            place,
                            "there is more than one document in the file",
                            "a second one begins",
                        );
                    }
                }
                Event::Scalar(scalar, style, anchor, _) => {
                    let quoted = style != ScalarStyle::Plain;
                    let null = !quoted && matches!(&*scalar, "" | "~" | "null" | "Null" | "NULL");
                    let value =
                        if null { Value::Null } else { Value::Scalar { text: scalar.into_owned(), quoted } };
                    self.add(&mut stack, Node { span: place, value }, anchor)?;
                }
                Event::SequenceStart(anchor, _) => {
                    stack.push(Frame { open: Open::List(Vec::new()), start: place.start, anchor });
                }
                Event::MappingStart(anchor, _) => {
                    stack.push(Frame { open: Open::Map(Vec::new(), None), start: place.start, anchor });
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    let Some(frame) = stack.pop() else { continue };
                    let value = match frame.open {
                        Open::List(list) => Value::List(list),
                        Open::Map(entries, _) => Value::Map(entries),
                    };
                    let end = self.trim(frame.start, place.end);
                    self.add(&mut stack, Node { span: frame.start..end, value }, frame.anchor)?;
                }
                Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                    Some(node) => {
                        let node = Node { span: place, ..node };
                        self.add(&mut stack, node, 0)?;
                    }
                    None => return self.stop(place, "this alias stands inside its own anchor", "here"),
                },
                _ => {}
            }
            if stack.len() > MAX_DEPTH {
                let at = self.bytes(span);
                return self.stop(at, "the manifest is nested too deeply", "here");
            }
        }
        Ok(())
    }

    fn stop<T>(&mut self, span: Range<usize>, message: &str, label: &str) -> Result<T, Stop> {
        self.problems.push(Problem::new(span, message, label));
        Err(Stop::Said)
    }

    /// Blocks end where the next thing begins: without the white space in between.
    fn trim(&self, start: usize, end: usize) -> usize {
        let end = end.max(start);
        start + self.text.get(start..end).map_or(0, |t| t.trim_end().len())
    }

    fn add(&mut self, stack: &mut [Frame], node: Node, anchor: usize) -> Result<(), Stop> {
        self.nodes += size(&node);
        if self.nodes > MAX_NODES {
            return self.stop(node.span, "the manifest is too large once its aliases are unfolded", "here");
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(frame) = stack.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut frame.open {
            Open::List(list) => list.push(node),
            Open::Map(entries, key) => match key.take() {
                Some(key) => match entries.iter().find(|(k, _)| k.text == key.text) {
                    Some((first, _)) => {
                        let line = self.text[..first.span.start].matches('\n').count() + 1;
                        let message = format!("the key `{}` is there twice", key.text);
                        let problem = Problem::new(key.span, message, "again here")
                            .help(format!("it stands in line {line} already: keep one of the two"));
                        self.problems.push(problem);
                    }
                    None => entries.push((key, node)),
                },
                None => match node.value {
                    Value::Scalar { text, .. } => *key = Some(Key { text, span: node.span }),
                    _ => return self.stop(node.span, "a key has to be text", "this is none"),
                },
            },
        }
        Ok(())
    }
}

fn size(node: &Node) -> usize {
    match &node.value {
        Value::Null | Value::Scalar { .. } => 1,
        Value::List(list) => 1 + list.iter().map(size).sum::<usize>(),
        Value::Map(entries) => 1 + entries.iter().map(|(_, n)| 1 + size(n)).sum::<usize>(),
    }
}
