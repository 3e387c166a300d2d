//! What the fake answers.

use std::fs;

use super::{Seen, State};

/// An answer, or what happens instead of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// `<CALLResponse>` with this in it.
    Answer(String),
    /// A fault of this type, with this in its detail.
    Fault(&'static str, String),
    /// Another HTTP status, with an empty body.
    Status(u16),
    /// A body that is sent as it is, with status 200.
    Raw(Vec<u8>),
    /// An answer of which only this many bytes of the body are sent before the connection closes.
    Cut(String, usize),
    /// The connection closes without a byte.
    HangUp,
    /// Nothing, for as long as the client stays.
    Silence,
}

impl Reply {
    /// `<CALLResponse>` with this in it.
    #[must_use]
    pub fn answer(inside: impl Into<String>) -> Self {
        Self::Answer(inside.into())
    }

    /// A fault without details.
    #[must_use]
    pub fn fault(kind: &'static str) -> Self {
        Self::Fault(kind, String::new())
    }
}

const OPEN: &str = r#"<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>"#;
const CLOSE: &str = "</soapenv:Body></soapenv:Envelope>";

/// The envelope of an answer.
pub(super) fn answer(call: &str, inside: &str) -> String {
    format!(r#"{OPEN}<{call}Response xmlns="urn:vim25">{inside}</{call}Response>{CLOSE}"#)
}

/// The envelope of a fault.
pub(super) fn fault(kind: &str, inside: &str) -> String {
    format!(
        "{OPEN}<soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>it is a fake's {kind}</faultstring>\
         <detail><{kind}Fault xmlns=\"urn:vim25\" xsi:type=\"{kind}\">{inside}</{kind}Fault></detail></soapenv:Fault>\
         {CLOSE}"
    )
}

/// What a host says of itself before anybody has logged in.
const CONTENT: &str = r#"<returnval><rootFolder type="Folder">ha-folder-root</rootFolder>
    <propertyCollector type="PropertyCollector">ha-property-collector</propertyCollector>
    <viewManager type="ViewManager">ViewManager</viewManager>
    <about><name>VMware ESXi</name><fullName>a fake</fullName><version>8.0.2</version><build>1</build>
    <apiType>HostAgent</apiType><apiVersion>8.0.2.0</apiVersion></about>
    <sessionManager type="SessionManager">ha-sessionmgr</sessionManager>
    <searchIndex type="SearchIndex">ha-searchindex</searchIndex>
    <virtualDiskManager type="VirtualDiskManager">ha-vdiskmanager</virtualDiskManager>
    <fileManager type="FileManager">ha-nfc-file-manager</fileManager>
    <datastoreNamespaceManager type="DatastoreNamespaceManager">ha-datastore-namespace-manager</datastoreNamespaceManager>
    </returnval>"#;

impl State {
    /// The answer to a request, and the cookie of a session that begins with it.
    pub(super) fn decide(&mut self, seen: &Seen) -> (Reply, Option<String>) {
        self.seen.push(seen.clone());
        let queued = self.script.get_mut(&seen.call).and_then(|q| q.pop_front());
        if let Some(reply) = queued {
            return (reply, None);
        }
        let known = seen
            .cookie
            .as_ref()
            .is_some_and(|c| self.sessions.contains(c));
        match seen.call.as_str() {
            "RetrieveServiceContent" => (Reply::answer(CONTENT), None),
            "CurrentTime" => (
                Reply::answer("<returnval>2026-01-01T00:00:00Z</returnval>"),
                None,
            ),
            "AcquireLocalTicket" => (self.ticket(), None),
            "Login" => self.login(seen),
            _ if !known => (Reply::fault("NotAuthenticated"), None),
            "Logout" => {
                self.sessions.retain(|s| Some(s) != seen.cookie.as_ref());
                (Reply::answer(""), None)
            }
            call => {
                let standing = self.standing.get(call).cloned();
                (standing.unwrap_or(Reply::fault("MethodNotFound")), None)
            }
        }
    }

    fn login(&mut self, seen: &Seen) -> (Reply, Option<String>) {
        let by_ticket = self.tickets.is_some() && seen.body.contains("<password>ticket-");
        if !seen.body.contains("<password>right</password>") && !by_ticket {
            return (Reply::fault("InvalidLogin"), None);
        }
        self.logins += 1;
        let cookie = format!("vmware_soap_session=\"{}\"", self.logins);
        self.sessions.insert(cookie.clone());
        let answer = "<returnval><key>k</key><userName>root</userName></returnval>";
        (Reply::answer(answer), Some(cookie))
    }

    fn ticket(&self) -> Reply {
        let Some(folder) = &self.tickets else {
            return Reply::fault("NotSupported");
        };
        let file = folder.join("ticket");
        fs::write(&file, format!("ticket-{}", self.logins))
            .expect("a test's folder can be written");
        Reply::answer(format!(
            "<returnval><userName>root</userName><passwordFilePath>{}</passwordFilePath></returnval>",
            file.display()
        ))
    }
}
