//! Building programs so that they run on any Linux of this processor: static, at a fixed address.
//!
//! With musl where its target can be had, which takes one download; otherwise with the C library of this machine, after
//! a warning. Either way the file is read afterwards: a program that still wants a loader or libraries is an error.

use std::env;
use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use vdvs_testkit::lab::target_dir;
use vdvs_testkit::process::Cmd;

use super::elf;
use crate::program;

/// A program that ships.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) package: &'static str,
    pub(super) bin: &'static str,
    /// Compiler flags of its own.
    flags: &'static [&'static str],
    /// Settings of the release profile, for it alone.
    profile: &'static [&'static str],
}

/// The guest's program.
pub(super) const PLUGIN: Program = Program {
    package: "vdvs-plugin",
    bin: "vdvs-plugin",
    flags: &[],
    profile: &[],
};

/// The administrator's command line.
pub(super) const ADMIN: Program = Program {
    package: "vdvs-admin",
    bin: "vdvs",
    flags: &[],
    profile: &[],
};

/// The agent. Its runtime waits by `poll(2)` and wakes itself through a pipe: a hypervisor's kernel may have no epoll and
/// no eventfd (docs/adr/0095).
pub(super) const AGENT: Program = Program {
    package: "vdvs-agent",
    bin: "vdvsd",
    flags: &[
        "--cfg=mio_unsupported_force_poll_poll",
        "--cfg=mio_unsupported_force_waker_pipe",
    ],
    // Of what it does, nothing waits for the processor (docs/adr/0098).
    profile: &["profile.release.opt-level=\"z\""],
};

/// binutils; whoever can link has it.
const STRIP: &str = "/usr/bin/strip";

/// How it is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quality {
    /// As it ships.
    Release,
    /// Quickly, for the suites.
    Debug,
}

impl Quality {
    pub(super) fn folder(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Debug => "debug",
        }
    }
}

/// The C library a program brings along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Libc {
    Musl,
    Gnu,
}

impl Libc {
    pub(super) fn target(self) -> String {
        match self {
            Self::Musl => format!("{ARCH}-unknown-linux-musl"),
            Self::Gnu => format!("{ARCH}-unknown-linux-gnu"),
        }
    }

    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Musl => &["-C", "relocation-model=static"],
            Self::Gnu => &[
                "-C",
                "relocation-model=static",
                "-C",
                "target-feature=+crt-static",
            ],
        }
    }
}

/// The C library to build with: musl, fetched if need be, where there is a C compiler for it, which some crates want.
pub(super) fn libc() -> Libc {
    let compiler = format!("{ARCH}-linux-musl-gcc");
    if !is_on_path(&compiler) {
        println!(
            "warning: no {compiler} (package musl-tools); static with this machine's C library instead"
        );
        return Libc::Gnu;
    }
    let target = Libc::Musl.target();
    if has_target(&target) {
        return Libc::Musl;
    }
    println!("$ rustup target add {target}");
    match program::toolchain_output("rustup", &["target", "add", &target]) {
        Ok(_) => Libc::Musl,
        Err(error) => {
            println!("warning: no musl ({error:#}); static with this machine's C library instead");
            Libc::Gnu
        }
    }
}

fn is_on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn has_target(target: &str) -> bool {
    program::toolchain_output("rustc", &["--print", "target-libdir", "--target", target])
        .is_ok_and(|said| Path::new(said.trim()).is_dir())
}

/// Builds the program and returns where cargo put it; none: cargo failed and said why.
pub(super) fn build(what: Program, libc: Libc, quality: Quality) -> Result<Option<PathBuf>> {
    let target = libc.target();
    let flags = format!(
        "target.{target}.rustflags={}",
        as_toml(&[libc.flags(), what.flags].concat(), &paths_hidden()?)
    );
    let mut args = vec![
        "build",
        "--locked",
        "--package",
        what.package,
        "--bin",
        what.bin,
        "--target",
        &target,
        "--config",
        &flags,
    ];
    for setting in what.profile {
        args.extend(["--config", setting]);
    }
    if quality == Quality::Release {
        args.push("--release");
    }
    if !program::cargo(&args, &[])?.ok {
        return Ok(None);
    }
    Ok(Some(
        target_dir()?
            .join(target)
            .join(quality.folder())
            .join(what.bin),
    ))
}

/// Tables by which a program unwinds. One that aborts on a panic never does.
const UNWINDING: [&str; 3] = [
    "--remove-section=.eh_frame",
    "--remove-section=.eh_frame_hdr",
    "--remove-section=.gcc_except_table",
];

/// As [`strip`], without the tables to unwind by, which are an eighth of it: for a program whose size counts.
pub(super) fn strip_bare(from: &Path, to: &Path) -> Result<u64> {
    strip_with(&UNWINDING, from, to)
}

/// Copies a program without what only a debugger needs, and makes sure that it needs nothing to start and starts where it
/// was linked to.
pub(super) fn strip(from: &Path, to: &Path) -> Result<u64> {
    strip_with(&[], from, to)
}

fn strip_with(more: &[&str], from: &Path, to: &Path) -> Result<u64> {
    Cmd::new(STRIP)
        .arg("--strip-all")
        .args(more)
        .arg("-o")
        .arg(to)
        .arg(from)
        .run()
        .context("strip is in the package binutils")?;
    let bytes = fs::read(to).with_context(|| format!("read {}", to.display()))?;
    let elf = elf::read(&bytes).with_context(|| from.display().to_string())?;
    ensure!(
        elf.interpreter.is_none() && !elf.dynamic && elf.needed.is_empty(),
        "{} is not static: {elf:?}",
        from.display()
    );
    ensure!(
        elf.fixed,
        "{} is not linked to a fixed address",
        from.display()
    );
    Ok(bytes.len().try_into()?)
}

/// What is linked in, one line each: name, version, licence.
pub(super) fn crates(what: Program, libc: Libc) -> Result<String> {
    let target = libc.target();
    let args = [
        "tree",
        "--locked",
        "--package",
        what.package,
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--target",
        &target,
        "--format",
        "{p}|{l}",
    ];
    let said = String::from_utf8(program::cargo_output(&args)?).context("cargo prints UTF-8")?;
    let mut lines: Vec<String> = said
        .lines()
        .filter_map(|line| {
            let (package, licence) = line.split_once('|')?;
            // `name v1 (path or proc-macro)|MIT (*)`
            let name: Vec<&str> = package.split(' ').take(2).collect();
            let licence = licence.trim_end_matches(" (*)");
            (!name.first()?.starts_with("vdvs-")).then(|| format!("{} {licence}\n", name.join(" ")))
        })
        .collect();
    lines.sort();
    lines.dedup();
    ensure!(lines.len() > 10, "cargo lists no crates: {said}");
    let libc = match libc {
        Libc::Musl => "musl libc MIT\n",
        Libc::Gnu => "GNU C library LGPL-2.1-or-later\n",
    };
    Ok(format!(
        "Linked into {}:\n\nRust standard library MIT OR Apache-2.0\n{libc}{}",
        what.bin,
        lines.concat()
    ))
}

/// Texts of panics name source files; where those lie on the machine that built is nobody's business.
fn paths_hidden() -> Result<Vec<String>> {
    let clone = program::root()?;
    let registry = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cargo")));
    let mut flags = vec![format!("--remap-path-prefix={}=vdvs", clone.display())];
    if let Some(registry) = registry {
        flags.push(format!("--remap-path-prefix={}=cargo", registry.display()));
    }
    Ok(flags)
}

fn as_toml(fixed: &[&str], more: &[String]) -> String {
    let all = fixed.iter().copied().chain(more.iter().map(String::as_str));
    let quoted: Vec<String> = all.map(|flag| format!("'{flag}'")).collect();
    format!("[{}]", quoted.join(","))
}
