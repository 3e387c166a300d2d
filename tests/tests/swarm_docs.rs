//! The documentation, command by command: every `console` block of the pages is run where it says, in one lab, and
//! what the pages show is compared with what the programs say.

#[path = "swarm_docs/original.rs"]
mod original;
#[path = "swarm_docs/page.rs"]
mod page;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use page::{End, Place, Step};
use vdvs_testkit::lab::{
    BUSYBOX, DEFAULT_DATASTORE, Datastore, Images, LabConfig, POSTGRES, workspace_dir,
};
use vdvs_testkit::process::{Cmd, tool};
use vdvs_testkit::wait::until;
use vdvs_tests::rig::{Program, Rig, Setup};

/// The pages, in the order a person meets them.
const PAGES: [&str; 5] = [
    "install-guest.md",
    "volumes.md",
    "failover.md",
    "backup.md",
    "uninstall.md",
];
/// One command; some wait for an orderly stop of a container.
const COMMAND: Duration = Duration::from_secs(120);
/// Until something shows at last.
const AT_LAST: Duration = Duration::from_secs(120);

struct Lab {
    rig: Rig,
    /// Where a reader's files are on the host.
    folder: PathBuf,
}

/// Where they are in a node, whose other folders cannot be written to.
const IN_NODE: &str = "/run/reader";
const NODES: [&str; 2] = ["swarm01", "swarm02"];

impl Lab {
    fn command(&self, place: Place, line: &str) -> Result<Cmd> {
        let folder = match place {
            Place::Host => self.folder.as_path(),
            Place::Guest | Place::OtherGuest => Path::new(IN_NODE),
        };
        let line = format!("cd {} && {{ {line}\n}} 2>&1", folder.display());
        let node = match place {
            Place::Guest => self.rig.node("swarm01")?,
            Place::OtherGuest => self.rig.node("swarm02")?,
            Place::Host => {
                let bin = self.rig.lab().layout().bin_dir();
                let system = Path::new("/usr/bin");
                let path = env::join_paths([&bin, Path::new("/usr/sbin"), system])?;
                let socket = self.rig.lab().layout().admin_socket(self.rig.host().name());
                return Ok(Cmd::new(tool::BASH)
                    .args(["-c", &line])
                    .clean_env()
                    .env("PATH", path)
                    .env("VDVS_ADMIN_SOCKET", socket)
                    .env(
                        "VDVS_DATASTORE",
                        self.rig.host().datastore(DEFAULT_DATASTORE),
                    ));
            }
        };
        // Where a node has our programs.
        let line = format!("PATH=/opt/vdvs:$PATH; {line}");
        node.exec(tool::BASH, ["-c", &line])
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        fs::write(self.folder.join(name), text)?;
        for node in NODES {
            let folder = self.rig.node(node)?.path_inside(IN_NODE)?;
            fs::write(folder.join(name), text)?;
        }
        Ok(())
    }

    fn run(&self, step: &Step) -> Result<()> {
        let Step::Run {
            place,
            end,
            command,
            shown,
            ..
        } = step
        else {
            return Ok(());
        };
        let once = || -> Result<(bool, String)> {
            let done = self.command(*place, command)?.limit(COMMAND).output()?;
            // Whether this machine is low on space is not the page's subject.
            let warned = command.starts_with("vdvs status") && done.status.code() == Some(1);
            Ok((done.success() || warned, done.stdout))
        };
        let good = |(succeeded, said): &(bool, String)| {
            *succeeded == (*end != End::Refused) && page::matches(shown, said)
        };
        let mut last = once()?;
        if *end == End::Until && !good(&last) {
            let seen = until(AT_LAST, "what the page shows", || {
                last = once()?;
                Ok(good(&last).then_some(()))
            });
            seen.with_context(|| format!("last: {}", last.1))?;
        }
        ensure!(
            good(&last),
            "it {}, and said:\n{}\nthe page shows:\n{}",
            if last.0 { "succeeded" } else { "failed" },
            last.1,
            shown.join("\n")
        );
        Ok(())
    }

    fn page(&self, name: &str) -> Result<()> {
        let path = workspace_dir()?.join("docs").join(name);
        let text = fs::read_to_string(&path).with_context(|| format!("docs/{name}"))?;
        let steps = page::steps(&text).with_context(|| format!("docs/{name}"))?;
        let begun = Instant::now();
        let mut skipped = 0;
        for step in &steps {
            match step {
                Step::File { name, text } => self.write(name, text)?,
                Step::Skip { line, why } => {
                    skipped += 1;
                    eprintln!("docs/{name}:{line}: skipped: {why}");
                }
                Step::Run { line, command, .. } => self
                    .run(step)
                    .with_context(|| format!("docs/{name}:{line}: $ {command}"))?,
            }
        }
        let ran = steps.len() - skipped;
        ensure!(ran > 0, "docs/{name}: nothing was run");
        eprintln!(
            "docs/{name}: {ran} steps, {skipped} skipped, {:?}",
            begun.elapsed()
        );
        Ok(())
    }
}

/// A lab for pages: two guests with the images a reader pulls, in a swarm. Counts are doubted as late as in a reader's
/// guests: on a busy machine an orderly Unmount comes seconds after its container has ended.
fn lab(config: &LabConfig, setup: Setup) -> Result<Option<Lab>> {
    let setup = Setup {
        doubt_after: None,
        ..setup
    };
    let Some(rig) = Rig::up_lab(config, setup)? else {
        return Ok(None);
    };
    let images = Images::prepare()?;
    for name in NODES {
        fs::create_dir_all(rig.node(name)?.path_inside(IN_NODE)?)?;
        let docker = rig.docker(name);
        images.import_postgres(&docker)?;
        // By the names that a reader knows from a registry.
        docker.run(&["tag", BUSYBOX, "busybox"])?;
        docker.run(&["tag", POSTGRES, "postgres:15"])?;
    }
    let address = rig.node("swarm01")?.address()?;
    rig.docker("swarm01")
        .run(&["swarm", "init", "--advertise-addr", &address])?;
    let folder = rig.lab().layout().root().join("reader");
    fs::create_dir_all(&folder)?;
    Ok(Some(Lab { rig, folder }))
}

#[test]
fn the_administrators_guide_does_what_it_shows() -> Result<()> {
    let datastores = [
        Datastore::new(DEFAULT_DATASTORE, "vsan"),
        Datastore::new("testDatastore", "vmfs"),
    ];
    let config = LabConfig::new("e-t-guide", 2).with_datastores(&datastores);
    let Some(lab) = lab(&config, Setup::default())? else {
        return Ok(());
    };
    lab.page("admin-guide.md")?;
    lab.rig.finish_empty()
}

#[test]
fn the_way_from_the_original_and_back_is_as_the_page_shows_it() -> Result<()> {
    let Some(lab) = lab(&LabConfig::new("e-t-original", 2), Setup::default())? else {
        return Ok(());
    };
    for text in ["no agent; the journal answers", "Configuration not found."] {
        let why = "the host's agent is exchanged, and closed until there is a configuration";
        lab.rig.expect_complaint(Program::Plugin, text, why);
    }
    original::leave_behind(&lab.rig, &lab.folder)?;
    lab.page("upgrade-from-original.md")?;
    lab.rig
        .docker("swarm01")
        .run(&["volume", "rm", "letters"])?;
    lab.rig.finish_empty()
}

#[test]
fn every_command_of_the_documentation_does_what_the_page_shows() -> Result<()> {
    // Above the time after which the page's volume is fenced, and short where a page shows a wait in vain.
    let setup = Setup {
        mount_budget: Some(25),
        ..Setup::default()
    };
    let Some(lab) = lab(&LabConfig::new("e-t-docs", 2), setup)? else {
        return Ok(());
    };
    lab.rig.expect_complaint(
        Program::Plugin,
        "volume is lost to this guest",
        "the page on failover shows a fence",
    );
    lab.rig.expect_complaint(
        Program::Plugin,
        "mount failed volume=papers",
        "the page on failover shows a wait in vain",
    );
    for page in PAGES {
        lab.page(page)?;
    }
    lab.rig.finish_empty()
}
