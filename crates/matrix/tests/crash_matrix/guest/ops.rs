//! What Docker asks of the plugin, and what the plugin does by itself.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::sleep;
use vdvs_blockdev::fake::FakeContent;
use vdvs_domain::FilesystemState;
use vdvs_plugin::agent::Notice;
use vdvs_plugin::journal::Stage;

use super::life::{Guest, none, said};

type Doing<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;
type Step<T> = for<'a> fn(&'a Guest) -> Doing<'a, T>;

/// One thing.
pub(crate) struct GuestOperation {
    pub(crate) name: &'static str,
    pub(crate) prepare: Step<()>,
    /// The request, or waiting for what the plugin does. An error: it says no, or nothing.
    pub(crate) act: Step<Result<String, String>>,
    /// The plugin's start belongs to it: whoever asks starts it.
    pub(crate) starts: bool,
    /// A repetition finds nothing left to do, and may say so.
    pub(crate) once: bool,
    /// Whether `db` is in use by a container afterwards: then it must be mounted.
    pub(crate) used: bool,
    /// Nothing stays mounted, whatever used it.
    pub(crate) unmounts: bool,
    pub(crate) holds: Step<()>,
}

const PLAIN: GuestOperation = GuestOperation {
    name: "",
    prepare: |_| Box::pin(async {}),
    act: |_| Box::pin(async { Ok(String::new()) }),
    starts: false,
    once: false,
    used: false,
    unmounts: false,
    holds: |_| Box::pin(async {}),
};

async fn mount(g: &Guest, id: &str) -> Result<String, String> {
    let path = g.volumes().mount("db", id).await.map_err(said)?;
    let volume = g.volume("db").id;
    let held = g.journal().into_iter().find(|h| h.volume == volume);
    let counted = held.is_some_and(|h| h.counts.contains_key(id));
    assert!(counted, "it was answered before it was in the journal");
    Ok(path.display().to_string())
}

async fn unmount(g: &Guest, id: &str) -> Result<String, String> {
    g.volumes().unmount("db", id).await.map_err(said)?;
    Ok("unmounted".to_owned())
}

fn add<'a>(g: &'a Guest) -> Doing<'a, ()> {
    Box::pin(async move { drop(g.agent.add("db", &none())) })
}

fn mounted<'a>(g: &'a Guest) -> Doing<'a, ()> {
    Box::pin(async move {
        g.agent.add("db", &none());
        mount(g, "one").await.unwrap();
    })
}

/// It was mounted before, and is nobody's now.
fn formatted<'a>(g: &'a Guest) -> Doing<'a, ()> {
    Box::pin(async move {
        mounted(g).await;
        unmount(g, "one").await.unwrap();
    })
}

fn is_mounted<'a>(g: &'a Guest) -> Doing<'a, ()> {
    Box::pin(async move {
        let id = g.volume("db").id;
        let held = g.journal().into_iter().find(|h| h.volume == id);
        assert_eq!(held.map(|h| h.stage), Some(Stage::Mounted));
        let state = g.volume("db").filesystem.state;
        assert!(matches!(state, FilesystemState::Ready { .. }), "{state:?}");
    })
}

fn is_free<'a>(g: &'a Guest) -> Doing<'a, ()> {
    Box::pin(async move { assert!(!g.is_here("db")) })
}

/// Waits, in simulated time.
async fn until(g: &Guest, what: &str, is: impl Fn() -> bool) -> Result<String, String> {
    for _ in 0..100 {
        if is() {
            return Ok(what.to_owned());
        }
        // The reality check doubts what is old.
        g.pass(10).await;
    }
    panic!("{what}: it never came");
}

fn starts<'a>(g: &'a Guest) -> Doing<'a, Result<String, String>> {
    Box::pin(async move {
        g.start().await.map_err(|e| e.to_string())?;
        sleep(Duration::from_secs(2)).await;
        Ok("started".to_owned())
    })
}

pub(crate) const ALL: &[GuestOperation] = &[
    GuestOperation {
        name: "create",
        act: |g| {
            Box::pin(async move {
                g.volumes().create("db", &none()).await.map_err(said)?;
                Ok("created".to_owned())
            })
        },
        holds: |g| {
            Box::pin(async move {
                g.volumes().get("db").await.map_err(said).unwrap();
            })
        },
        ..PLAIN
    },
    GuestOperation {
        name: "first mount",
        prepare: |g| add(g),
        act: |g| Box::pin(mount(g, "one")),
        used: true,
        holds: |g| is_mounted(g),
        ..PLAIN
    },
    GuestOperation {
        name: "mount of a volume that was used before",
        prepare: |g| formatted(g),
        act: |g| Box::pin(mount(g, "two")),
        used: true,
        holds: |g| is_mounted(g),
        ..PLAIN
    },
    GuestOperation {
        name: "mount by a second container",
        prepare: |g| mounted(g),
        act: |g| Box::pin(mount(g, "two")),
        used: true,
        holds: |g| is_mounted(g),
        ..PLAIN
    },
    GuestOperation {
        name: "first mount of a volume to be read only",
        prepare: |g| {
            Box::pin(async move {
                let options = [("access".to_owned(), "read-only".to_owned())];
                g.agent.add("db", &options.into());
            })
        },
        act: |g| Box::pin(mount(g, "one")),
        used: true,
        holds: |g| is_mounted(g),
        ..PLAIN
    },
    GuestOperation {
        name: "unmount by the last container",
        prepare: |g| mounted(g),
        act: |g| Box::pin(unmount(g, "one")),
        holds: |g| is_free(g),
        ..PLAIN
    },
    GuestOperation {
        name: "unmount by one of two containers",
        prepare: |g| {
            Box::pin(async move {
                mounted(g).await;
                mount(g, "two").await.unwrap();
                g.use_disk("db", true);
            })
        },
        act: |g| Box::pin(unmount(g, "one")),
        used: true,
        holds: |g| is_mounted(g),
        ..PLAIN
    },
    GuestOperation {
        name: "remove",
        prepare: |g| formatted(g),
        act: |g| {
            Box::pin(async move {
                g.volumes().remove("db").await.map_err(said)?;
                Ok("removed".to_owned())
            })
        },
        once: true,
        holds: |g| {
            Box::pin(async move {
                assert_eq!(g.agent.volume("db"), None);
                let gone = g.volumes().get("db").await.map_err(said).unwrap_err();
                assert!(gone.contains("not found"), "{gone}");
            })
        },
        ..PLAIN
    },
    GuestOperation {
        name: "reality check of a count that leaked",
        prepare: |g| mounted(g),
        act: |g| Box::pin(until(g, "released", || !g.is_here("db"))),
        holds: |g| is_free(g),
        ..PLAIN
    },
    GuestOperation {
        name: "loss",
        prepare: |g| mounted(g),
        act: |g| {
            Box::pin(async move {
                let id = g.volume("db").id;
                let held = g.journal().into_iter().find(|h| h.volume == id);
                let epoch = held.as_ref().map(|h| h.epoch);
                if g.is_here("db") {
                    g.agent.give_to("db", "other");
                }
                if let Some(epoch) = epoch {
                    g.agent
                        .notify(Notice::Superseded { volume: id, epoch })
                        .await;
                }
                let lost = || {
                    let held = g.journal().into_iter().find(|h| h.volume == id);
                    held.is_none_or(|h| h.stage == Stage::Lost)
                };
                until(g, "lost", lost).await
            })
        },
        holds: |g| {
            Box::pin(async move {
                is_free(g).await;
                g.volumes().unmount("db", "one").await.unwrap();
            })
        },
        ..PLAIN
    },
    GuestOperation {
        name: "start beside running containers",
        prepare: |g| {
            Box::pin(async move {
                mounted(g).await;
                g.use_disk("db", true);
                g.next_life();
            })
        },
        act: |g| starts(g),
        starts: true,
        used: true,
        holds: |g| is_mounted(g),
        ..PLAIN
    },
    GuestOperation {
        name: "start after the VM lost power",
        prepare: |g| {
            Box::pin(async move {
                mounted(g).await;
                g.devices.power_cut();
                g.next_life();
            })
        },
        act: |g| starts(g),
        starts: true,
        unmounts: true,
        holds: |g| is_free(g),
        ..PLAIN
    },
    GuestOperation {
        name: "start without a journal",
        prepare: |g| {
            Box::pin(async move {
                mounted(g).await;
                g.use_disk("db", true);
                g.next_life();
                g.forget_journal();
            })
        },
        act: |g| starts(g),
        starts: true,
        used: true,
        holds: |g| is_mounted(g),
        ..PLAIN
    },
    GuestOperation {
        name: "start without a journal after the VM lost power",
        prepare: |g| {
            Box::pin(async move {
                mounted(g).await;
                g.devices.power_cut();
                g.next_life();
                g.forget_journal();
            })
        },
        act: |g| starts(g),
        starts: true,
        unmounts: true,
        holds: |g| is_free(g),
        ..PLAIN
    },
    GuestOperation {
        name: "unmount while somebody else uses the disk",
        prepare: |g| {
            Box::pin(async move {
                mounted(g).await;
                g.use_disk("db", true);
            })
        },
        act: |g| Box::pin(unmount(g, "one")),
        holds: |g| {
            Box::pin(async move { assert!(g.is_here("db"), "it is in use and was detached") })
        },
        ..PLAIN
    },
    GuestOperation {
        name: "reality check of a count that is right",
        prepare: |g| {
            Box::pin(async move {
                mounted(g).await;
                g.use_disk("db", true);
            })
        },
        act: |g| {
            Box::pin(async move {
                // Old enough to be doubted.
                g.pass(300).await;
                Ok("looked at".to_owned())
            })
        },
        used: true,
        holds: |g| is_mounted(g),
        ..PLAIN
    },
    GuestOperation {
        name: "mount and unmount within a mount of the same container",
        prepare: |g| mounted(g),
        act: |g| {
            Box::pin(async move {
                mount(g, "one").await?;
                unmount(g, "one").await?;
                g.use_disk("db", true);
                Ok("nested".to_owned())
            })
        },
        used: true,
        holds: |g| is_mounted(g),
        ..PLAIN
    },
    GuestOperation {
        name: "first mount of a disk that cannot be read",
        prepare: |g| {
            Box::pin(async move {
                g.agent.add("db", &none());
                let content = FakeContent::Unreadable("EIO".to_owned());
                g.agent.set_content("db", content);
            })
        },
        act: |g| {
            Box::pin(async move {
                let said = mount(g, "one").await;
                assert!(said.is_err(), "nobody knows what it holds: {said:?}");
                Ok("refused".to_owned())
            })
        },
        holds: |g| {
            Box::pin(async move {
                let state = g.volume("db").filesystem.state;
                assert!(!matches!(state, FilesystemState::Ready { .. }), "{state:?}");
            })
        },
        ..PLAIN
    },
    GuestOperation {
        name: "names while a datastore cannot be read, and the agent is away",
        prepare: |g| {
            Box::pin(async move {
                g.agent.add("db", &none());
                g.volumes().get("db").await.map_err(said).unwrap();
                g.pass(40).await;
            })
        },
        act: |g| {
            Box::pin(async move {
                g.agent.hide(true);
                drop(g.volumes().list().await);
                g.pass(40).await;
                g.agent.set_away(true);
                let known = g.volumes().get("db").await.map_err(said);
                g.agent.set_away(false);
                g.agent.hide(false);
                known.map(|_| "known".to_owned())
            })
        },
        ..PLAIN
    },
];
