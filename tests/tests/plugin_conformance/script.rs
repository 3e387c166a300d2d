//! The lines of a sequence.
//!
//! | line | meaning |
//! |---|---|
//! | `A`, `Cap`, `L` | Activate, Capabilities, List; answered as always |
//! | `G v ok`, `G v no`, `G v stale` | Get: found, error, answered from the journal |
//! | `C v size=1gb ok` | Create with these options (`-`: null) |
//! | `R v ok`, `R v no` | Remove: done, refused |
//! | `M v id ok`, `M v id no` | Mount: the volume's path, refused |
//! | `U v id` | Unmount, always acknowledged |
//! | `P v` | Path |
//! | `Lempty` | List with an empty body |
//! | `Gempty`, `Mempty` | a retry whose body was spent: no answer |
//! | `!exists v` | made by somebody else |
//! | `!uses v`, `!leaves v` | a container has, or no longer has, the disk in its mount namespace |
//! | `!here v`, `!gone v` | by now attached to this VM and mounted, or neither |
//! | `!plugin down`, `!plugin up`, `!agent away`, `!agent back`, `!reboot` | |
//! | `!time 121` | so many seconds pass on the wall clock |

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::guest::Guest;
use crate::wire::{Dialect, Got};

pub(crate) async fn run(guest: &mut Guest, dialect: Dialect, line: &str, at: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    if line.starts_with('!') {
        happen(guest, &words, at).await;
        return;
    }
    let (path, body) = request(&words);
    // podman makes a connection for every command.
    if dialect == Dialect::Podman || guest.wire.is_none() {
        guest.wire = Some(guest.connect().await);
    }
    let wire = guest.wire.as_mut().unwrap();
    let got = wire.post(dialect, &path, &body).await;
    let Some(got) = got else {
        assert!(
            words[0].ends_with("empty") && words[0] != "Lempty",
            "{at}: hung up"
        );
        guest.wire = None;
        return;
    };
    check(guest, &words, &got, at);
}

fn request(words: &[&str]) -> (String, String) {
    let named = |call: &str| {
        (
            format!("/VolumeDriver.{call}"),
            format!("{{\"Name\":\"{}\"}}\n", words[1]),
        )
    };
    let with_id = |call: &str| {
        let body = format!(
            "{{\"Name\":\"{}\",\"ID\":\"{}\"}}\n",
            words[1],
            words[2].repeat(16)
        );
        (format!("/VolumeDriver.{call}"), body)
    };
    match words[0] {
        "A" => ("/Plugin.Activate".into(), String::new()),
        "Cap" => ("/VolumeDriver.Capabilities".into(), "{}\n".into()),
        "L" => ("/VolumeDriver.List".into(), "{}\n".into()),
        "Lempty" => ("/VolumeDriver.List".into(), String::new()),
        "Gempty" => ("/VolumeDriver.Get".into(), String::new()),
        "Mempty" => ("/VolumeDriver.Mount".into(), String::new()),
        // The shell of these tables cannot write an empty word.
        "G" if words[1] == "''" => ("/VolumeDriver.Get".into(), "{\"Name\":\"\"}\n".into()),
        "G" => named("Get"),
        "R" => named("Remove"),
        "P" => named("Path"),
        "M" => with_id("Mount"),
        "U" => with_id("Unmount"),
        "C" => {
            let opts = match words[2] {
                "-" => "null".to_owned(),
                pair => {
                    let (key, value) = pair.split_once('=').unwrap();
                    format!("{{\"{key}\":\"{value}\"}}")
                }
            };
            let body = format!("{{\"Name\":\"{}\",\"Opts\":{opts}}}\n", words[1]);
            ("/VolumeDriver.Create".into(), body)
        }
        other => panic!("no such line: {other}"),
    }
}

fn check(guest: &Guest, words: &[&str], got: &Got, at: &str) {
    let refused = got.status == 500 && !got.body.starts_with("{\"Err\":\"\"}");
    let path = |name: &str| {
        let id = guest.agent.volume(name).unwrap().id;
        format!("/mnt/vdvs/{id}/data")
    };
    let right = match (words[0], words.last().copied()) {
        ("A", _) => got.body == "{\"Implements\":[\"VolumeDriver\"]}\n",
        ("Cap", _) => got.body == "{\"Capabilities\":{\"Scope\":\"global\"},\"Err\":\"\"}\n",
        ("L" | "Lempty", _) => {
            got.status == 200
                && got.body.starts_with("{\"Volumes\":[")
                && got.body.ends_with("],\"Err\":\"\"}\n")
        }
        (_, Some("no")) => refused,
        ("G", Some(how)) => {
            let named = format!("{{\"Volume\":{{\"Name\":\"{}\",\"Mountpoint\":\"", words[1]);
            let answer = if how == "stale" { "stale" } else { "live" };
            got.status == 200
                && got.body.starts_with(&named)
                && got.body.contains(&format!("\"answer\":\"{answer}\""))
        }
        ("M", _) => got.body == format!("{{\"Mountpoint\":\"{}\",\"Err\":\"\"}}\n", path(words[1])),
        ("P", _) => got.body == format!("{{\"Mountpoint\":\"{}\",\"Err\":\"\"}}\n", path(words[1])),
        ("C" | "R" | "U", _) => got.status == 200 && got.body == "{\"Err\":\"\"}\n",
        _ => false,
    };
    assert!(right, "{at}: {got:?}");
}

async fn happen(guest: &mut Guest, words: &[&str], at: &str) {
    match (words[0], words[1..].first().copied().unwrap_or_default()) {
        ("!exists", name) => drop(guest.agent.add(name, &Default::default())),
        ("!uses", name) => guest.use_disk(name, true),
        ("!leaves", name) => guest.use_disk(name, false),
        ("!plugin", "down") => guest.plugin_down().await,
        ("!plugin", _) => guest.plugin_up().await,
        ("!agent", how) => guest.agent.set_away(how == "away"),
        ("!reboot", _) => {
            guest.plugin_down().await;
            guest.devices.power_cut();
            guest.plugin_up().await;
        }
        ("!time", seconds) => guest.clock.advance(seconds.parse::<u64>().unwrap() * 1000),
        ("!here" | "!gone", name) => {
            let here = words[0] == "!here";
            let end = Instant::now() + Duration::from_secs(10);
            while is_here(guest, name).await != Some(here) {
                assert!(Instant::now() < end, "{at}");
                sleep(Duration::from_millis(2)).await;
            }
        }
        _ => panic!("no such line: {at}"),
    }
}

/// None: attached and not mounted, or the other way round.
async fn is_here(guest: &Guest, name: &str) -> Option<bool> {
    let volume = guest.agent.volume(name)?;
    let mounts = vdvs_blockdev::Devices::mounts(&guest.devices)
        .await
        .unwrap();
    let mounted = mounts
        .iter()
        .any(|mount| mount.at.ends_with(volume.id.to_string()));
    (mounted == volume.attachment.is_some()).then_some(mounted)
}
