//! The ESXi host this agent runs on: its ports, and whose a connection is.

use std::error::Error as StdError;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Builder;
use vdvs_engine::ports::Vm;
use vdvs_host_esxi::{EsxHost, EsxiConfig, Heard, Login, probe as ask};

use crate::config::EsxiSettings;
use crate::doors::PeerIdentity;
use crate::hosts::{HostError, Hypervisor, chain};
use crate::probe::Finding;

/// How long one question of the probe may take; there are less than ten.
const QUESTION: Duration = Duration::from_millis(900);

/// Whose a connection is, as hostd says.
#[derive(Debug)]
struct Peers(Arc<EsxHost>);

#[tonic::async_trait]
impl PeerIdentity for Peers {
    async fn vm_of(&self, process_group: u32) -> Result<Option<Vm>, String> {
        let asked = self.0.vm_of_cartel(process_group).await;
        asked.map_err(|e| chain(&e))
    }
}

/// Opens it.
///
/// # Errors
/// [`HostError::Esxi`].
pub(crate) async fn open(settings: &EsxiSettings, state: &Path) -> Result<Hypervisor, HostError> {
    let failed = |may_pass, e: Box<dyn StdError + Send + Sync>| HostError::Esxi {
        may_pass,
        source: e,
    };
    let config = config(settings, state).map_err(|e| failed(false, e.into()))?;
    let opened = EsxHost::open(config).await;
    let opened = opened.map_err(|e| failed(e.may_pass(), e.into()))?;
    Ok(Hypervisor {
        identity: Some(Arc::new(Peers(Arc::clone(&opened.host)))),
        host: opened.host,
        datastores: opened.datastores,
        sockets: None,
    })
}

fn config(settings: &EsxiSettings, state: &Path) -> Result<EsxiConfig, String> {
    let mut config = EsxiConfig::local(state.to_owned());
    config.url.clone_from(&settings.url);
    config.certificate.clone_from(&settings.certificate);
    config.host.clone_from(&settings.host);
    config.login = match (&settings.user, &settings.password_file) {
        (Some(user), Some(file)) => {
            let password = fs::read_to_string(file)
                .map_err(|e| format!("cannot read the password in {}: {e}", file.display()))?;
            Login::Password {
                user: user.clone(),
                password: password.trim_end_matches(['\r', '\n']).to_owned(),
            }
        }
        (user, _) => Login::Ticket { user: user.clone() },
    };
    Ok(config)
}

/// What hostd says to us.
pub(crate) fn probe() -> Vec<Finding> {
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(e) => return vec![Finding::of(3, "hostd", Err(format!("no runtime: {e}")))],
    };
    // The state is not written: nothing here asks who we are.
    let config = EsxiConfig::local("/".into());
    let heard = runtime.block_on(ask(&config, QUESTION));
    let finding = |heard: Heard| Finding::of(heard.question, heard.name, heard.answer);
    heard.into_iter().map(finding).collect()
}
