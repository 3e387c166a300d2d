//! vSAN policies.

use std::sync::Arc;

use tokio::time::Instant;
use tonic::Status;
use vdvs_api::v1::change_policy_request::How;
use vdvs_api::{status, v1};
use vdvs_domain::policy::PolicyExpression;
use vdvs_domain::{Error, PolicyName};
use vdvs_engine::api::{LocalUser, PolicyUse};

use super::{AdminFront, count};
use crate::guests::Class;

/// A policy as the wire shows it.
fn shown(used: PolicyUse) -> v1::Policy {
    v1::Policy {
        name: used.policy.name.to_string(),
        content: used.policy.content,
        volumes: count(used.volumes),
        outdated: count(used.outdated),
    }
}

impl AdminFront {
    pub(super) async fn answer_list_policies(
        &self,
        deadline: Instant,
        _wire: v1::ListPoliciesRequest,
    ) -> Result<v1::ListPoliciesReply, Status> {
        let policies = self.look(deadline, self.engine.policies()).await?;
        Ok(v1::ListPoliciesReply {
            policies: policies.into_iter().map(shown).collect(),
        })
    }

    pub(super) async fn answer_change_policy(
        &self,
        user: LocalUser,
        deadline: Instant,
        wire: v1::ChangePolicyRequest,
    ) -> Result<v1::ChangeReply, Status> {
        let how = wire.how();
        let name = PolicyName::new(&wire.name).map_err(|e| status::from_error(&e.into()))?;
        let (engine, content) = (Arc::clone(&self.engine), wire.content);
        match how {
            How::Update => {
                // What is wrong with it is said before any work begins; the same is checked again where it is changed.
                let warnings = PolicyExpression::parse(&content).map(|e| e.warnings(&name));
                let what = format!("policy update {name}");
                let run =
                    |tell| async move { engine.policy_update(&user, &name, &content, &tell).await };
                let mut reply = self.answer_or_work(deadline, what, 0, run).await?;
                reply.warnings = warnings.unwrap_or_default();
                Ok(reply)
            }
            How::Create => {
                let run = async move { engine.policy_create(&user, &name, &content).await };
                self.change_policy_now(deadline, run).await
            }
            How::Remove => {
                let run = async move {
                    let removed = engine.policy_remove(&user, &name).await;
                    removed.map(|()| Vec::new())
                };
                self.change_policy_now(deadline, run).await
            }
            How::Unspecified => Err(status::from_error(&Error::Invalid {
                what: "how",
                problem: "say whether to create, update or remove the policy".to_owned(),
            })),
        }
    }

    /// Runs a change that is soon done; what it returns are warnings.
    async fn change_policy_now(
        &self,
        deadline: Instant,
        run: impl Future<Output = Result<Vec<String>, Error>> + Send + 'static,
    ) -> Result<v1::ChangeReply, Status> {
        let class = Class::Change;
        let changed = self.calls.change(&self.places, class, deadline, |_| run);
        let warnings = changed.await.map_err(|e| {
            tracing::info!(reason = %e.kind(), "administrator: policy: {e}");
            status::from_error(&e)
        })?;
        Ok(v1::ChangeReply {
            warnings,
            ..v1::ChangeReply::default()
        })
    }
}
