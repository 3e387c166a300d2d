//! Datastores: whether they can be used, have room, and are seen by more than one host.

use super::views::Views;
use super::{Found, Kind};
use crate::admin_lists::is_low;
use crate::governance::Governed;
use crate::inner::Inner;

impl Inner {
    pub(super) async fn findings_of_datastores(&self, views: &Views) -> Vec<Found> {
        let mut found = Vec::new();
        for info in &views.datastores {
            let ds = &info.name;
            if !info.accessible {
                let text = "it is not accessible from this host";
                found.push(Found::new(Kind::InaccessibleDatastore, ds, text));
                continue;
            }
            if is_low(info) {
                let (free, all) = (info.free_bytes >> 20, info.capacity_bytes >> 20);
                let text = format!("only {free} MiB of {all} MiB are free");
                found.push(Found::new(Kind::LowSpace, ds, text));
            }
            match self.answering(ds, self.governed(ds)).await {
                Ok(Governed::Not(why)) => {
                    found.push(Found::new(Kind::ClosedDatastore, ds, why));
                }
                Ok(Governed::By(rules)) if rules.kept => {
                    let home = &rules.home;
                    let text = format!("it lies on {home}, version {} is used", rules.version);
                    found.push(Found::new(Kind::KeptConfiguration, ds, text));
                }
                Ok(_) => {}
                // What could not be read was said of its records already.
                Err(_) if !views.read.contains(ds) => {}
                Err(why) => {
                    found.push(Found::new(Kind::ClosedDatastore, ds, why.to_string()));
                }
            }
        }
        for (ds, volumes, attached) in self.lonely(&views.others).await {
            let text =
                format!("only this host sees it; it has {volumes} volumes, {attached} attached");
            found.push(Found::new(Kind::LonelyDatastore, ds, text));
        }
        found
    }
}
