//! What hostd offers us, asked without changing anything: for `vdvsd --probe`.

use std::time::Duration;

use tokio::time::{Instant, timeout};
use vdvs_vim::{Client, Error};

use crate::config::{EsxiConfig, Login};

/// One answer. The number is that of the question in docs/esxi.md.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Which question.
    pub question: u8,
    /// What was asked.
    pub name: String,
    /// What came.
    pub answer: Result<String, String>,
}

/// Asks hostd everything; each question takes at most `each`.
pub async fn probe(config: &EsxiConfig, each: Duration) -> Vec<Heard> {
    let asking = Asking {
        each,
        heard: Vec::new(),
    };
    asking.all(config).await
}

/// Users whose tickets are tried.
const USERS: [&str; 2] = ["dcui", "root"];

struct Asking {
    each: Duration,
    heard: Vec<Heard>,
}

impl Asking {
    async fn all(mut self, config: &EsxiConfig) -> Vec<Heard> {
        if matches!(config.login, Login::Ticket { .. }) {
            for user in USERS {
                self.ticket(config, user).await;
            }
        }
        match config.client() {
            Ok(client) => self.logged_in(&client).await,
            Err(why) => self.note(3, "hostd", Err(why.to_string())),
        }
        self.heard
    }

    fn note(&mut self, question: u8, name: &str, answer: Result<String, String>) {
        self.heard.push(Heard {
            question,
            name: name.to_owned(),
            answer,
        });
    }

    /// The answer, with how long it took.
    async fn ask<T>(
        &self,
        call: impl Future<Output = Result<T, Error>>,
        say: impl FnOnce(T) -> String,
    ) -> Result<String, String> {
        let began = Instant::now();
        match timeout(self.each, call).await {
            Ok(Ok(answer)) => Ok(format!(
                "{} ({} ms)",
                say(answer),
                began.elapsed().as_millis()
            )),
            Ok(Err(why)) => Err(why.to_string()),
            Err(_) => Err(format!("no answer within {:?}", self.each)),
        }
    }

    fn until(&self) -> Instant {
        Instant::now() + self.each
    }

    /// A ticket of this user, by itself.
    async fn ticket(&mut self, config: &EsxiConfig, user: &str) {
        let name = format!("ticket of {user}");
        let answer = match config.client_of(user) {
            Err(why) => Err(why.to_string()),
            Ok(client) => {
                let login = client.login(self.until());
                let answer = self.ask(login, |()| "logged in".to_owned()).await;
                client.logout(self.until()).await.ok();
                answer
            }
        };
        self.note(4, &name, answer);
    }

    async fn logged_in(&mut self, client: &Client) {
        let login = client.login(self.until());
        let answer = self.ask(login, |()| "logged in".to_owned()).await;
        let failed = answer.is_err();
        self.note(3, "hostd", answer);
        if failed {
            let why = "hostd could not be asked".to_owned();
            return self.note(10, "QueryFileLockInfo", Err(why));
        }
        let content = client.service_content(self.until());
        let answer = self
            .ask(content, |c| {
                format!("{}, API {}", c.about.full_name, c.about.api_version)
            })
            .await;
        self.note(3, "hostd version", answer);
        let answer = self
            .ask(processes(client, self.until()), |n| {
                format!("{n} running VMs")
            })
            .await;
        self.note(3, "vm process list", answer);
        let mut files = Vec::new();
        let vms = client.list_vms(self.until());
        let answer = self
            .ask(vms, |vms| {
                files = vms.iter().filter_map(|vm| vm.config_file.clone()).collect();
                format!("{} VMs", vms.len())
            })
            .await;
        self.note(3, "inventory", answer);
        let answer = match files.first() {
            None => Err("there is no VM whose configuration file could be asked for".to_owned()),
            Some(file) => {
                let locks = client.query_file_lock_info(file, None, self.until());
                self.ask(locks, |l| format!("{} locks on {file}", l.locks.len()))
                    .await
            }
        };
        self.note(10, "QueryFileLockInfo", answer);
        self.datastores(client).await;
        client.logout(self.until()).await.ok();
    }

    async fn datastores(&mut self, client: &Client) {
        let mut lines = Vec::new();
        let listed = client.list_datastores(self.until());
        let answer = self
            .ask(listed, |stores| {
                lines = stores
                    .iter()
                    .map(|d| {
                        let plain = d.capability.top_level_directories;
                        let line = format!(
                            "{}, accessible {}, plain top folders {plain:?}",
                            d.kind, d.accessible
                        );
                        (d.name.clone(), line)
                    })
                    .collect();
                format!("{} datastores", stores.len())
            })
            .await;
        self.note(12, "datastores", answer);
        for (name, line) in lines {
            self.note(12, &format!("datastore {name}"), Ok(line));
        }
    }
}

async fn processes(client: &Client, deadline: Instant) -> Result<usize, Error> {
    let mut count = 0;
    for host in client.list_hosts(deadline).await? {
        let executer = client
            .retrieve_managed_method_executer(&host.object, deadline)
            .await?;
        count += client.vm_process_list(&executer, deadline).await?.len();
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[tokio::test]
    async fn where_nobody_answers_every_question_says_so() {
        let mut config = EsxiConfig::local(PathBuf::from("/nowhere"));
        config.url = "https://127.0.0.1:1/sdk".to_owned();
        let heard = probe(&config, Duration::from_millis(200)).await;
        let names: Vec<_> = heard.iter().map(|h| h.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "ticket of dcui",
                "ticket of root",
                "hostd",
                "QueryFileLockInfo"
            ]
        );
        assert!(heard.iter().all(|h| h.answer.is_err()), "{heard:?}");
    }
}
