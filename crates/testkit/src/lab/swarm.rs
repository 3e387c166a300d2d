//! Makes a swarm of a lab's nodes: the first is the manager, the others are workers.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use super::docker::Docker;
use super::node::Node;
use crate::wait;

/// A node's description reaches the manager about every 20 s; three of these.
const DESCRIPTION_LIMIT: Duration = Duration::from_secs(180);

/// A swarm.
#[derive(Debug, Clone)]
pub struct Swarm {
    manager: Node,
    workers: Vec<Node>,
}

impl Swarm {
    /// Makes a swarm of these nodes, or completes it, and waits until the manager sees all of them ready.
    ///
    /// # Errors
    /// An engine refuses, or a node does not become ready.
    pub fn form(nodes: &[Node]) -> Result<Self> {
        let (manager, workers) = nodes.split_first().context("a swarm of no nodes")?;
        let swarm = Self {
            manager: manager.clone(),
            workers: workers.to_vec(),
        };
        let address = manager.address()?;
        if !is_member(&manager.docker())? {
            let listen = format!("{address}:2377");
            let args = [
                "swarm",
                "init",
                "--advertise-addr",
                &address,
                "--listen-addr",
                &listen,
            ];
            manager.docker().run(&args)?;
        }
        let token = swarm
            .docker()
            .run(&["swarm", "join-token", "--quiet", "worker"])?;
        thread::scope(|scope| {
            let joining: Vec<_> = workers
                .iter()
                .map(|worker| scope.spawn(|| join(worker, &token, &format!("{address}:2377"))))
                .collect();
            joining.into_iter().try_for_each(|one| {
                one.join()
                    .map_err(|_| anyhow!("the join's thread panicked"))?
            })
        })?;
        swarm.wait_all_ready(DESCRIPTION_LIMIT)?;
        Ok(swarm)
    }

    /// The manager's engine: stacks and services are made here.
    #[must_use]
    pub fn docker(&self) -> Docker {
        self.manager.docker()
    }

    /// The manager.
    #[must_use]
    pub fn manager(&self) -> &Node {
        &self.manager
    }

    /// All but the manager.
    #[must_use]
    pub fn workers(&self) -> &[Node] {
        &self.workers
    }

    /// How the manager sees a node: `ready`, `down`, `unknown`, `disconnected`.
    ///
    /// # Errors
    /// The manager does not answer or does not know the node.
    pub fn node_state(&self, name: &str) -> Result<String> {
        self.docker()
            .run(&["node", "inspect", "--format", "{{.Status.State}}", name])
    }

    /// Waits until the manager sees every node as ready.
    ///
    /// # Errors
    /// Not within `limit`.
    pub fn wait_all_ready(&self, limit: Duration) -> Result<()> {
        for node in self.nodes() {
            self.wait_node_state(node.name(), "ready", limit)?;
        }
        Ok(())
    }

    /// Waits until the manager sees a node in this state.
    ///
    /// # Errors
    /// Not within `limit`.
    pub fn wait_node_state(&self, name: &str, state: &str, limit: Duration) -> Result<()> {
        wait::until_true(limit, &format!("manager sees {name} as {state}"), || {
            // While the manager elects itself it answers with an error.
            Ok(self.node_state(name).is_ok_and(|seen| seen == state))
        })
    }

    /// Waits until the scheduler knows that every node has this volume driver.
    ///
    /// # Errors
    /// Not in time.
    pub fn wait_driver(&self, driver: &str) -> Result<()> {
        for node in self.nodes() {
            let what = format!("scheduler sees volume driver {driver} on {}", node.name());
            wait::until_true(DESCRIPTION_LIMIT, &what, || {
                self.has_driver(node.name(), driver)
            })?;
        }
        Ok(())
    }

    /// The node that runs a task of this service now, as the manager sees it.
    ///
    /// # Errors
    /// The manager does not answer.
    pub fn running_on(&self, service: &str) -> Result<Option<String>> {
        let filter = "desired-state=running";
        let format = "{{.CurrentState}} {{.Node}}";
        let text = self.docker().run(&[
            "service", "ps", "--filter", filter, "--format", format, service,
        ])?;
        let running = text.lines().find(|line| line.starts_with("Running "));
        Ok(running
            .and_then(|line| line.rsplit(' ').next())
            .map(str::to_owned))
    }

    fn nodes(&self) -> impl Iterator<Item = &Node> {
        [&self.manager].into_iter().chain(&self.workers)
    }

    fn has_driver(&self, node: &str, driver: &str) -> Result<bool> {
        let format = "{{json .Description.Engine.Plugins}}";
        let plugins = self
            .docker()
            .json(&["node", "inspect", "--format", format, node])?;
        let wanted = |plugin: &Value| {
            plugin.get("Type").and_then(Value::as_str) == Some("Volume")
                && plugin.get("Name").and_then(Value::as_str) == Some(driver)
        };
        Ok(plugins.as_array().is_some_and(|all| all.iter().any(wanted)))
    }
}

fn is_member(docker: &Docker) -> Result<bool> {
    let state = docker.run(&["info", "--format", "{{.Swarm.LocalNodeState}}"])?;
    ensure!(state != "error", "the engine's swarm state is 'error'");
    Ok(state == "active" || state == "pending")
}

fn join(worker: &Node, token: &str, manager: &str) -> Result<()> {
    let docker = worker.docker();
    if is_member(&docker)? {
        return Ok(());
    }
    let address = worker.address()?;
    docker.run(&[
        "swarm",
        "join",
        "--token",
        token,
        "--advertise-addr",
        &address,
        manager,
    ])?;
    Ok(())
}
