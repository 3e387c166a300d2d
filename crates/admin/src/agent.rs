//! Calls to the agent: one method per request of the contract, each with a deadline. A question whose answer got lost
//! fails as it is; a change whose answer got lost says that its outcome is not known, and where to look.

use std::io;
use std::path::{Path, absolute};
use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Request, Status};
use uuid::Uuid;
use vdvs_api::v1;
use vdvs_api::v1::admin_service_client::AdminServiceClient;
use vdvs_api::{RemoteError, admin_client};
use vdvs_domain::ErrorKind;
use vdvs_transport::{Address, channel, dial};

use crate::failure::Failure;

/// A connection to the agent of this host.
#[derive(Debug)]
pub struct Agent {
    client: AdminServiceClient<Channel>,
    timeout: Duration,
}

impl Agent {
    /// Connects to the socket, so that an agent that does not run is told apart from one that does not answer.
    ///
    /// # Errors
    /// [`Failure`] with advice.
    pub async fn connect(socket: &Path, timeout: Duration) -> Result<Self, Failure> {
        let path = absolute(socket).unwrap_or_else(|_| socket.to_owned());
        let address = Address::Unix(path);
        match dial(&address).await {
            Ok(probe) => drop(probe),
            Err(e) => return Err(unreachable(socket, &e)),
        }
        Ok(Self {
            client: admin_client(channel(address)),
            timeout,
        })
    }

    fn request<T>(&self, message: T, more: Duration) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout.saturating_add(more));
        request
    }

    /// The next state of long work, at the latest after `message.wait_ms`.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn show_work(
        &mut self,
        message: v1::ShowWorkRequest,
    ) -> Result<v1::ShowWorkReply, Failure> {
        let wait = Duration::from_millis(message.wait_ms.into());
        let request = self.request(message, wait);
        let reply = self.client.show_work(request).await;
        Ok(reply.map_err(RemoteError::from)?.into_inner())
    }
}

macro_rules! questions {
    ($($name:ident($request:ident) -> $reply:ident, $what:literal;)+) => {
        impl Agent {
            $(
                #[doc = $what]
                ///
                /// # Errors
                /// [`Failure`].
                pub async fn $name(&mut self, message: v1::$request) -> Result<v1::$reply, Failure> {
                    let request = self.request(message, Duration::ZERO);
                    let reply = self.client.$name(request).await;
                    Ok(reply.map_err(RemoteError::from)?.into_inner())
                }
            )+
        }
    };
}

questions! {
    status(StatusRequest) -> StatusReply, "The agent's state.";
    list_all_volumes(ListAllVolumesRequest) -> ListAllVolumesReply, "All volumes of all groups.";
    inspect_volume(InspectVolumeRequest) -> InspectVolumeReply, "One volume, and its record.";
    why_volume(WhyVolumeRequest) -> WhyVolumeReply, "What a volume waits for.";
    list_vms(ListVmsRequest) -> ListVmsReply, "The VMs of all hosts.";
    list_datastores(ListDatastoresRequest) -> ListDatastoresReply, "The datastores of this host.";
    list_groups(ListGroupsRequest) -> ListGroupsReply, "The vmgroups.";
    list_policies(ListPoliciesRequest) -> ListPoliciesReply, "The vSAN policies.";
    show_config(ShowConfigRequest) -> ShowConfigReply, "Where the configuration lies.";
    config_history(ConfigHistoryRequest) -> ConfigHistoryReply, "What was changed in it.";
    backup_config(BackupConfigRequest) -> BackupConfigReply, "The configuration, to be kept elsewhere.";
    list_hosts(ListHostsRequest) -> ListHostsReply, "The hosts.";
    list_audit(ListAuditRequest) -> ListAuditReply, "Rows of the audit.";
    list_works(ListWorksRequest) -> ListWorksReply, "Long work.";
    doctor(DoctorRequest) -> DoctorReply, "What differs.";
}

macro_rules! changes {
    ($($name:ident($request:ident) -> $reply:ident, $look:literal, $what:literal;)+) => {
        impl Agent {
            $(
                #[doc = $what]
                /// The request gets an id of its own.
                ///
                /// # Errors
                /// [`Failure`]. Without an answer it says how to find out what happened.
                pub async fn $name(&mut self, mut message: v1::$request) -> Result<v1::$reply, Failure> {
                    message.head = Some(head());
                    let request = self.request(message, Duration::ZERO);
                    match self.client.$name(request).await {
                        Ok(reply) => Ok(reply.into_inner()),
                        Err(status) => Err(uncertain(status, $look)),
                    }
                }
            )+
        }
    };
}

changes! {
    remove_volume(RemoveVolumeRequest) -> RemoveVolumeReply, "vdvs volume ls", "Removes a volume.";
    set_volume(SetVolumeRequest) -> ChangeReply, "vdvs volume inspect", "Changes a volume's options.";
    move_volume(MoveVolumeRequest) -> ChangeReply, "vdvs volume ls", "Moves a volume to another vmgroup.";
    take_volume(TakeVolumeRequest) -> ChangeReply, "vdvs volume ls", "Takes a volume from its VM.";
    prepare_vms(PrepareVmsRequest) -> ChangeReply, "vdvs vm prepare, which may run twice", "Makes VMs ready for volumes.";
    repair(RepairRequest) -> RepairReply, "vdvs doctor", "Repairs what differs.";
    fsck(FsckRequest) -> FsckReply, "vdvs fsck", "Damage on datastores, and its repair.";
    change_group(ChangeGroupRequest) -> ChangeReply, "vdvs vmgroup ls", "Changes a vmgroup.";
    change_policy(ChangePolicyRequest) -> ChangeReply, "vdvs policy ls", "Changes a vSAN policy.";
    change_config(ChangeConfigRequest) -> ChangeReply, "vdvs config status", "Changes where the configuration lies, or all of it.";
}

fn head() -> v1::RequestHead {
    v1::RequestHead {
        request_id: Uuid::new_v4().to_string(),
    }
}

/// A change whose answer is an error, or got lost.
fn uncertain(status: Status, look: &str) -> Failure {
    let e = RemoteError::from(status);
    // What the agent does not know it has not begun.
    let advice = if e.transport && e.kind != ErrorKind::VersionMismatch {
        format!("; whether it was done is not known: see {look}")
    } else {
        String::new()
    };
    Failure::new(e.kind, format!("{}{advice}", e.text))
}

/// Why nobody answers on the socket, and what to do.
fn unreachable(socket: &Path, e: &io::Error) -> Failure {
    let socket = socket.display();
    match e.kind() {
        io::ErrorKind::NotFound => Failure::new(
            ErrorKind::Unavailable,
            format!(
                "the agent does not run: there is no socket {socket}. Start vdvsd, or name its admin socket with \
                 --socket or VDVS_ADMIN_SOCKET"
            ),
        ),
        io::ErrorKind::ConnectionRefused => Failure::new(
            ErrorKind::Unavailable,
            format!(
                "the agent does not run: nobody listens on {socket}. Start vdvsd; its log says why it ended"
            ),
        ),
        io::ErrorKind::PermissionDenied => Failure::new(
            ErrorKind::PermissionDenied,
            format!(
                "no permission to use {socket}: only root administers volumes; run vdvs as root"
            ),
        ),
        _ => Failure::new(
            ErrorKind::Unavailable,
            format!("cannot reach the agent on {socket}: {e}. See whether vdvsd runs, and its log"),
        ),
    }
}
