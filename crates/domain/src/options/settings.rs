//! The options of a volume that may change after it was made. They count from its next attach on.

use std::collections::BTreeMap;

use super::{Access, AttachAs, CreateOptions, GivenOptions, OptionError};

/// Their keys.
pub const EDITABLE: [&str; 2] = ["access", "attach-as"];
/// Instead of a value: what a volume gets that is made without the option. So does no value at all.
const RESET: &str = "default";

/// New values; what is absent stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VolumeSettings {
    /// Whether VMs may write.
    pub access: Option<Access>,
    /// The disk's mode.
    pub attach_as: Option<AttachAs>,
}

impl VolumeSettings {
    /// Reads options as an administrator wrote them.
    ///
    /// # Errors
    /// [`OptionError::NotEditable`] naming every other option; the error of the value that is wrong.
    pub fn parse(map: &BTreeMap<String, String>) -> Result<Self, OptionError> {
        let trimmed = map.iter().map(|(key, value)| (key.trim(), value.trim()));
        let other = |(key, _): &(&str, &str)| !EDITABLE.contains(key);
        let unknown: Vec<String> = trimmed
            .clone()
            .filter(other)
            .map(|(key, _)| key.chars().take(64).collect())
            .collect();
        if !unknown.is_empty() {
            return Err(OptionError::NotEditable { unknown });
        }
        let normal = GivenOptions::default().resolve();
        let mut settings = Self::default();
        for (key, value) in trimmed {
            let reset = value.is_empty() || value == RESET;
            let value = value.to_owned();
            match (key, reset) {
                ("access", true) => settings.access = Some(normal.access),
                ("access", false) => {
                    let read = Access::parse(&value);
                    settings.access = Some(read.ok_or(OptionError::Access(value))?);
                }
                (_, true) => settings.attach_as = Some(normal.attach_as),
                (_, false) => {
                    let read = AttachAs::parse(&value);
                    settings.attach_as = Some(read.ok_or(OptionError::AttachAs(value))?);
                }
            }
        }
        Ok(settings)
    }

    /// Changes what they name. `false`: it was so already.
    pub fn apply(&self, options: &mut CreateOptions) -> bool {
        let before = options.clone();
        options.access = self.access.unwrap_or(options.access);
        options.attach_as = self.attach_as.unwrap_or(options.attach_as);
        *options != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<VolumeSettings, OptionError> {
        let owned = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        VolumeSettings::parse(&pairs.iter().map(owned).collect())
    }

    #[test]
    fn access_and_mode_change_and_go_back_to_what_a_new_volume_has() {
        let mut options = GivenOptions::default().resolve();
        let new = options.clone();
        let set = parse(&[(" access ", " read-only"), ("attach-as", "persistent")]).unwrap();
        assert!(set.apply(&mut options) && !set.apply(&mut options));
        assert_eq!(
            (options.access, options.attach_as),
            (Access::ReadOnly, AttachAs::Persistent)
        );
        assert!(parse(&[("access", "")]).unwrap().apply(&mut options));
        assert_eq!(options.attach_as, AttachAs::Persistent);
        assert!(
            parse(&[("attach-as", "default")])
                .unwrap()
                .apply(&mut options)
        );
        assert_eq!(options, new);
    }

    #[test]
    fn what_cannot_be_changed_is_refused_in_the_originals_words() {
        let text = parse(&[("size", "2gb"), ("access", "x")])
            .unwrap_err()
            .to_string();
        assert!(
            text.starts_with(
                "'Invalid options: ['size'] \nOptions that can be edited: ['access', 'attach-as']'"
            ),
            "{text}"
        );
        let text = parse(&[("access", "read-onyl")]).unwrap_err().to_string();
        assert!(
            text.contains("read-onyl") && text.contains("read-only"),
            "{text}"
        );
    }
}
