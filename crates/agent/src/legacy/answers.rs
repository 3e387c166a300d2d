//! What each verb of the original comes to.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, error, info, warn};
use vdvs_domain::error::full_name;
use vdvs_domain::options::GivenOptions;
use vdvs_domain::{Error, ErrorKind, RequestId, VolumeAddress};
use vdvs_engine::Engine;
use vdvs_engine::api::{Call, Caller, Kept, VolumeView};
use vdvs_engine::legacy::Made;
use vdvs_engine::ports::Ids;

use super::request::Request;
use super::{From, LegacyFront, shapes};
use crate::calls::Calls;
use crate::guests::Class;

/// How long a request may take: docker gives a plugin up after two minutes, and this one has no deadline of its own.
const DEADLINE: Duration = Duration::from_secs(100);
/// How long an attach waits for another VM. Meanwhile the plugin does nothing else for its VM; it is enough for a fence
/// after the usual time, and for the proof that a VM elsewhere is dead.
const WAIT: Duration = Duration::from_secs(30);

/// What a request does, for its queue and its line in the log.
struct What<'a> {
    verb: &'static str,
    object: &'a VolumeAddress,
    class: Class,
}

impl LegacyFront {
    /// The reply to a request; none: nobody is there any more to hear it.
    pub(super) async fn carry_out(
        &self,
        from: &From,
        request: Request,
        hung_up: impl Future<Output = ()>,
    ) -> Option<String> {
        let answered = match request {
            Request::Version => return Some(shapes::version()),
            Request::List => self.list(from).await,
            Request::Get(address) => self.get(from, &address).await,
            Request::Create(address, given) => self.create(from, &address, *given).await,
            Request::Remove(address) => self.remove(from, &address).await,
            Request::Detach(address) => self.detach(from, &address).await,
            Request::Attach(address) => {
                tokio::select! {
                    biased;
                    answered = self.attach(from, &address) => answered,
                    // Who went away waits for nothing: it is told so, and turns back if it can.
                    () = hung_up => return None,
                }
            }
        };
        Some(answered.unwrap_or_else(|why| shapes::error(&why)))
    }

    async fn list(&self, from: &From) -> Result<String, Error> {
        let look = async |caller: Caller| {
            let full = |view: VolumeView| full_name(&view.name, &view.datastore).to_string();
            match self.engine.list_as(&caller, &Kept::default(), full).await {
                // Who is in no vmgroup sees nothing, and docker shows no names of before.
                Err(why) if why.kind() == ErrorKind::PermissionDenied => Ok((vec![], vec![])),
                other => other,
            }
        };
        let (mut names, unreadable) = self.look("list", from, look).await?;
        if let (true, Some(datastore)) = (names.is_empty(), unreadable.into_iter().next()) {
            let why = "its volumes cannot be listed now".to_owned();
            return Err(Error::DatastoreUnavailable { datastore, why });
        }
        names.sort();
        Ok(shapes::list(names.into_iter()))
    }

    async fn get(&self, from: &From, address: &VolumeAddress) -> Result<String, Error> {
        let look = async |caller: Caller| self.engine.get(&caller, address).await;
        let view = self.look("get", from, look).await?;
        Ok(shapes::volume(&view).to_string())
    }

    async fn create(
        &self,
        from: &From,
        address: &VolumeAddress,
        given: GivenOptions,
    ) -> Result<String, Error> {
        let what = What {
            verb: "create",
            object: address,
            class: Class::Change,
        };
        let asked = address.clone();
        let made = self.change(from, what, async move |engine, caller, call| {
            engine
                .create_by_original(&caller, &call, &asked, &given)
                .await
        });
        Ok(match made.await? {
            Made::ToBeFormatted(_) | Made::Clone(_) => shapes::DONE.to_owned(),
            // Success for the plugin, and no reason to format.
            Made::Before(view) => {
                let name = full_name(&view.name, &view.datastore);
                shapes::error(&format!("Volume {name} already exists; nothing was done"))
            }
        })
    }

    async fn remove(&self, from: &From, address: &VolumeAddress) -> Result<String, Error> {
        let what = What {
            verb: "delete",
            object: address,
            class: Class::Change,
        };
        let asked = address.clone();
        let removed = self.change(from, what, async move |engine, caller, call| {
            // The original's frames name volumes only.
            engine.delete(&caller, &call, &asked, None).await.map(drop)
        });
        match removed.await {
            Err(why) if why.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
        .map(|()| shapes::DONE.to_owned())
    }

    async fn attach(&self, from: &From, address: &VolumeAddress) -> Result<String, Error> {
        let what = What {
            verb: "attach",
            object: address,
            class: Class::Attach,
        };
        let asked = address.clone();
        let attached = self.change(from, what, async move |engine, caller, call| {
            engine
                .attach_by_original(&caller, &call, &asked, WAIT)
                .await
        });
        Ok(shapes::place(&attached.await?.locator).to_string())
    }

    async fn detach(&self, from: &From, address: &VolumeAddress) -> Result<String, Error> {
        let what = What {
            verb: "detach",
            object: address,
            class: Class::Detach,
        };
        let asked = address.clone();
        let detached = self.change(from, what, async move |engine, caller, call| {
            engine.detach_by_original(&caller, &call, &asked).await
        });
        detached.await.map(|_| shapes::DONE.to_owned())
    }

    /// Runs a use case that only looks.
    async fn look<T>(
        &self,
        verb: &'static str,
        from: &From,
        run: impl AsyncFnOnce(Caller) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let until = Instant::now() + DEADLINE;
        let look = async { run(self.caller(from).await?).await };
        let places = self.guests.places(&from.vm);
        let looked = Calls::read(&places, until, look).await;
        if let Err(why) = &looked {
            self.say(verb, "", from, why);
        }
        looked
    }

    /// Runs a use case that changes something, to its end.
    async fn change<T, Run>(
        &self,
        from: &From,
        what: What<'_>,
        run: impl FnOnce(Arc<Engine>, Caller, Call) -> Run + Send + 'static,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        Run: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let deadline = Instant::now() + DEADLINE;
        let request = RequestId::new(self.ids.uuid());
        let places = self.guests.places(&from.vm);
        let (me, from) = (self.clone(), from.clone());
        let (verb, object) = (what.verb, what.object.to_string());
        let done = self
            .calls
            .change(&places, what.class, deadline, |cancel| async move {
                let began = Instant::now();
                let call = Call {
                    request,
                    deadline,
                    cancel,
                };
                let done = match me.caller(&from).await {
                    Ok(caller) => run(me.engine.clone(), caller, call).await,
                    Err(why) => Err(why),
                };
                match &done {
                    Ok(_) => {
                        let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                        info!(vm = %from.name, ms, "{verb} {object}");
                    }
                    Err(why) => me.say(verb, &object, &from, why),
                }
                done
            });
        done.await
    }

    async fn caller(&self, from: &From) -> Result<Caller, Error> {
        let (uuid, path) = (from.vm.instance_uuid, &from.vm.config_path);
        self.engine.caller(uuid, path).await
    }

    /// The line of a refusal, within the VM's share of the log.
    fn say(&self, verb: &str, object: &str, from: &From, why: &Error) {
        let (vm, reason) = (&from.name, why.kind());
        if reason == ErrorKind::NotFound {
            debug!(%vm, %reason, "{verb} {object}: {why}");
            return;
        }
        let Some(folded) = self.guests.places(&from.vm).quiet().may_say() else {
            return;
        };
        match reason {
            ErrorKind::Internal | ErrorKind::Damaged => {
                error!(%vm, %reason, folded, "{verb} {object}: {why}");
            }
            ErrorKind::HostFailed => warn!(%vm, %reason, folded, "{verb} {object}: {why}"),
            _ => info!(%vm, %reason, folded, "{verb} {object}: {why}"),
        }
    }
}
