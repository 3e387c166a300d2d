//! The package as other people's tools see it: binutils, GNU tar, gzip, coreutils, Python's zip reader, and a reader of ESXi's own
//! archives. None of them shares code with ours.
//!
//! The programs in it are stand-ins; what esxcli is told comes from the command line itself, as in the package that ships.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test: a failure here is the report")]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;
use vdvs_esx_vib::bundle::{self, Bundle, Component};
use vdvs_esx_vib::descriptor::Acceptance;
use vdvs_esx_vib::elf::stand_in;
use vdvs_esx_vib::payload::{self, PLUGIN, Programs};
use vdvs_esx_vib::rules;
use vdvs_esx_vib::tar::{Entry, Kind};
use vdvs_esx_vib::vib::{self, Vib};
use vdvs_testkit::lab::{Profile, built, target_dir};
use vdvs_testkit::process::{Cmd, Finished};

/// The reader of ESXi's archives, as pip names it.
const VMTAR: &str = "dissect.hypervisor==3.21";
/// Downloads from a slow mirror.
const INSTALL_LIMIT: Duration = Duration::from_secs(150);
/// Commands that are about a shell, and the list of commands itself.
const NOT_FOR_ESXCLI: [&str; 3] = ["completions", "man", "help"];

/// A package, its bundle, and both unpacked by others.
struct Package {
    dir: TempDir,
    vib: Vec<u8>,
    bundle: Vec<u8>,
}

impl Package {
    fn new() -> Self {
        let vib = build();
        let component = Component {
            vendor_code: payload::VENDOR_CODE.to_owned(),
            title: payload::TITLE.to_owned(),
        };
        let bundle = bundle::write(&component, &vib).unwrap();
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("vdvs.vib"), &vib).unwrap();
        fs::write(dir.path().join("bundle.zip"), &bundle).unwrap();
        let package = Self { dir, vib, bundle };
        package.run("ar", &["x", "vdvs.vib"]);
        package
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs a tool in the folder, and returns what it said.
    fn run(&self, tool: &str, args: &[&str]) -> String {
        self.input(tool, args, None)
    }

    fn input(&self, tool: &str, args: &[&str], file: Option<&str>) -> String {
        let mut tool = Cmd::new(format!("/usr/bin/{tool}"))
            .args(args)
            .current_dir(self.dir.path());
        if let Some(file) = file {
            tool = tool.input_file(self.path(file));
        }
        tool.run().unwrap()
    }

    fn checksum(&self, tool: &str, file: &str) -> String {
        let said = self.run(tool, &[file]);
        said.split(' ').next().unwrap().to_owned()
    }

    /// Unpacks the payload, as gunzip does it.
    fn gunzip(&self) {
        fs::copy(self.path("vdvs"), self.path("payload.tar.gz")).unwrap();
        self.run("gunzip", &["--keep", "--force", "payload.tar.gz"]);
    }
}

fn vdvs(args: &[&str]) -> Finished {
    let program = built(Profile::Debug, "vdvs").unwrap();
    Cmd::new(program)
        .args(args)
        .env("VDVS_ADMIN_SOCKET", "/nonexistent/admin.sock")
        .output()
        .unwrap()
}

fn definition() -> String {
    vdvs(&["esxcli", "--plugin-definition"]).stdout
}

fn build() -> Vec<u8> {
    let about = payload::about("0.1.0", 1_795_271_000, 1_795_271_000, Acceptance::Community);
    let files = payload::files(Programs {
        agent: stand_in("agent"),
        cli: stand_in("command line"),
        plugin: definition().into_bytes(),
        licence: b"licence".to_vec(),
        third_party: b"others".to_vec(),
    });
    vib::build(&about.unwrap(), &files, b"").unwrap()
}

/// Path, permissions and size of each entry, as one of the readers lists it.
type Listing = BTreeSet<(String, String, u64)>;

fn ours(vib: &Vib) -> Listing {
    let line = |e: &Entry| {
        (
            e.path.trim_end_matches('/').to_owned(),
            permissions(e.mode, e.kind == Kind::Folder),
            e.data.len() as u64,
        )
    };
    vib.entries().map(line).collect()
}

fn permissions(mode: u32, folder: bool) -> String {
    let bit = |at: u32, letter: char| if mode >> at & 1 == 1 { letter } else { '-' };
    let mut text: String = [
        (8, 'r'),
        (7, 'w'),
        (6, 'x'),
        (5, 'r'),
        (4, 'w'),
        (3, 'x'),
        (2, 'r'),
        (1, 'w'),
    ]
    .map(|(at, letter)| bit(at, letter))
    .iter()
    .collect();
    text.push(match (mode >> 9 & 1, mode & 1) {
        (1, 1) => 't',
        (1, _) => 'T',
        (_, 1) => 'x',
        _ => '-',
    });
    format!("{}{text}", if folder { 'd' } else { '-' })
}

/// A line of `tar -tv`, GNU's or Python's: permissions, owner, size, date, time, name.
fn listing(said: &str) -> Listing {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [mode, _, size, _, _, name] = fields[..] else {
            panic!("{line}")
        };
        // Python does not say what it is; the name does.
        let kind = if name.ends_with('/') { 'd' } else { '-' };
        let mode = mode.replace('?', &kind.to_string());
        (
            name.trim_end_matches('/').to_owned(),
            mode,
            size.parse().unwrap(),
        )
    };
    said.lines().map(line).collect()
}

#[test]
fn ar_and_tar_see_what_we_see_and_the_same_bytes() {
    let package = Package::new();
    let vib = Vib::read(&package.vib).unwrap();
    let names = package.run("ar", &["t", "vdvs.vib"]);
    assert_eq!(names, "descriptor.xml\nsig.pkcs7\nvdvs\n");
    let said = package.run("ar", &["tv", "vdvs.vib"]);
    // No mode, no owner, no time.
    assert!(
        said.lines().all(|l| l.starts_with("--------- 0/0 ")),
        "{said}"
    );
    assert_eq!(
        fs::read(package.path("descriptor.xml")).unwrap(),
        vib.descriptor_xml.as_bytes()
    );
    assert_eq!(fs::metadata(package.path("sig.pkcs7")).unwrap().len(), 0);
    let said = package.run(
        "tar",
        &[
            "--list",
            "--verbose",
            "--numeric-owner",
            "--gzip",
            "--file",
            "vdvs",
        ],
    );
    assert_eq!(listing(&said), ours(&vib));
    assert!(
        said.lines()
            .all(|l| l.contains(" 0/0 ") && l.contains(" 2026-01-01 ")),
        "{said}"
    );
    fs::create_dir(package.path("root")).unwrap();
    package.run(
        "tar",
        &[
            "--extract",
            "--gzip",
            "--directory",
            "root",
            "--file",
            "vdvs",
        ],
    );
    for entry in vib.entries().filter(|e| e.kind == Kind::File) {
        let there = fs::read(package.path("root").join(&entry.path)).unwrap();
        assert!(there == entry.data, "{} differs", entry.path);
    }
    // As it was made by GNU's ar, which ends names in '/'.
    package.run(
        "ar",
        &["rcD", "gnu.vib", "descriptor.xml", "sig.pkcs7", "vdvs"],
    );
    let gnu = fs::read(package.path("gnu.vib")).unwrap();
    assert_ne!(gnu, package.vib);
    assert_eq!(Vib::read(&gnu).unwrap(), vib);
}

#[test]
fn every_checksum_is_the_one_that_coreutils_compute() {
    let package = Package::new();
    package.gunzip();
    let vib = Vib::read(&package.vib).unwrap();
    let info = &vib.payloads.first().unwrap().info;
    let sums: Vec<_> = info
        .checksums
        .iter()
        .map(|s| (s.kind.as_str(), s.process.as_deref(), s.hex.clone()))
        .collect();
    let wanted = [
        ("sha-256", None, package.checksum("sha256sum", "vdvs")),
        (
            "sha-256",
            Some("gunzip"),
            package.checksum("sha256sum", "payload.tar"),
        ),
        (
            "sha-1",
            Some("gunzip"),
            package.checksum("sha1sum", "payload.tar"),
        ),
    ];
    assert_eq!(sums, wanted);
    assert_eq!(info.size, fs::metadata(package.path("vdvs")).unwrap().len());
    // In the bundle, the package's own, twice.
    let bundle = Bundle::read(&package.bundle).unwrap();
    let sum = package.checksum("sha256sum", "vdvs.vib");
    let copies = bundle.metadata.values();
    let naming = copies.filter(|bytes| String::from_utf8_lossy(bytes).contains(&sum));
    assert_eq!(naming.count(), 2);
}

#[test]
fn pythons_zip_reader_finds_the_bundle_sound() {
    const CHECK: &str = "
import io, sys, zipfile, xml.etree.ElementTree as tree
outer = zipfile.ZipFile('bundle.zip')
assert outer.testzip() is None
index = tree.fromstring(outer.read('index.xml'))
metadata = tree.fromstring(outer.read(index.findtext('vendor/indexfile')))
assert [m.findtext('version') for m in metadata] == ['7.*', '8.*', '9.*']
inner = zipfile.ZipFile(io.BytesIO(outer.read(metadata.findtext('metadata/url'))))
assert inner.testzip() is None
response = tree.fromstring(inner.read('vmware.xml'))
vib = response.find('bulletin/vibList/vib')
package = outer.read(vib.findtext('vibFile/relativePath'))
assert len(package) == int(vib.findtext('vibFile/packedSize'))
open('from-bundle.vib', 'wb').write(package)
for part in response.findall('bulletin'):
    alone = tree.fromstring(inner.read('bulletins/%s.xml' % part.findtext('id')))
    for name in ['id', 'releaseDate', 'severity']:
        assert alone.findtext(name) == part.findtext(name) != '', name
    assert alone.find('componentVersionSpec').get('version') == vib.findtext('version')
    print(alone.find('componentNameSpec').get('name'), alone.findtext('vibList/vibID'))
times = {e.date_time for z in (outer, inner) for e in z.infolist()}
assert times == {(1980, 1, 1, 0, 0, 0)}, times
";
    let package = Package::new();
    let said = package.run("python3", &["-c", CHECK]);
    assert_eq!(said, "vdvs vDVS_bootbank_vdvs_0.1.0-1.0.1795271000\n");
    assert!(fs::read(package.path("from-bundle.vib")).unwrap() == package.vib);
}

#[test]
fn esxis_own_form_of_reader_lists_the_payload() {
    let Some(vmtar) = vmtar() else { return };
    let package = Package::new();
    package.gunzip();
    let vib = Vib::read(&package.vib).unwrap();
    for form in ["vdvs", "payload.tar"] {
        let said = Cmd::new(&vmtar)
            .args(["-v", "-l", form])
            .current_dir(package.dir.path())
            .run()
            .unwrap();
        assert_eq!(listing(&said), ours(&vib), "{form}");
    }
    Cmd::new(&vmtar)
        .args(["-e", "payload.tar", "by-vmtar"])
        .current_dir(package.dir.path())
        .run()
        .unwrap();
    for entry in vib.entries().filter(|e| e.kind == Kind::File) {
        let there = fs::read(package.path("by-vmtar").join(&entry.path)).unwrap();
        assert!(there == entry.data, "{} differs", entry.path);
    }
}

/// The reader, installed once; none, after saying why, where it cannot be.
fn vmtar() -> Option<PathBuf> {
    let dir = target_dir().unwrap().join("peers/dissect");
    let program = dir.join("bin/vmtar");
    if program.exists() {
        return Some(program);
    }
    fs::create_dir_all(dir.parent().unwrap()).unwrap();
    let made = Cmd::new("/usr/bin/python3")
        .args(["-m", "venv", "--clear"])
        .arg(&dir)
        .limit(INSTALL_LIMIT)
        .run();
    let installed = made.and_then(|_| {
        Cmd::new(dir.join("bin/pip"))
            .args(["install", "--quiet", "--disable-pip-version-check", VMTAR])
            .limit(INSTALL_LIMIT)
            .run()
    });
    match installed {
        Ok(_) => Some(program),
        Err(error) => {
            eprintln!("skipped: {VMTAR} cannot be installed: {error:#}");
            None
        }
    }
}

#[test]
fn what_is_built_twice_is_the_same_and_breaks_no_rule() {
    let package = Package::new();
    assert!(build() == package.vib);
    assert_eq!(rules::package(&package.vib).unwrap(), []);
    assert_eq!(rules::bundle(&package.bundle).unwrap(), []);
}

#[test]
fn every_command_of_the_command_line_is_one_of_esxcli() {
    let vib = Vib::read(&build()).unwrap();
    let text = String::from_utf8(vib.file(PLUGIN).unwrap().data.clone()).unwrap();
    let mut commands = Vec::new();
    leaves(&mut Vec::new(), &mut commands);
    assert!(commands.len() > 30, "{commands:?}");
    for command in commands {
        let path = format!(
            "<command path=\"storage.guestvol.{}\">",
            command.replace(' ', ".")
        );
        assert!(text.contains(&path), "esxcli has no '{command}'");
        // Its back end reads the line, and gets as far as the agent or as an argument that lacks.
        let mut words = vec!["esxcli"];
        words.extend(command.split(' '));
        let done = vdvs(&words);
        let code = done.status.code().unwrap();
        assert!(
            [0, 2, 7].contains(&code),
            "{command}: {code} {}",
            done.stdout
        );
        assert!(
            done.stdout.starts_with("<?xml") && !done.stdout.contains("there is no command"),
            "{command}: {}",
            done.stdout
        );
    }
}

/// Every command, found by asking for help.
fn leaves(path: &mut Vec<String>, found: &mut Vec<String>) {
    let mut words: Vec<&str> = path.iter().map(String::as_str).collect();
    words.push("--help");
    let help = vdvs(&words).stdout;
    let below: Vec<String> = help
        .split_once("\nCommands:\n")
        .map(|(_, rest)| rest.lines().take_while(|l| l.starts_with("  ")))
        .into_iter()
        .flatten()
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .filter(|name| !NOT_FOR_ESXCLI.contains(&name.as_str()))
        .collect();
    if below.is_empty() {
        found.push(path.join(" "));
    }
    for name in below {
        path.push(name);
        leaves(path, found);
        path.pop();
    }
}
