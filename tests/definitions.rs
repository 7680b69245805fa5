//! Definition zips that mean harm, through the whole of the API.

use std::{
    io::{Cursor, Write},
    path::Path,
};

use serde_json::json;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use crate::harness::{Yard, code_folder};

/// A zip of text files, all executable.
pub fn zip_of(files: &[(&str, &str)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().unix_permissions(0o755);
    for (name, text) in files {
        zip.start_file(*name, options).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn deflated(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file(name, SimpleFileOptions::default().compression_method(CompressionMethod::Deflated))
        .unwrap();
    zip.write_all(bytes).unwrap();
    zip.finish().unwrap().into_inner()
}

fn stored(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file(name, SimpleFileOptions::default().compression_method(CompressionMethod::Stored)).unwrap();
    zip.write_all(bytes).unwrap();
    zip.finish().unwrap().into_inner()
}

fn link(name: &str, target: &str) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.add_symlink(name, target, SimpleFileOptions::default()).unwrap();
    zip.finish().unwrap().into_inner()
}

/// Replaces every occurrence of a byte string by one of the same length.
fn patched(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut found = 0;
    for at in 0..bytes.len().saturating_sub(from.len()) {
        if &bytes[at..at + from.len()] == from {
            bytes[at..at + to.len()].copy_from_slice(to);
            found += 1;
        }
    }
    assert!(found > 0, "nothing to replace");
    bytes
}

#[test]
fn each_way_of_being_bad_is_refused_with_its_own_words() {
    let yard = Yard::with("[definition]\nunpacked_bytes = 50000000\nentries = 100\nzip_bytes = 2000000\n");
    let token = yard.admin_token();
    let new = json!({"name": "hostile", "framework": {"name": "custom", "version": "1"}}).to_string();
    let (status, made) =
        yard.http("POST", "/v3/ml_assets/training_definitions", Some(&token), Some(new.into_bytes()));
    assert_eq!(status, 201);
    let content = made["entity"]["training_definition_version"]["content_url"].as_str().unwrap().to_owned();
    let path = content.trim_start_matches(&yard.url).to_owned();
    let many: Vec<(String, &str)> = (0..101).map(|n| (format!("f{n}"), "")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(n, t)| (n.as_str(), *t)).collect();
    let mut tar = vec![0u8; 1024];
    tar[257..262].copy_from_slice(b"ustar");
    let good = zip_of(&[("aaaa.py", "x"), ("bbbb.py", "y")]);
    // The size in both headers says less than what is there.
    let lying = {
        let bytes = deflated("big", &vec![b'x'; 100_000]);
        patched(bytes, &100_000u32.to_le_bytes(), &90_000u32.to_le_bytes())
    };
    let mut local_lie = zip_of(&[("local.py", "x")]);
    let at = local_lie.windows(8).position(|w| w == b"local.py").unwrap();
    local_lie[at..at + 8].copy_from_slice(b"other.py");
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("gzip", vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0], "a gzip file"),
        ("tar", tar, "a tar archive"),
        ("rar", b"Rar!\x1a\x07\x00....".to_vec(), "a RAR archive"),
        ("7z", b"7z\xbc\xaf\x27\x1c....".to_vec(), "a 7-Zip archive"),
        ("text", b"#!/bin/sh\n".to_vec(), "no archive that is known"),
        ("empty", Vec::new(), "the definition is empty"),
        ("no entries", zip_of(&[]), "no file in the definition"),
        ("torn", good[..good.len() / 2].to_vec(), "cannot be read"),
        ("traversal", zip_of(&[("../evil", "x")]), "leads out of the folder"),
        ("deep traversal", zip_of(&[("a/../../evil", "x")]), "leads out of the folder"),
        ("absolute", zip_of(&[("/etc/cron.d/evil", "x")]), "an absolute path"),
        ("backslash", zip_of(&[("a\\..\\evil", "x")]), "backslash"),
        ("control", zip_of(&[("a\u{1b}[2Jb", "x")]), "control characters"),
        ("link out", link("l", "../../etc/passwd"), "leads out of the definition"),
        ("absolute link", link("l", "/etc/passwd"), "leads out of the definition"),
        (
            "duplicate",
            patched(zip_of(&[("aaaa.py", "x"), ("bbbb.py", "y")]), b"bbbb.py", b"aaaa.py"),
            "twice",
        ),
        ("case clash", zip_of(&[("Model.py", "x"), ("model.py", "y")]), "upper and lower case"),
        ("file as folder", zip_of(&[("a", "x"), ("a/b", "y")]), "need a folder of that name"),
        ("bomb", deflated("zeros", &vec![0; 40_000_000]), "zip bomb"),
        ("too much", stored("x", &vec![b'y'; 2_100_000]), "2000000 are allowed"),
        ("too many", zip_of(&many), "100 are allowed"),
        ("lying size", lying, "lie"),
        ("lying name", local_lie, "lie"),
    ];
    for (name, bytes, words) in cases {
        let (status, answer) = yard.http("PUT", &path, Some(&token), Some(bytes));
        let message = answer["errors"][0]["message"].as_str().unwrap_or("").to_owned();
        assert!(status == 400 || status == 413, "{name}: {status} {answer}");
        assert!(message.contains(words), "{name}: {message}");
    }
    assert_eq!(
        std::fs::read_dir(yard.data_folder().join("tmp")).unwrap().count(),
        0,
        "half-made files are left"
    );
    assert_eq!(std::fs::read_dir(yard.data_folder().join("definitions")).unwrap().count(), 0);
    let (status, answer) = yard.http("PUT", &path, Some(&token), Some(good));
    assert_eq!(status, 200, "{answer}");
}

#[test]
fn file_modes_and_links_inside_are_kept_and_ignored_files_stay_at_home() {
    let yard = Yard::start();
    let code = code_folder(
        yard.dir.path(),
        &[
            ("bin/run.sh", "#!/bin/sh\necho ran $(cat $MODEL_DIR/link)\nls $MODEL_DIR\n"),
            ("target.txt", "through a link"),
            (".gitignore", "*.tmp\n"),
            (".trainyardignore", "big/\n"),
            ("junk.tmp", "junk"),
            ("big/data", "big"),
        ],
    );
    std::os::unix::fs::symlink("target.txt", code.join("link")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", code.join("outside")).unwrap();
    std::fs::create_dir(code.join(".git")).unwrap();
    std::fs::write(code.join(".git/config"), "x").unwrap();
    let manifest = yard.manifest("pack", "./bin/run.sh");
    let said = yard.cli(&["train", code.to_str().unwrap(), manifest.to_str().unwrap()]);
    assert!(said.err.contains("Packed") && said.err.contains("bin/run.sh"), "{}", said.err);
    assert!(said.err.contains("left out: outside (a link that leads out"), "{}", said.err);
    let id = said.ok().split('\'').nth(1).unwrap().to_owned();
    assert_eq!(yard.wait_end(&id)["state"], "completed");
    let log = yard.cli(&["logs", &id]).ok();
    assert!(log.contains("ran through a link"), "{log}");
    for absent in ["junk.tmp", "big", "outside"] {
        assert!(!log.lines().any(|l| l == absent), "{absent} was packed: {log}");
    }
}

#[test]
fn equal_code_is_stored_once_and_goes_with_its_last_definition() {
    let yard = Yard::start();
    let first = yard.train("one", "true");
    let second = yard.train("two", "true");
    yard.wait_end(&first);
    yard.wait_end(&second);
    let folder = yard.data_folder().join("definitions");
    let count = |f: &Path| std::fs::read_dir(f).unwrap().count();
    assert_eq!(count(&folder), 1);
    let token = yard.admin_token();
    for (run, left) in [(first, 1), (second, 0)] {
        let href =
            yard.run(&run)["entity"]["model_definition"]["definition_href"].as_str().unwrap().to_owned();
        let path = href.trim_start_matches(&yard.url).to_owned();
        assert_eq!(yard.http("DELETE", &path, Some(&token), None).0, 204);
        assert_eq!(count(&folder), left);
    }
}
