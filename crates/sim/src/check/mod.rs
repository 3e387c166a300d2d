//! Who judges: a checker that watches disks and writers and hears what was acknowledged; it asks neither engine nor plugin.
