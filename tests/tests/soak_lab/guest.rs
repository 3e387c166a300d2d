//! One guest: containers, volumes made and removed, questions. Whatever fails while things die may fail; what must never
//! happen is an answer that is wrong.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use uuid::Uuid;
use vdvs_testkit::lab::{NOTES, Node, Profile, built};
use vdvs_testkit::process::{Cmd, tool};
use vdvs_testkit::wait::until_true;
use vdvs_tests::rig::Rig;

use crate::DATASTORES;
use crate::dice::Dice;
use crate::known::{Known, VOLUMES};

/// The writer of the independent check, as a program.
const WRITER: &str = "writer-check";
/// A whole line of it, as grep and the shell take it.
const WHOLE: &str = "'^[^ ]* [0-9]* [0-9]* [0-9]*$'";
/// After a refusal, until the next try.
const PAUSE: Duration = Duration::from_millis(100);
/// Lines of one container, at most.
const LINES: usize = 12;
/// Volumes everybody likes: there is contention.
const HOT: usize = 6;
/// At the end nothing dies any more, and everything works within this.
const SURE: Duration = Duration::from_secs(120);

/// Puts the writer where programs of the node find it.
pub(crate) fn install(node: &Node) -> Result<()> {
    let to = node.notes_dir().join(WRITER);
    fs::copy(built(Profile::Debug, WRITER)?, &to)
        .map(drop)
        .with_context(|| format!("write {}", to.display()))
}

/// A guest at work.
pub(crate) struct Guest<'a> {
    rig: &'a Rig,
    known: &'a Known,
    node: String,
    dice: Dice,
}

impl<'a> Guest<'a> {
    pub(crate) fn new(rig: &'a Rig, known: &'a Known, node: &str, dice: Dice) -> Self {
        Self {
            rig,
            known,
            node: node.to_owned(),
            dice,
        }
    }

    /// Until it is told to stop.
    pub(crate) fn work(mut self, stop: &AtomicBool) -> Result<()> {
        while !stop.load(Ordering::SeqCst) {
            self.step().with_context(|| format!("on {}", self.node))?;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<()> {
        let names = self.known.usable();
        let any = self.dice.pick(&names).clone();
        match self.dice.below(20) {
            0 | 1 if names.len() < VOLUMES => self.try_create(),
            0 | 1 => self.try_remove(),
            2 => self.ask(&any),
            3..=6 => {
                let hot = self.dice.below(HOT.min(names.len()));
                self.container(&names[hot].clone())
            }
            _ => self.container(&any),
        }
    }

    fn call(&self, verb: &str, body: &Value) -> Result<Value> {
        self.rig.ask_plugin(&self.node, verb, body)
    }

    /// A volume on one of the datastores, or where the default is.
    pub(crate) fn create(&mut self) -> Result<()> {
        let on = match self.dice.below(3) {
            0 => String::new(),
            n => format!("@{}", DATASTORES[n - 1]),
        };
        self.create_on(&on)
    }

    /// The same where it is said: `@<datastore>`, or nothing.
    pub(crate) fn create_on(&mut self, on: &str) -> Result<()> {
        let name = format!("{}{on}", self.known.fresh());
        let fence = json!({"size": "20mb", "failover": "fence", "fence-after": "2"});
        let options = if self.dice.once_in(3) {
            fence
        } else {
            json!({"size": "20mb"})
        };
        let made = self.call("Create", &json!({"Name": name, "Opts": options}));
        match &made {
            Ok(_) => self.known.created(&name),
            Err(why) if never_asked(&said(why)) => {}
            Err(_) => self.known.unsure(&name),
        }
        made.map(drop)
    }

    fn try_create(&mut self) -> Result<()> {
        let made = self.create();
        self.tally("create", &made);
        Ok(())
    }

    /// One that nobody wants any more, or one of which nobody knows whether it is gone.
    fn try_remove(&mut self) -> Result<()> {
        let doubtful = self.known.take_doubt();
        let again = doubtful.is_some();
        let any = self.dice.pick(&self.known.usable()).clone();
        let name = doubtful.unwrap_or(any);
        if !again && !self.known.leaving(&name) {
            return Ok(());
        }
        let removed = self.call("Remove", &json!({"Name": name}));
        self.tally("remove", &removed);
        let said = removed.err().map(|why| said(&why)).unwrap_or_default();
        let holds = ["attached", "mounted", "in use"]
            .iter()
            .any(|word| said.contains(word));
        let never_asked = !again && never_asked(&said);
        if said.is_empty() || said.contains("not found") {
            self.known.removed(&name);
        } else if !again && (holds || never_asked) {
            self.known.stays(&name);
        } else {
            self.known.in_doubt(&name);
        }
        Ok(())
    }

    /// Every volume that is there is told to be there, or nothing is told.
    fn ask(&mut self, name: &str) -> Result<()> {
        let before = self.known.promised(name);
        let answer = self.call("Get", &json!({"Name": name}));
        self.tally("get", &answer);
        self.not_denied(name, before.is_some(), &answer)
    }

    fn not_denied(&self, name: &str, promised: bool, answer: &Result<Value>) -> Result<()> {
        if let Err(why) = answer
            && promised
            && self.known.promised(name).is_some()
        {
            let said = said(why);
            ensure!(!said.contains("not found"), "{name} is denied: {said}");
        }
        Ok(())
    }

    /// A container: mounts, reads, writes, unmounts. Dies with its machine.
    fn container(&mut self, name: &str) -> Result<()> {
        let Some(before) = self.known.promised(name) else {
            return Ok(());
        };
        let id = Uuid::new_v4().simple().to_string();
        let body = json!({"Name": name, "ID": id});
        let mounted = self.call("Mount", &body);
        self.tally("mount", &mounted);
        self.not_denied(name, true, &mounted)?;
        let Ok(mounted) = mounted else {
            return Ok(());
        };
        let at = mounted["Mountpoint"].as_str().context("a mount point")?;
        let worked = self.read_and_write(name, at, before.acknowledged);
        let unmounted = self.call("Unmount", &body);
        self.tally("unmount", &unmounted);
        worked
    }

    /// One process that stays in the volume, as a container would: first it says the last whole line, then it writes.
    fn read_and_write(&mut self, name: &str, at: &str, before: u64) -> Result<()> {
        let count = self.dice.between(1, LINES);
        let script = format!(
            "cd {at} || exit 1; grep -a {WHOLE} writes.log 2> /dev/null | tail -n 1 > /tmp/last.$$; \
             echo \"last $(cat /tmp/last.$$)\"; rm -f /tmp/last.$$; \
             exec {NOTES}/{WRITER} write writes.log --node {} --interval-ms 2 --lines {count}",
            self.node
        );
        // Its power may be cut at any moment.
        let node = self.rig.node(&self.node)?;
        let Ok(ran) = node.exec(tool::BASH, ["-c", &script]).and_then(Cmd::output) else {
            return Ok(());
        };
        // Printed is acknowledged, however it ended. The last may be torn.
        let whole = ran.stdout.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let last = whole
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("last "));
        let wrote = whole
            .lines()
            .skip(1)
            .filter_map(|line| line.parse().ok())
            .max();
        if let (Some(last), Some(line)) = (last, wrote) {
            // The disk took a line after that, so it was readable before.
            must_be_there(name, last, before)?;
            self.known.acknowledged(name, line);
            self.known.count_one("containers that wrote");
        }
        Ok(())
    }

    /// Nothing dies any more: the volume can be mounted, and holds what was acknowledged.
    pub(crate) fn read(&mut self, name: &str) -> Result<()> {
        let promised = self.known.promised(name);
        let body = json!({"Name": name, "ID": Uuid::new_v4().simple().to_string()});
        let mounted = match self.call("Mount", &body) {
            // Nobody was told whether it was removed.
            Err(why) if promised.is_none() && said(&why).contains("not found") => {
                self.known.removed(name);
                return Ok(());
            }
            other => other?,
        };
        let at = mounted["Mountpoint"].as_str().context("a mount point")?;
        let node = self.rig.node(&self.node)?;
        let last = format!("grep -a {WHOLE} {at}/writes.log 2> /dev/null | tail -n 1");
        let last = node.sh(&last)?;
        if let Some(promised) = promised {
            must_be_there(name, &last, promised.acknowledged)?;
        }
        self.call("Unmount", &body).map(drop)
    }

    /// Nothing dies any more: it can be removed.
    pub(crate) fn must_remove(&mut self, name: &str) -> Result<()> {
        let mut last = String::new();
        until_true(SURE, &format!("{name} is removed"), || {
            match self.call("Remove", &json!({"Name": name})) {
                Ok(_) => Ok(true),
                Err(why) => {
                    last = said(&why);
                    Ok(last.contains("not found"))
                }
            }
        })
        .with_context(|| last)
    }

    fn tally<T>(&self, verb: &str, answer: &Result<T>) {
        let how = match answer {
            Ok(_) => "done",
            Err(why) if said(why).contains("no answer") => "cut off",
            Err(why) if never_asked(&said(why)) => "nobody there",
            Err(_) => "refused",
        };
        self.known.count_one(&format!("{verb} {how}"));
        if let (Err(why), "refused") = (answer, how) {
            self.known
                .count_one(&format!("{verb} refused: {}", plain(&said(why))));
        }
        if answer.is_err() {
            self.rig.after(PAUSE);
        }
    }
}

/// Nobody was there to hear the question.
fn never_asked(said: &str) -> bool {
    ["connect to", "is off"]
        .iter()
        .any(|word| said.contains(word))
}

/// The beginning of a text without what differs from volume to volume.
fn plain(text: &str) -> String {
    let same = |word: &&str| !word.contains(|c: char| c.is_ascii_digit());
    let words: Vec<&str> = text.split_whitespace().filter(same).take(14).collect();
    words.join(" ")
}

fn said(why: &anyhow::Error) -> String {
    format!("{why:#}")
}

/// The last line is as new as the newest that was acknowledged.
fn must_be_there(name: &str, last: &str, acknowledged: u64) -> Result<()> {
    let line: u64 = last
        .split(' ')
        .nth(2)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    ensure!(
        line >= acknowledged,
        "{name}: line {acknowledged} was acknowledged, and the last is '{last}'"
    );
    Ok(())
}
