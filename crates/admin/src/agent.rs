//! Calls to the agent.

use std::io;
use std::path::{Path, absolute};
use std::time::Duration;

use tonic::Request;
use tonic::transport::Channel;
use uuid::Uuid;
use vdvs_api::model::{AdminVm, AdminVolume, DatastoreStatus};
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

/// All volumes, and the datastores whose volumes are not known now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volumes {
    /// Those that could be read.
    pub volumes: Vec<AdminVolume>,
    /// Datastores that could not be read.
    pub unreadable: Vec<String>,
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

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        request
    }

    /// The agent's state.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn status(&mut self) -> Result<v1::StatusReply, Failure> {
        let request = self.request(v1::StatusRequest {});
        let reply = self.client.status(request).await;
        Ok(reply.map_err(RemoteError::from)?.into_inner())
    }

    /// All volumes of all groups.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn volumes(&mut self) -> Result<Volumes, Failure> {
        let request = self.request(v1::ListAllVolumesRequest {});
        let reply = self.client.list_all_volumes(request).await;
        let reply = reply.map_err(RemoteError::from)?.into_inner();
        let read = |v| AdminVolume::try_from(v).map_err(RemoteError::from);
        Ok(Volumes {
            volumes: reply
                .volumes
                .into_iter()
                .map(read)
                .collect::<Result<_, _>>()?,
            unreadable: reply.unreadable_datastores,
        })
    }

    /// One volume, and its record as JSON.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn inspect(&mut self, address: &str) -> Result<(AdminVolume, String), Failure> {
        let request = self.request(v1::InspectVolumeRequest {
            address: address.to_owned(),
        });
        let reply = self.client.inspect_volume(request).await;
        let reply = reply.map_err(RemoteError::from)?.into_inner();
        let volume = reply.volume.ok_or_else(|| {
            Failure::new(
                ErrorKind::Internal,
                "the agent's answer holds no volume; see its log",
            )
        })?;
        let volume = AdminVolume::try_from(volume).map_err(RemoteError::from)?;
        Ok((volume, reply.record_json))
    }

    /// Removes a volume; returns its id and full name.
    ///
    /// # Errors
    /// [`Failure`]. Without an answer it says how to find out what happened.
    pub async fn remove(&mut self, address: &str) -> Result<(String, String), Failure> {
        let request = self.request(v1::RemoveVolumeRequest {
            head: Some(v1::RequestHead {
                request_id: Uuid::new_v4().to_string(),
            }),
            address: address.to_owned(),
        });
        match self.client.remove_volume(request).await {
            Ok(reply) => {
                let reply = reply.into_inner();
                Ok((reply.id, reply.full_name))
            }
            Err(status) => {
                let e = RemoteError::from(status);
                let advice = if e.transport {
                    "; whether the volume was removed is not known: see vdvs volume ls"
                } else {
                    ""
                };
                Err(Failure::new(e.kind, format!("{}{advice}", e.text)))
            }
        }
    }

    /// The VMs of this host.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn vms(&mut self) -> Result<Vec<AdminVm>, Failure> {
        let request = self.request(v1::ListVmsRequest {});
        let reply = self.client.list_vms(request).await;
        let reply = reply.map_err(RemoteError::from)?.into_inner();
        Ok(reply.vms.into_iter().map(AdminVm::from).collect())
    }

    /// The datastores of this host.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn datastores(&mut self) -> Result<Vec<DatastoreStatus>, Failure> {
        let request = self.request(v1::ListDatastoresRequest {});
        let reply = self.client.list_datastores(request).await;
        let reply = reply.map_err(RemoteError::from)?.into_inner();
        let datastores = reply.datastores.into_iter();
        Ok(datastores.map(DatastoreStatus::from).collect())
    }
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
