//! Takes the pages of error codes into the program.

use std::{env, fmt::Write, fs, path::Path};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = env::var("CARGO_MANIFEST_DIR")?;
    let folder = Path::new(&root).join("../../docs/errors").canonicalize()?;
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut names: Vec<String> = fs::read_dir(&folder)?
        .flatten()
        .filter_map(|e| Some(e.file_name().to_str()?.strip_suffix(".md")?.to_owned()))
        .filter(|n| n.starts_with("TY"))
        .collect();
    names.sort();
    let mut code = String::from(
        "/// The page of a code.\npub(super) fn of(code: &str) -> Option<&'static str> {\n    match code {\n",
    );
    for name in names {
        let path = folder.join(format!("{name}.md"));
        writeln!(code, "        {name:?} => Some(include_str!({:?})),", path.display().to_string())?;
    }
    code.push_str("        _ => None,\n    }\n}\n");
    fs::write(Path::new(&env::var("OUT_DIR")?).join("error_pages.rs"), code)?;
    Ok(())
}
