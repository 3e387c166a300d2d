//! An agent that answers from a table and notes every change it was asked for.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::sleep;
use tonic::{Request, Response, Status, async_trait};
use vdvs_api::status::from_error;
use vdvs_api::v1;
use vdvs_api::v1::admin_service_server::AdminService;
use vdvs_domain::{Error, ErrorKind};

use crate::{findings, table};

/// A change, as it came: the request's id, and everything else.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) id: String,
    pub(crate) what: String,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct FakeAgent {
    pub(crate) asked: Arc<Mutex<Vec<Asked>>>,
    pub(crate) works: Arc<Mutex<BTreeMap<String, u64>>>,
    /// How often somebody asked for work.
    pub(crate) questions: Arc<Mutex<u32>>,
    /// It knows of nothing.
    pub(crate) empty: bool,
}

fn not_found(address: &str) -> Status {
    from_error(&Error::VolumeNotFound {
        address: address.to_owned(),
        looked_on: "vsanDatastore".to_owned(),
    })
}

/// A refusal with any text, as the agent's table of errors sends it.
fn refused(kind: ErrorKind, text: &str) -> Status {
    let row = kind.row();
    let mut status = Status::new(i32::from(row.grpc).into(), text);
    status
        .metadata_mut()
        .insert("vdvs-reason", row.reason.parse().unwrap());
    status
}

/// What every address that names no volume gets, whichever verb names it.
fn address_error(address: &str) -> Option<Status> {
    match address {
        "none" => Some(not_found(address)),
        "lost" => Some(Status::unavailable("gone in the middle")),
        "twice" => Some(refused(
            ErrorKind::Ambiguous,
            "2 volumes are called twice: dev/twice@vsanDatastore (0192aaaa), test/twice@nfs (0192bbbb); name the one you mean",
        )),
        _ => None,
    }
}

impl FakeAgent {
    /// Notes the change and answers it, unless its subject says otherwise.
    fn change<T: Debug>(
        &self,
        subject: &str,
        head: Option<v1::RequestHead>,
        message: T,
    ) -> Result<Response<v1::ChangeReply>, Status> {
        if let Some(error) = address_error(subject) {
            return Err(error);
        }
        self.note(head, &message);
        let mut reply = v1::ChangeReply::default();
        match subject {
            "warned" => {
                reply.lines = vec!["one line".into()];
                reply.warnings = vec!["read this too".into()];
            }
            "long" | "failing" | "vanishing" => {
                let id = format!("w-{subject}");
                self.works.lock().unwrap().insert(id.clone(), 0);
                reply.work = Some(table::work(&id, 0));
            }
            _ => {}
        }
        Ok(Response::new(reply))
    }

    fn note<T: Debug>(&self, head: Option<v1::RequestHead>, message: &T) {
        let id = head.unwrap().request_id;
        let what = format!("{message:?}").replace("head: None, ", "");
        self.asked.lock().unwrap().push(Asked { id, what });
    }

    fn some<T>(&self, list: Vec<T>) -> Vec<T> {
        if self.empty { Vec::new() } else { list }
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[async_trait]
impl AdminService for FakeAgent {
    async fn status(&self, _: Request<v1::StatusRequest>) -> Answer<v1::StatusReply> {
        Ok(Response::new(table::status(self.empty)))
    }

    async fn list_all_volumes(
        &self,
        _: Request<v1::ListAllVolumesRequest>,
    ) -> Answer<v1::ListAllVolumesReply> {
        Ok(Response::new(v1::ListAllVolumesReply {
            volumes: self.some(table::volumes()),
            unreadable_datastores: self.some(vec!["nfs".into()]),
        }))
    }

    async fn inspect_volume(
        &self,
        request: Request<v1::InspectVolumeRequest>,
    ) -> Answer<v1::InspectVolumeReply> {
        let address = request.into_inner().address;
        if address == "slow" {
            sleep(Duration::from_secs(60)).await;
        }
        if let Some(error) = address_error(&address) {
            return Err(error);
        }
        let name = |v: &v1::AdminVolume| v.volume.as_ref().is_some_and(|v| v.name == address);
        let found = table::volumes().into_iter().find(name);
        Ok(Response::new(v1::InspectVolumeReply {
            volume: Some(found.ok_or_else(|| not_found(&address))?),
            record_json: r#"{"format":1}"#.into(),
        }))
    }

    async fn remove_volume(
        &self,
        request: Request<v1::RemoveVolumeRequest>,
    ) -> Answer<v1::RemoveVolumeReply> {
        let mut request = request.into_inner();
        let address = request.address.clone();
        self.change(&address, request.head.take(), request)?;
        Ok(Response::new(v1::RemoveVolumeReply {
            id: table::ID.into(),
            full_name: format!("{address}@vsanDatastore"),
        }))
    }

    async fn list_vms(&self, _: Request<v1::ListVmsRequest>) -> Answer<v1::ListVmsReply> {
        let vms = self.some(table::vms());
        Ok(Response::new(v1::ListVmsReply { vms }))
    }

    async fn list_datastores(
        &self,
        _: Request<v1::ListDatastoresRequest>,
    ) -> Answer<v1::ListDatastoresReply> {
        let datastores = self.some(table::datastores());
        Ok(Response::new(v1::ListDatastoresReply { datastores }))
    }

    async fn list_groups(
        &self,
        request: Request<v1::ListGroupsRequest>,
    ) -> Answer<v1::ListGroupsReply> {
        let name = request.into_inner().name;
        let mut groups = self.some(table::groups());
        groups.retain(|g| name.is_empty() || g.name == name);
        Ok(Response::new(v1::ListGroupsReply {
            groups,
            not_configured: self.empty,
        }))
    }

    async fn change_group(
        &self,
        request: Request<v1::ChangeGroupRequest>,
    ) -> Answer<v1::ChangeReply> {
        use v1::change_group_request::Change;
        let mut request = request.into_inner();
        let subject = match request.change.as_ref().unwrap() {
            Change::Create(c) => c.name.clone(),
            Change::Update(c) => c.name.clone(),
            Change::Remove(c) => c.name.clone(),
            Change::Members(c) => c.group.clone(),
            Change::Privilege(c) => c.group.clone(),
        };
        let head = request.head.take();
        self.change(&subject, head, request.change.unwrap())
    }

    async fn list_policies(
        &self,
        _: Request<v1::ListPoliciesRequest>,
    ) -> Answer<v1::ListPoliciesReply> {
        let policies = self.some(table::policies());
        Ok(Response::new(v1::ListPoliciesReply { policies }))
    }

    async fn change_policy(
        &self,
        request: Request<v1::ChangePolicyRequest>,
    ) -> Answer<v1::ChangeReply> {
        let mut request = request.into_inner();
        let (subject, head) = (request.name.clone(), request.head.take());
        self.change(&subject, head, request)
    }

    async fn show_config(&self, _: Request<v1::ShowConfigRequest>) -> Answer<v1::ShowConfigReply> {
        Ok(Response::new(table::config(self.empty)))
    }

    async fn config_history(
        &self,
        _: Request<v1::ConfigHistoryRequest>,
    ) -> Answer<v1::ConfigHistoryReply> {
        let changes = self.some(table::history());
        Ok(Response::new(v1::ConfigHistoryReply { changes }))
    }

    async fn change_config(
        &self,
        request: Request<v1::ChangeConfigRequest>,
    ) -> Answer<v1::ChangeReply> {
        let mut request = request.into_inner();
        let head = request.head.take();
        self.change("warned", head, request)
    }

    async fn backup_config(
        &self,
        _: Request<v1::BackupConfigRequest>,
    ) -> Answer<v1::BackupConfigReply> {
        let json = r#"{"format":1,"groups":[]}"#.into();
        Ok(Response::new(v1::BackupConfigReply { json }))
    }

    async fn set_volume(&self, request: Request<v1::SetVolumeRequest>) -> Answer<v1::ChangeReply> {
        let mut request = request.into_inner();
        let (subject, head) = (request.address.clone(), request.head.take());
        self.change(&subject, head, request)
    }

    async fn move_volume(
        &self,
        request: Request<v1::MoveVolumeRequest>,
    ) -> Answer<v1::ChangeReply> {
        let mut request = request.into_inner();
        let (subject, head) = (request.address.clone(), request.head.take());
        self.change(&subject, head, request)
    }

    async fn take_volume(
        &self,
        request: Request<v1::TakeVolumeRequest>,
    ) -> Answer<v1::ChangeReply> {
        let mut request = request.into_inner();
        let (subject, head) = (request.address.clone(), request.head.take());
        self.change(&subject, head, request)
    }

    async fn prepare_vms(
        &self,
        request: Request<v1::PrepareVmsRequest>,
    ) -> Answer<v1::ChangeReply> {
        let mut request = request.into_inner();
        let (subject, head) = (request.vms.join(" "), request.head.take());
        self.change(&subject, head, request)
    }

    async fn why_volume(
        &self,
        request: Request<v1::WhyVolumeRequest>,
    ) -> Answer<v1::WhyVolumeReply> {
        let address = request.into_inner().address;
        match address_error(&address) {
            Some(error) => Err(error),
            None => Ok(Response::new(table::why())),
        }
    }

    async fn list_hosts(&self, _: Request<v1::ListHostsRequest>) -> Answer<v1::ListHostsReply> {
        let hosts = self.some(table::hosts());
        Ok(Response::new(v1::ListHostsReply { hosts }))
    }

    async fn list_audit(
        &self,
        request: Request<v1::ListAuditRequest>,
    ) -> Answer<v1::ListAuditReply> {
        let mut entries = self.some(table::audit());
        let question = request.into_inner();
        entries.retain(|e| {
            (question.before == 0 || e.number < question.before)
                && e.who.contains(&question.who)
                && e.at_unix_ms >= question.since_unix_ms
                && (!question.denials_only || e.outcome != "done")
        });
        // Pages of two, so that an export has to turn some.
        let more = entries.len() > 2;
        entries.truncate(2);
        Ok(Response::new(v1::ListAuditReply {
            entries,
            more,
            host: "esx01".into(),
        }))
    }

    async fn doctor(&self, _: Request<v1::DoctorRequest>) -> Answer<v1::DoctorReply> {
        Ok(Response::new(v1::DoctorReply {
            findings: self.some(findings::findings()),
            host: "esx01".into(),
            volumes: if self.empty { 0 } else { 12 },
            vms: 3,
            hosts: 1,
        }))
    }

    async fn repair(&self, request: Request<v1::RepairRequest>) -> Answer<v1::RepairReply> {
        let mut ask = request.into_inner();
        self.note(ask.head.take(), &ask);
        if ask.name == "unknown" {
            let text = "finding: there is none of that name; there are: powered-off-owner";
            return Err(refused(ErrorKind::InvalidArgument, text));
        }
        let repaired = findings::repaired(&ask.name, ask.dry_run);
        let repaired = repaired.into_iter();
        let fits = |r: &v1::Repaired| ask.object.is_empty() || r.object == ask.object;
        Ok(Response::new(v1::RepairReply {
            repaired: repaired.filter(fits).collect(),
        }))
    }

    async fn fsck(&self, request: Request<v1::FsckRequest>) -> Answer<v1::FsckReply> {
        let mut ask = request.into_inner();
        if ask.repair {
            self.note(ask.head.take(), &ask);
        }
        let long = ask.datastores.iter().any(|d| d == "slow");
        if long && ask.report_of.is_empty() {
            self.works.lock().unwrap().insert("w-quick".into(), 0);
            return Ok(Response::new(v1::FsckReply {
                work: Some(table::work("w-quick", 0)),
                ..v1::FsckReply::default()
            }));
        }
        Ok(Response::new(table::damage(ask.repair, self.empty)))
    }

    async fn show_work(&self, request: Request<v1::ShowWorkRequest>) -> Answer<v1::ShowWorkReply> {
        let question = request.into_inner();
        *self.questions.lock().unwrap() += 1;
        if question.id == "w-endless" && question.wait_ms > 0 {
            sleep(Duration::from_millis(question.wait_ms.into())).await;
        }
        let mut works = self.works.lock().unwrap();
        let step = match question.id.as_str() {
            // It never gets on, so that it can be interrupted.
            "w-endless" => 1,
            "w-vanishing" => {
                return Err(refused(ErrorKind::NotFound, "there is no work w-vanishing"));
            }
            "w-failing" if !works.contains_key("w-failing") => 3,
            id => {
                let known = works.get_mut(id);
                let step =
                    known.ok_or_else(|| refused(ErrorKind::NotFound, "there is no such work"))?;
                *step += 1;
                *step
            }
        };
        let work = Some(table::work(&question.id, step));
        Ok(Response::new(v1::ShowWorkReply { work }))
    }

    async fn list_works(&self, _: Request<v1::ListWorksRequest>) -> Answer<v1::ListWorksReply> {
        let works = vec![table::work("w-long", 1), table::work("w-failing", 3)];
        Ok(Response::new(v1::ListWorksReply {
            works: self.some(works),
        }))
    }
}
