//! The names in a zip: what each would become, and whether they can lie side by side.

use std::collections::HashMap;

use crate::Error;

/// Longest file name that Linux file systems take, in bytes, and longest path.
const MAX_NAME: usize = 255;
const MAX_PATH: usize = 1024;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Folder,
    /// A file or a symbolic link: nothing can lie below it.
    Leaf,
}

/// Names seen so far.
#[derive(Default)]
pub(crate) struct Names {
    shapes: HashMap<String, Shape>,
    /// Lower-case name to the name as written.
    folded: HashMap<String, String>,
}

impl Names {
    /// Checks the next name; returns it without a slash at its end.
    pub(crate) fn add(&mut self, raw: &str, shape: Shape) -> Result<String, Error> {
        let name = raw.strip_suffix('/').unwrap_or(raw);
        check_one(name)?;
        // Folders may be said twice: many packers do.
        match self.shapes.insert(name.to_owned(), shape) {
            None => {}
            Some(Shape::Folder) if shape == Shape::Folder => {}
            Some(_) => return Err(Error::Duplicate(name.to_owned())),
        }
        let mut prefix = name;
        loop {
            let folded = prefix.to_lowercase();
            match self.folded.get(&folded) {
                Some(other) if other != prefix => {
                    return Err(Error::CaseClash(other.clone(), prefix.to_owned()));
                }
                Some(_) => {}
                None => {
                    self.folded.insert(folded, prefix.to_owned());
                }
            }
            match prefix.rfind('/') {
                Some(at) => prefix = &prefix[..at],
                None => return Ok(name.to_owned()),
            }
        }
    }

    /// Checks, once all names are known, that nothing lies below a file or a link.
    pub(crate) fn finish(&self) -> Result<(), Error> {
        for name in self.shapes.keys() {
            for (at, _) in name.match_indices('/') {
                if self.shapes.get(&name[..at]) == Some(&Shape::Leaf) {
                    return Err(Error::FileAsFolder(name[..at].to_owned()));
                }
            }
        }
        Ok(())
    }
}

fn check_one(name: &str) -> Result<(), Error> {
    let escaped = || name.chars().flat_map(char::escape_default).take(200).collect::<String>();
    let bad = |why| Err(Error::Name { name: escaped(), why });
    if name.is_empty() {
        return bad("it is empty");
    }
    if name.chars().any(char::is_control) {
        return bad("it holds control characters");
    }
    // Windows reads a backslash as a separator, so `..\x` is meant as an attack, or is a mistake.
    if name.contains('\\') {
        return bad("it holds a backslash");
    }
    let drive = name.as_bytes();
    if name.starts_with('/') || (drive.len() > 1 && drive[0].is_ascii_alphabetic() && drive[1] == b':') {
        return Err(Error::Absolute(escaped()));
    }
    if name.len() > MAX_PATH {
        return bad("it is longer than 1024 bytes");
    }
    for part in name.split('/') {
        match part {
            ".." => return Err(Error::Traversal(escaped())),
            "" => return bad("it has an empty part between two slashes"),
            "." => return bad("it has the part `.`"),
            _ if part.len() > MAX_NAME => return bad("a part is longer than 255 bytes"),
            _ => {}
        }
    }
    Ok(())
}

/// Checks that a symbolic link at `name` stays inside, wherever its folder is put.
pub(crate) fn check_link(name: &str, target: &str) -> Result<(), Error> {
    let outside = || Error::Link { name: name.to_owned(), target: target.chars().take(200).collect() };
    if target.is_empty() || target.starts_with('/') || target.contains('\0') {
        return Err(outside());
    }
    // `..` only at the head: behind a name it may lead through another link, and then it is not
    // where it seems to be.
    let mut depth = name.matches('/').count();
    let mut inside = false;
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if inside => return Err(outside()),
            ".." => depth = depth.checked_sub(1).ok_or_else(outside)?,
            _ => inside = true,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(names: &[&str]) -> Result<(), Error> {
        let mut seen = Names::default();
        for name in names {
            seen.add(name, if name.ends_with('/') { Shape::Folder } else { Shape::Leaf })?;
        }
        seen.finish()
    }

    #[test]
    fn ordinary_names_pass() {
        all(&["a/", "a/", "a/b.py", "a/c/d", "ü.txt", "..x"]).unwrap();
    }

    #[test]
    fn each_attack_is_named() {
        assert!(matches!(all(&["../x"]), Err(Error::Traversal(_))));
        assert!(matches!(all(&["a/../../x"]), Err(Error::Traversal(_))));
        assert!(matches!(all(&["/etc/passwd"]), Err(Error::Absolute(_))));
        assert!(matches!(all(&["C:evil"]), Err(Error::Absolute(_))));
        assert!(matches!(all(&["a\\..\\b"]), Err(Error::Name { .. })));
        assert!(matches!(all(&["a\nb"]), Err(Error::Name { .. })));
        assert!(matches!(all(&["a", "a"]), Err(Error::Duplicate(_))));
        assert!(matches!(all(&["Model.py", "model.py"]), Err(Error::CaseClash(..))));
        assert!(matches!(all(&["Src/a", "src/b"]), Err(Error::CaseClash(..))));
        assert!(matches!(all(&["a", "a/b"]), Err(Error::FileAsFolder(_))));
    }

    #[test]
    fn links_stay_inside() {
        check_link("a/b", "../c").unwrap();
        assert!(check_link("a/b", "../../c").is_err());
        assert!(check_link("a", "/etc/passwd").is_err());
        assert!(check_link("e", "d/d/../..").is_err(), "`d` may be a link to here");
        assert!(check_link("a/b", "x/../../../y").is_err());
    }
}
