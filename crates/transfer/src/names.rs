//! Object names as file names: which can be, and which would do harm.

use std::collections::HashMap;
use std::fmt;

/// Longest file name that Linux file systems take, in bytes, and longest path.
const MAX_NAME: usize = 255;
const MAX_PATH: usize = 4000;

/// An object name that cannot become a file, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadName {
    /// The key.
    pub key: String,
    /// Why it cannot be.
    pub why: String,
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: String = self.key.chars().flat_map(char::escape_default).take(120).collect();
        write!(f, "`{shown}` {}", self.why)
    }
}

/// Checks that all `keys` can lie side by side as files below one folder. A key that ends in a
/// slash stands for an empty folder.
pub fn check_names<'a>(keys: impl IntoIterator<Item = &'a str>) -> Result<(), Vec<BadName>> {
    let keys: Vec<&str> = keys.into_iter().collect();
    let mut bad: Vec<BadName> = Vec::new();
    // What each path is: `true` a folder, `false` a file.
    let mut folders: HashMap<&str, bool> = HashMap::new();
    for key in &keys {
        if let Some(why) = fault(key) {
            bad.push(BadName { key: (*key).to_owned(), why });
            continue;
        }
        let path = key.trim_end_matches('/');
        folders.entry(path).or_insert(key.ends_with('/'));
        for (at, _) in path.match_indices('/') {
            folders.insert(&path[..at], true);
        }
    }
    for key in &keys {
        if !key.ends_with('/') && folders.get(key) == Some(&true) && fault(key).is_none() {
            let why = "is an object, and other objects need a folder of that name".to_owned();
            bad.push(BadName { key: (*key).to_owned(), why });
        }
    }
    if bad.is_empty() { Ok(()) } else { Err(bad) }
}

/// What is wrong with one key on its own.
fn fault(key: &str) -> Option<String> {
    let path = key.strip_suffix('/').unwrap_or(key);
    if path.is_empty() {
        return Some("has no name".to_owned());
    }
    if path.starts_with('/') {
        return Some("begins with a slash, so it would be an absolute path".to_owned());
    }
    if path.len() > MAX_PATH {
        return Some(format!("is longer than {MAX_PATH} bytes"));
    }
    if path.contains('\0') {
        return Some("holds a zero byte".to_owned());
    }
    for part in path.split('/') {
        match part {
            "" => return Some("has an empty part between two slashes".to_owned()),
            "." | ".." => return Some(format!("has the part `{part}`, which would leave its folder")),
            _ if part.len() > MAX_NAME => return Some(format!("has a part longer than {MAX_NAME} bytes")),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(keys: &[&str]) -> String {
        check_names(keys.iter().copied())
            .unwrap_err()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    }

    #[test]
    fn ordinary_names_pass() {
        check_names(["a", "b/c", "b/d e", "ü/..x", "empty/", "b/"]).unwrap();
    }

    #[test]
    fn each_harm_has_its_words() {
        assert!(why(&["../x"]).contains("leave its folder"));
        assert!(why(&["a/../../x"]).contains("leave its folder"));
        assert!(why(&["/etc/passwd"]).contains("absolute"));
        assert!(why(&["a//b"]).contains("empty part"));
        assert!(why(&["/"]).contains("no name"));
        assert!(why(&["x\0y"]).contains("zero byte"));
        assert!(why(&[&"n".repeat(256)]).contains("longer than 255"));
    }

    #[test]
    fn a_file_and_a_folder_of_one_name_clash() {
        assert!(why(&["a", "a/b"]).starts_with("`a` is an object, and other"));
        assert!(why(&["a/b/c", "a/b"]).starts_with("`a/b` is an object"));
    }
}
