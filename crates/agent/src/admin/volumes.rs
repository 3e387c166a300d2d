//! Changes of one volume: settings and protection, its vmgroup, taking it from its VM.

use std::collections::BTreeMap;
use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::info;
use vdvs_api::{limits, model, status, v1};
use vdvs_domain::Error;
use vdvs_domain::options::MAX_OPTIONS;
use vdvs_engine::api::{AdminSet, Call, LocalUser, Outcome};

use super::{AdminFront, read};
use crate::guests::Class;

/// A volume is given so long to leave its VM, whoever asked for it and went: a guest's orderly detach, or another host's.
const TAKE: Duration = Duration::from_secs(60);

/// Every change names its request and a volume.
fn asked(head: Option<v1::RequestHead>, address: String) -> Result<model::RemoveVolume, Status> {
    read(v1::RemoveVolumeRequest { head, address })
}

fn refused(e: &Error) -> Status {
    info!(reason = %e.kind(), "administrator: {e}");
    status::from_error(e)
}

fn bounded(what: &'static str, text: &str) -> Result<(), Status> {
    match text.len() <= limits::MAX_OPTION_TEXT {
        true => Ok(()),
        false => Err(status::from_error(&Error::Invalid {
            what,
            problem: format!(
                "has {} bytes, at most {} are read",
                text.len(),
                limits::MAX_OPTION_TEXT
            ),
        })),
    }
}

fn settings(wire: v1::SetVolumeRequest) -> Result<AdminSet, Status> {
    bounded("group", &wire.group)?;
    let given = wire.options.len();
    if given > MAX_OPTIONS {
        let problem = format!("are {given}, at most {MAX_OPTIONS} are read");
        let what = "options";
        return Err(status::from_error(&Error::Invalid { what, problem }));
    }
    for (key, value) in &wire.options {
        bounded("options", key)?;
        bounded("options", value)?;
    }
    if wire.options.is_empty() && wire.protect.is_none() {
        return Err(status::from_error(&Error::Invalid {
            what: "options",
            problem: "are none; name what is to change, as in access=read-only".to_owned(),
        }));
    }
    Ok(AdminSet {
        group: wire.group,
        options: wire.options.into_iter().collect::<BTreeMap<_, _>>(),
        protect: wire.protect,
    })
}

impl AdminFront {
    pub(super) async fn answer_set_volume(
        &self,
        user: LocalUser,
        deadline: Instant,
        mut wire: v1::SetVolumeRequest,
    ) -> Result<v1::ChangeReply, Status> {
        let ask = asked(wire.head.take(), take(&mut wire.address))?;
        let set = settings(wire)?;
        let engine = Arc::clone(&self.engine);
        let run = async move { engine.admin_set(&user, &ask.address, &set).await };
        let done = self
            .calls
            .change(&self.places, Class::Change, deadline, |_| run);
        let mut reply = v1::ChangeReply::default();
        if let Outcome::Unchanged(()) = done.await.map_err(|e| refused(&e))? {
            reply.warnings.push("it was so already".to_owned());
        }
        Ok(reply)
    }

    pub(super) async fn answer_move_volume(
        &self,
        user: LocalUser,
        deadline: Instant,
        wire: v1::MoveVolumeRequest,
    ) -> Result<v1::ChangeReply, Status> {
        let ask = asked(wire.head, wire.address)?;
        bounded("to_group", &wire.to_group)?;
        let (engine, to, force) = (Arc::clone(&self.engine), wire.to_group, wire.force);
        let run = |cancel| async move {
            let call = Call {
                request: ask.request,
                deadline,
                cancel,
            };
            let moved = engine.admin_move(&user, &call, &ask.address, &to, force);
            moved.await
        };
        let done = self
            .calls
            .change(&self.places, Class::Change, deadline, run);
        let mut reply = v1::ChangeReply::default();
        if let Outcome::Unchanged(name) = done.await.map_err(|e| refused(&e))? {
            reply.warnings.push(format!("{name} was there already"));
        }
        Ok(reply)
    }

    pub(super) async fn answer_take_volume(
        &self,
        user: LocalUser,
        deadline: Instant,
        wire: v1::TakeVolumeRequest,
    ) -> Result<v1::ChangeReply, Status> {
        let ask = asked(wire.head, wire.address)?;
        let (engine, force) = (Arc::clone(&self.engine), wire.force);
        let what = format!("detaching {}", ask.address);
        let reply = self.answer_or_work(deadline, what, 0, |teller| async move {
            let call = Call {
                request: ask.request,
                deadline: Instant::now() + TAKE,
                cancel: CancellationToken::clone(teller.stop()),
            };
            let taken = engine.admin_take(&user, &call, &ask.address, force).await?;
            Ok(taken.into_inner())
        });
        reply.await
    }
}
