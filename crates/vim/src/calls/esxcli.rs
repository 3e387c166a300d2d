//! `esxcli vm process list`, through hostd: which VM has which cartel id.
//!
//! esxcli's objects are not in the inventory. `RetrieveManagedMethodExecuter` gives a host's executer, and its
//! `ExecuteSoap` runs a method of an object named by its type and returns the answer as a text that is XML itself.

use tokio::time::Instant;

use crate::soap::{Answer, Call, Repeat, localized, senseless};
use crate::xml::{Element, Limits, parse};
use crate::{Client, Error, MoRef};

/// A VM's process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VmProcess {
    /// `DisplayName`
    pub display_name: String,
    /// `ConfigFile`: `/vmfs/volumes/<datastore>/vm/vm.vmx`.
    pub config_file: String,
    /// `UUID`: the BIOS UUID, in hostd's spelling.
    pub uuid: String,
    /// `VMXCartelID`: what vSockets say of a peer.
    pub vmx_cartel_id: Option<u32>,
    /// `WorldID`
    pub world_id: Option<u32>,
    /// `ProcessID`
    pub process_id: Option<u32>,
}

impl VmProcess {
    fn read(element: &Element) -> Self {
        let text = |field: &str| element.some_text_of(field).unwrap_or_default();
        Self {
            display_name: text("DisplayName"),
            config_file: text("ConfigFile"),
            uuid: text("UUID"),
            vmx_cartel_id: element.number_of("VMXCartelID"),
            world_id: element.number_of("WorldID"),
            process_id: element.number_of("ProcessID"),
        }
    }
}

/// Where `esxcli vm process list` lives.
const OBJECT: &str = "ha-cli-handler-vm-process";
const METHOD: &str = "vim.EsxCLI.vm.process.list";
/// The version esxcli's methods are asked in, on every release.
const VERSION: &str = "urn:vim25/5.0";

impl Client {
    /// `vim.EsxCLI.vm.process.list` of a host. `executer` from [`Client::retrieve_managed_method_executer`].
    ///
    /// # Errors
    /// [`Error`]
    pub async fn vm_process_list(
        &self,
        executer: &MoRef,
        deadline: Instant,
    ) -> Result<Vec<VmProcess>, Error> {
        let call = Call::new("ExecuteSoap", Repeat::Safe, executer, |w| {
            w.text("moid", OBJECT);
            w.text("version", VERSION);
            w.text("method", METHOD);
        });
        let answer = self.invoke(call, deadline).await?;
        processes(&answer)
    }

    /// `RetrieveManagedMethodExecuter` of a host. The reference ends with the session.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn retrieve_managed_method_executer(
        &self,
        host: &MoRef,
        deadline: Instant,
    ) -> Result<MoRef, Error> {
        let call = Call::new("RetrieveManagedMethodExecuter", Repeat::Safe, host, |_| ());
        self.invoke(call, deadline).await?.need_moref()
    }
}

/// Reads the answer within the answer.
fn processes(answer: &Answer) -> Result<Vec<VmProcess>, Error> {
    // No `returnval`, or one without a response: the method returned nothing, and that is no list.
    let result = answer.need("returnval")?;
    if let Some(fault) = result.child("fault") {
        return Err(Error::Refused {
            call: METHOD,
            fault: Box::new(detail_of(fault)),
        });
    }
    let Some(response) = result.child("response") else {
        return Err(senseless(METHOD, "it has no 'response'"));
    };
    if response.text().is_empty() {
        return Ok(Vec::new());
    }
    let list = parse(response.text().as_bytes(), &Limits::ANSWER)
        .map_err(|why| senseless(METHOD, &why.to_string()))?;
    Ok(list.children().iter().map(VmProcess::read).collect())
}

/// The fault of an executed method: a message, and the fault itself as a text that is XML.
fn detail_of(fault: &Element) -> crate::Fault {
    let message = fault.text_of("faultMsg").unwrap_or_default();
    let detail = fault.text_of("faultDetail").unwrap_or_default();
    let mut wrapped = Element::default();
    if let Ok(inner) = parse(detail.as_bytes(), &Limits::ANSWER) {
        wrapped.children.push(Element {
            name: "fault".to_owned(),
            ..inner
        });
    }
    wrapped.children.push(Element {
        name: "localizedMessage".to_owned(),
        text: message.to_owned(),
        ..Element::default()
    });
    localized(&wrapped)
}
