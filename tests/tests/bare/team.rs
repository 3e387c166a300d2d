//! Several VMs, each with a plugin that runs inside it and really mounts, and an administrator at the command line.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use vdvs_host_lab::BlockingClient;
use vdvs_testkit::lab::{ADMIN, PLUGIN, Profile, built};
use vdvs_testkit::process::{Cmd, Finished, ProcId, tool};
use vdvs_testkit::wait::until_true;

use super::{Bare, SOON, docker};

impl Bare {
    /// The process that is a VM.
    pub(crate) fn init(&self, vm: &str) -> Result<ProcId> {
        let found = self.inits.iter().find(|(name, _)| name == vm);
        found
            .map(|(_, init)| *init)
            .with_context(|| format!("{vm} is off"))
    }

    /// The log of the plugin inside a VM.
    pub(crate) fn log_inside(&self, vm: &str) -> PathBuf {
        self.path().join(format!("plugin-{vm}.log"))
    }

    /// Where the plugin inside a VM listens.
    pub(crate) fn socket_inside(&self, vm: &str) -> PathBuf {
        self.path().join(format!("{vm}.sock"))
    }

    /// Starts a plugin inside a VM, with the VM's devices and mounts.
    pub(crate) fn start_inside(&mut self, vm: &str) -> Result<()> {
        self.start_inside_with(vm, &[])
    }

    /// The same with more arguments.
    pub(crate) fn start_inside_with(&mut self, vm: &str, more: &[&str]) -> Result<()> {
        let init = self.init(vm)?;
        let at = |what: &str| self.path().join(format!("{what}-{vm}"));
        let cmd = Cmd::new(tool::NSENTER)
            .args(["--mount", "--target", &init.pid.to_string(), "--"])
            .arg(built(Profile::Debug, PLUGIN)?)
            .args(["run", "--docker", "none", "--group", "0"])
            .args(more)
            .args(["--agent", &format!("unix:{}", self.vsock(vm).display())])
            .arg("--socket")
            .arg(self.socket_inside(vm))
            .arg("--state")
            .arg(at("state"))
            .arg("--mount-root")
            .arg(at("mnt"));
        let plugin = cmd.daemon(&self.log_inside(vm))?;
        self.inside.push((vm.to_owned(), plugin));
        until_true(SOON, "the plugin inside the VM listens", || {
            Ok(docker::call(&self.socket_inside(vm), "List", &json!({})).is_ok())
        })
    }

    /// The plugin's process inside a VM.
    pub(crate) fn plugin_inside(&self, vm: &str) -> Option<ProcId> {
        let found = self.inside.iter().find(|(name, _)| name == vm);
        found.map(|(_, plugin)| *plugin)
    }

    /// Ends a VM as a power cut does: the plugin in it too.
    pub(crate) fn power_off(&mut self, vm: &str) -> Result<()> {
        let plugin = self.inside.iter().position(|(name, _)| name == vm);
        if let Some(at) = plugin {
            self.inside.remove(at).1.kill()?;
        }
        let at = self.inits.iter().position(|(name, _)| name == vm);
        let (_, init) = self
            .inits
            .remove(at.with_context(|| format!("{vm} is off"))?);
        init.kill()?;
        fs::remove_file(self.socket_inside(vm)).ok();
        Ok(())
    }

    /// Switches a VM on again, with a plugin inside it.
    pub(crate) fn boot(&mut self, vm: &str) -> Result<()> {
        self.power_on(vm)?;
        self.start_inside(vm)
    }

    /// Unregisters a VM that is off: its folder goes.
    pub(crate) fn destroy(&mut self, vm: &str) -> Result<()> {
        ensure!(self.init(vm).is_err(), "{vm} is on");
        self.vms.retain(|name| name != vm);
        let folder = self.path().join("vms").join(vm);
        // The agent listens anew where a socket is gone, as long as the VM is there.
        until_true(
            SOON,
            "the VM's folder is gone",
            || match fs::remove_dir_all(&folder) {
                Err(e) if e.kind() == ErrorKind::DirectoryNotEmpty => Ok(false),
                Err(e) if e.kind() != ErrorKind::NotFound => Err(e.into()),
                _ => Ok(true),
            },
        )?;
        let client = BlockingClient::new(&self.path().join("labhv.sock"));
        until_true(SOON, "the host forgets the VM", || {
            Ok(client.vms()?.iter().all(|known| known.name != vm))
        })
    }

    /// What a person types on the host, and all that comes back.
    pub(crate) fn cli(&self, args: &[String]) -> Result<Finished> {
        Cmd::new(built(Profile::Debug, ADMIN)?)
            .arg("--socket")
            .arg(self.path().join("agent/admin.sock"))
            .args(args)
            .limit(SOON)
            .output()
    }

    /// The same, when it must succeed: what it printed.
    pub(crate) fn vdvs(&self, line: &str) -> Result<String> {
        let done = self.cli(&words(line))?;
        ensure!(
            done.success(),
            "vdvs {line}: {}{}",
            done.stdout,
            done.stderr
        );
        Ok(done.stdout)
    }

    /// The same, when it must fail: what it complained.
    pub(crate) fn refused(&self, line: &str) -> Result<String> {
        let done = self.cli(&words(line))?;
        ensure!(!done.success(), "vdvs {line}: {}", done.stdout);
        Ok(done.stderr)
    }

    /// What a VM's Docker asks.
    pub(crate) fn ask(&self, vm: &str, verb: &str, body: &Value) -> Result<Value> {
        docker::call(&self.socket_inside(vm), verb, body)
    }

    /// `docker volume create` with options given as `key=value`.
    pub(crate) fn create(&self, vm: &str, volume: &str, options: &[&str]) -> Result<()> {
        let pairs = options.iter().map(|option| {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            (key.to_owned(), Value::from(value))
        });
        let body = json!({"Name": volume, "Opts": pairs.collect::<serde_json::Map<_, _>>()});
        self.ask(vm, "Create", &body).map(drop)
    }

    /// `docker volume rm`
    pub(crate) fn remove(&self, vm: &str, volume: &str) -> Result<()> {
        self.ask(vm, "Remove", &json!({"Name": volume})).map(drop)
    }

    /// The names `docker volume ls` prints.
    pub(crate) fn listed(&self, vm: &str) -> Result<Vec<String>> {
        let answer = self.ask(vm, "List", &json!({}))?;
        let volumes = answer["Volumes"].as_array().context("a list")?;
        let mut names: Vec<String> = volumes
            .iter()
            .filter_map(|v| v["Name"].as_str().map(str::to_owned))
            .collect();
        names.sort();
        Ok(names)
    }

    /// The `Status` of `docker volume inspect`.
    pub(crate) fn status_of(&self, vm: &str, volume: &str) -> Result<Value> {
        let answer = self.ask(vm, "Get", &json!({"Name": volume}))?;
        Ok(answer["Volume"]["Status"].clone())
    }

    /// Starts a container that has the volume: where it is mounted.
    pub(crate) fn mount(&self, vm: &str, volume: &str, container: &str) -> Result<PathBuf> {
        let answer = self.ask(vm, "Mount", &json!({"Name": volume, "ID": container}))?;
        let path = answer["Mountpoint"].as_str().context("a mount point")?;
        Ok(PathBuf::from(path))
    }

    /// Ends that container.
    pub(crate) fn unmount(&self, vm: &str, volume: &str, container: &str) -> Result<()> {
        let body = json!({"Name": volume, "ID": container});
        self.ask(vm, "Unmount", &body).map(drop)
    }

    /// Runs a shell line inside a VM, as a container there would: what it printed.
    pub(crate) fn inside(&self, vm: &str, line: &str) -> Result<String> {
        Cmd::new(tool::NSENTER)
            .args(["--mount", "--target", &self.init(vm)?.pid.to_string(), "--"])
            .args(["/bin/sh", "-c", line])
            .limit(SOON)
            .run()
    }

    /// Writes a line with a container that lives as long as that.
    pub(crate) fn write(&self, vm: &str, volume: &str, said: &str) -> Result<()> {
        let at = self.mount(vm, volume, "writer")?;
        let line = format!("echo {said} >> {0}/lines && sync -f {0}", at.display());
        let written = self.inside(vm, &line);
        self.unmount(vm, volume, "writer")?;
        written.map(drop)
    }

    /// Reads all lines with a container that lives as long as that.
    pub(crate) fn read(&self, vm: &str, volume: &str) -> Result<String> {
        let at = self.mount(vm, volume, "reader")?;
        let read = self.inside(vm, &format!("cat {}/lines", at.display()));
        self.unmount(vm, volume, "reader")?;
        read.map(|lines| lines.trim_end().to_owned())
    }

    /// A field of the volume in `vdvs volume ls`.
    pub(crate) fn admin_field(&self, volume: &str, datastore: &str, field: &str) -> Result<String> {
        let listed = self.vdvs("volume ls --output json")?;
        let listed: Value = serde_json::from_str(&listed)?;
        let volumes = listed["volumes"].as_array().context("a list")?;
        let is_it = |v: &&Value| v["name"] == volume && v["datastore"] == datastore;
        let found = volumes.iter().find(is_it);
        let found = found.with_context(|| format!("no {volume}@{datastore} in {listed}"))?;
        match &found[field] {
            Value::String(text) => Ok(text.clone()),
            Value::Null => bail!("no field {field} in {found}"),
            other => Ok(other.to_string()),
        }
    }
}

/// The words of a line; what stands in single quotes belongs to its word, blanks and all.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for character in line.chars() {
        match character {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            blank if blank.is_whitespace() && !quoted => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

/// An error's text.
pub(crate) fn said<T>(answer: Result<T>) -> Result<String> {
    match answer {
        Err(why) => Ok(format!("{why:#}")),
        Ok(_) => bail!("it was not refused"),
    }
}

/// Fails unless this refusal begins like that, after the verb's name.
pub(crate) fn must_say<T>(answer: Result<T>, expected: &str) -> Result<()> {
    let said = said(answer)?;
    ensure!(
        said.contains(expected),
        "expected '{expected}', got '{said}'"
    );
    Ok(())
}
