//! `vdvs-plugin doctor`: what is wrong on this machine, and the one command that helps.
//!
//! It looks from outside, changes nothing, and works while the plugin runs, hangs or is not there. Each look has a time
//! limit. What it can decide it says; a mount that comes or goes while it looks is looked at twice. The host's side of
//! the same is `vdvs doctor`; docs/doctor.md has both.
//!
//! | module | looks at |
//! |---|---|
//! | `reach` | the plugin, the agent, its clock and version |
//! | `engine` | dockerd, swarm, local volumes that hide ours |
//! | `containers` | what dockerd holds of ours, and what containers keep beside it |
//! | `machine` | programs and the kernel |
//! | `held` | mounts and disks against the journal |
//!
//! Exit code: 0 nothing found, 1 something asks for attention, 2 volumes cannot be used.

mod containers;
mod engine;
mod held;
mod machine;
mod reach;

use std::path::Path;

use nix::unistd::geteuid;

use crate::journal::peek;
use crate::settings::Settings;

/// What is looked at; `docs/doctor.md` has a row for each.
pub const ABOUTS: &[&str] = &[
    "settings", "user", "plugin", "agent", "clock", "versions", "docker", "swarm", "names", "used",
    "images", "formats", "kernel", "journal", "mounts", "disks",
];

/// How bad a finding is; the worst is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Fine = 0,
    /// It works, and something asks for attention.
    Attention = 1,
    /// Volumes cannot be used.
    Broken = 2,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub about: &'static str,
    /// How it is.
    pub level: Level,
    /// In words.
    pub text: String,
    /// What to do, when something is to be done.
    pub act: Option<String>,
}

impl Finding {
    fn fine(about: &'static str, text: impl Into<String>) -> Self {
        debug_assert!(
            ABOUTS.contains(&about),
            "{about} has no row in docs/doctor.md"
        );
        Self {
            about,
            level: Level::Fine,
            text: text.into(),
            act: None,
        }
    }

    fn bad(
        about: &'static str,
        level: Level,
        text: impl Into<String>,
        act: impl Into<String>,
    ) -> Self {
        debug_assert!(
            ABOUTS.contains(&about),
            "{about} has no row in docs/doctor.md"
        );
        Self {
            about,
            level,
            text: text.into(),
            act: Some(act.into()),
        }
    }
}

/// Looks at everything, and tells each finding.
pub fn doctor(settings: &Settings, tell: &mut dyn FnMut(&Finding)) -> Level {
    let mut worst = Level::Fine;
    let mut say = |findings: Vec<Finding>| {
        for finding in findings {
            worst = worst.max(finding.level);
            tell(&finding);
        }
    };
    if !geteuid().is_root() {
        let text = "not run by root: sockets and the journal may look absent";
        say(vec![Finding::bad(
            "user",
            Level::Attention,
            text,
            "sudo vdvs-plugin doctor",
        )]);
    }
    say(vec![reach::plugin(&settings.socket)]);
    say(reach::agent(&settings.agent));
    say(engine::engine(settings));
    say(containers::containers(settings));
    let root = Path::new("/");
    say(machine::programs(root));
    say(machine::kernel(root, &settings.agent));
    match peek(&settings.state) {
        Ok(held) => {
            say(held::mounts(settings, &held));
            say(held::disks(settings, &held));
        }
        Err(error) => {
            let at = settings.state.display();
            let text = format!("the journal in {at} cannot be read: {error}");
            let act = "run as root; a damaged journal is set aside and rebuilt when the plugin starts: systemctl restart vdvs-plugin";
            say(vec![Finding::bad("journal", Level::Attention, text, act)]);
        }
    }
    worst
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn everything_absent_is_named_with_a_command_each() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let given = [
            ("Socket", at("vsphere.sock")),
            ("Agent", format!("unix:{}", at("1019"))),
            ("StateDir", at("state")),
            ("MountRoot", at("mnt")),
            ("Docker", format!("unix:{}", at("docker.sock"))),
        ]
        .into_iter()
        .collect();
        let settings = Settings::resolve(&[&given]).unwrap();
        let mut found = Vec::new();
        let level = doctor(&settings, &mut |finding| found.push(finding.clone()));
        assert_eq!(level, Level::Broken);
        for about in ["plugin", "agent", "docker"] {
            let finding = found.iter().find(|f| f.about == about).unwrap();
            assert!(
                finding.level > Level::Fine && finding.act.is_some(),
                "{finding:?}"
            );
        }
        assert!(
            found
                .iter()
                .all(|f| (f.level > Level::Fine) == f.act.is_some())
        );
        assert!(
            fs::read_dir(folder.path()).unwrap().next().is_none(),
            "it made something"
        );
    }

    #[test]
    fn the_documentation_has_everything_that_is_looked_at() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/doctor.md");
        let page = fs::read_to_string(page).unwrap();
        let row = |line: &'_ str| {
            let name = line.strip_prefix("| `guest:")?.split('`').next()?;
            Some(name.to_owned())
        };
        let rows: Vec<String> = page.lines().filter_map(row).collect();
        assert_eq!(rows, ABOUTS);
    }
}
