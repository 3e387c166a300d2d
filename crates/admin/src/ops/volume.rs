//! Volumes.

use std::collections::BTreeMap;

use vdvs_api::v1;
use vdvs_domain::ErrorKind;

use super::missing;
use crate::agent::Agent;
use crate::arrange::Arrangement;
use crate::failure::Failure;
use crate::glob::fits;
use crate::view::{Changed, Inspection, Removed, Tabular, VolumeList, Why};

/// All volumes of the groups that fit `vmgroup`, arranged. An orphan belongs to no group.
///
/// # Errors
/// [`Failure`].
pub async fn list(
    agent: &mut Agent,
    vmgroup: &str,
    arrangement: &Arrangement,
) -> Result<VolumeList, Failure> {
    let reply = agent.list_all_volumes(v1::ListAllVolumesRequest {}).await?;
    let mut list = VolumeList::from(reply);
    if vmgroup != "*" {
        list.volumes
            .retain(|v| !v.orphan && fits(vmgroup, &v.group));
    }
    let grid = list.grid();
    list.volumes = arrangement.apply(list.volumes, &grid)?;
    Ok(list)
}

/// Everything about one volume.
///
/// # Errors
/// [`Failure`].
pub async fn inspect(agent: &mut Agent, address: &str) -> Result<Inspection, Failure> {
    let reply = agent
        .inspect_volume(v1::InspectVolumeRequest {
            address: address.to_owned(),
        })
        .await?;
    let volume = reply.volume.ok_or_else(|| missing("volume"))?;
    Ok(Inspection::new(volume, &reply.record_json))
}

/// What a volume waits for.
///
/// # Errors
/// [`Failure`].
pub async fn why(agent: &mut Agent, address: &str) -> Result<Why, Failure> {
    let reply = agent
        .why_volume(v1::WhyVolumeRequest {
            address: address.to_owned(),
        })
        .await?;
    Ok(reply.into())
}

/// Removes a volume and its data.
///
/// # Errors
/// [`Failure`].
pub async fn remove(agent: &mut Agent, address: &str) -> Result<Removed, Failure> {
    let reply = agent
        .remove_volume(v1::RemoveVolumeRequest {
            head: None,
            address: address.to_owned(),
        })
        .await?;
    Ok(Removed {
        removed: reply.full_name,
        id: reply.id,
    })
}

/// Options as they stand on the command line, `k=v,k=v`, blanks around them ignored.
///
/// # Errors
/// [`Failure`]: one without `=`, or twice the same.
pub fn options<'a>(
    texts: impl IntoIterator<Item = &'a str>,
) -> Result<BTreeMap<String, String>, Failure> {
    let wrong = |text: String| Failure::new(ErrorKind::InvalidArgument, text);
    let mut options = BTreeMap::new();
    let parts = texts.into_iter().flat_map(|text| text.split(','));
    for part in parts.map(str::trim).filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').ok_or_else(|| {
            wrong(format!(
                "{part}: write options as key=value, for example access=read-only"
            ))
        })?;
        let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
        if options.insert(key.clone(), value).is_some() {
            return Err(wrong(format!("option {key} is given twice")));
        }
    }
    if options.is_empty() {
        return Err(wrong(
            "no option is given; write key=value, for example access=read-only".to_owned(),
        ));
    }
    Ok(options)
}

/// How the original says that settings were not changed.
#[must_use]
pub fn refused(options: &str, volume: &str, why: &str) -> String {
    format!(
        "Failed to update {options} for {volume} - {}.",
        why.trim_end_matches('.')
    )
}

/// Changes a volume's options; with `vmgroup` only if it is in that group.
///
/// # Errors
/// [`Failure`].
pub async fn set(
    agent: &mut Agent,
    address: &str,
    vmgroup: Option<&str>,
    options: BTreeMap<String, String>,
) -> Result<Changed, Failure> {
    let reply = agent
        .set_volume(v1::SetVolumeRequest {
            address: address.to_owned(),
            group: vmgroup.unwrap_or_default().to_owned(),
            options: options.into_iter().collect(),
            ..v1::SetVolumeRequest::default()
        })
        .await?;
    Ok(Changed::new(
        format!("Successfully updated settings for {address}"),
        reply,
    ))
}

/// Protects a volume against removal, or lifts the protection.
///
/// # Errors
/// [`Failure`].
pub async fn protect(agent: &mut Agent, address: &str, on: bool) -> Result<Changed, Failure> {
    let reply = agent
        .set_volume(v1::SetVolumeRequest {
            address: address.to_owned(),
            protect: Some(on),
            ..v1::SetVolumeRequest::default()
        })
        .await?;
    let message = if on {
        format!("Volume {address} is protected: nobody removes it before 'vdvs volume unprotect'")
    } else {
        format!("Volume {address} is not protected any more")
    };
    Ok(Changed::new(message, reply))
}

/// Moves a volume to another vmgroup.
///
/// # Errors
/// [`Failure`].
pub async fn move_to(
    agent: &mut Agent,
    address: &str,
    to_group: &str,
    force: bool,
) -> Result<Changed, Failure> {
    let reply = agent
        .move_volume(v1::MoveVolumeRequest {
            head: None,
            address: address.to_owned(),
            to_group: to_group.to_owned(),
            force,
        })
        .await?;
    Ok(Changed::new(
        format!("Volume {address} is in vmgroup {to_group}"),
        reply,
    ))
}

/// Gives a volume without a vmgroup to one. Another group's volume is refused: that is what moving is for.
///
/// # Errors
/// [`Failure`].
pub async fn adopt(
    agent: &mut Agent,
    address: &str,
    to_group: &str,
    force: bool,
) -> Result<Changed, Failure> {
    let found = inspect(agent, address).await?.volume;
    if !found.orphan {
        return Err(Failure::new(
            ErrorKind::InvalidArgument,
            format!(
                "volume {} is no orphan: it is in vmgroup {}. Move it with: vdvs volume move {address} --to-group={to_group}",
                found.name, found.group
            ),
        ));
    }
    // By id: exactly the volume that was looked at.
    let reply = agent
        .move_volume(v1::MoveVolumeRequest {
            head: None,
            address: found.id,
            to_group: to_group.to_owned(),
            force,
        })
        .await?;
    Ok(Changed::new(
        format!("Volume {address} is in vmgroup {to_group}"),
        reply,
    ))
}

/// Takes a volume from the VM that has it.
///
/// # Errors
/// [`Failure`].
pub async fn detach(agent: &mut Agent, address: &str, force: bool) -> Result<Changed, Failure> {
    let reply = agent
        .take_volume(v1::TakeVolumeRequest {
            head: None,
            address: address.to_owned(),
            force,
        })
        .await?;
    Ok(Changed::new(format!("Volume {address} is detached"), reply))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_with_or_without_blanks() {
        let read = |texts: &[&str]| options(texts.iter().copied());
        let both = read(&["access=read-only, attach-as = persistent"]).unwrap();
        assert_eq!(
            both,
            read(&["attach-as=persistent", "access=read-only"]).unwrap()
        );
        assert_eq!(both["attach-as"], "persistent");
        for wrong in [&["access"][..], &[][..], &[" , "][..], &["a=1,a=2"][..]] {
            assert_eq!(read(wrong).unwrap_err().exit_code(), 2, "{wrong:?}");
        }
    }
}
