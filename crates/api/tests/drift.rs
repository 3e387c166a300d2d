//! The committed code in `src/generated` is what the contracts in `proto/vdvs/v1` say.
//!
//! No ordinary build runs a generator: this test does, into a folder of its own, and compares. So a fresh clone
//! needs no `protoc`, a build compiles some forty crates less, and a contract cannot change without the change
//! being visible in review. `cargo xtask codegen` runs the same test with `VDVS_BLESS=1`, which writes the files.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// Marks every generated file, so that nobody edits one by accident.
const HEADER: &str = "// Generated from proto/ by `cargo xtask codegen`. Do not edit.\n";

#[test]
fn the_committed_code_is_what_the_contracts_generate() {
    let fresh = generate();
    if env::var_os("VDVS_BLESS").is_some_and(|value| value == "1") {
        bless(&fresh);
    }
    let committed = read_sources(&generated_dir());
    let names = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        names(&committed),
        names(&fresh),
        "crates/api/src/generated holds other files than the contracts generate; run `cargo xtask codegen`"
    );
    for (name, text) in &fresh {
        if let Some(difference) = first_difference(&committed[name], text) {
            panic!(
                "crates/api/src/generated/{name} is stale: {difference}\nrun `cargo xtask codegen` and commit"
            );
        }
    }
}

#[test]
fn generating_twice_gives_the_same_bytes() {
    assert_eq!(generate(), generate());
}

/// Compiles every contract below `proto/` and returns the generated files by name.
fn generate() -> BTreeMap<String, String> {
    let root = proto_dir();
    let contracts = contracts(&root);
    assert!(
        !contracts.is_empty(),
        "no .proto file below {}",
        root.display()
    );
    let descriptors = protox::compile(&contracts, [&root]).expect("the contracts compile");
    let out = tempfile::tempdir().expect("a temporary folder can be made");
    tonic_prost_build::configure()
        // Connections are made by `vdvs-transport`; the generated code needs no network of its own.
        .build_transport(false)
        // Ordered, so that one message has one encoding: the golden bytes depend on it.
        .btree_map(".")
        // Read by who wants to see it: ten thousand volumes are many small allocations.
        .extern_path(
            ".vdvs.v1.ListVolumesReply",
            "crate::listing::ListVolumesReply",
        )
        .out_dir(out.path())
        .compile_fds(descriptors)
        .expect("code can be generated from the descriptors");
    let mut files = read_sources(out.path());
    for text in files.values_mut() {
        text.insert_str(0, HEADER);
    }
    files
}

fn bless(files: &BTreeMap<String, String>) {
    let dir = generated_dir();
    fs::create_dir_all(&dir).expect("the generated folder can be made");
    for stale in read_sources(&dir)
        .keys()
        .filter(|name| !files.contains_key(*name))
    {
        fs::remove_file(dir.join(stale)).expect("a stale file can be removed");
    }
    for (name, text) in files {
        fs::write(dir.join(name), text).expect("a generated file can be written");
    }
}

/// The contracts, sorted, so that the output does not depend on the folder's order.
fn contracts(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the proto folder can be read") {
            let path = entry.expect("an entry can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension() == Some(OsStr::new("proto")) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read_sources(dir: &Path) -> BTreeMap<String, String> {
    let Ok(entries) = fs::read_dir(dir) else {
        return BTreeMap::new();
    };
    entries
        .map(|entry| entry.expect("an entry can be read").path())
        .filter(|path| path.extension() == Some(OsStr::new("rs")))
        .map(|path| {
            let name = path
                .file_name()
                .expect("a file has a name")
                .to_string_lossy()
                .into_owned();
            (
                name,
                fs::read_to_string(&path).expect("generated code is text"),
            )
        })
        .collect()
}

/// Where two texts part, or nothing if they are equal.
fn first_difference(committed: &str, fresh: &str) -> Option<String> {
    if committed == fresh {
        return None;
    }
    let (mut old, mut new) = (committed.lines(), fresh.lines());
    for line in 1.. {
        match (old.next(), new.next()) {
            (Some(have), Some(want)) if have == want => {}
            (None, None) => return Some("line endings or the end of the file differ".to_owned()),
            (have, want) => {
                return Some(format!(
                    "line {line}\n  committed: {}\n  generated: {}",
                    have.unwrap_or("(end of file)"),
                    want.unwrap_or("(end of file)")
                ));
            }
        }
    }
    None
}

fn crate_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn generated_dir() -> PathBuf {
    crate_dir().join("src/generated")
}

fn proto_dir() -> PathBuf {
    crate_dir()
        .join("../../proto")
        .canonicalize()
        .expect("the clone has a proto folder")
}
