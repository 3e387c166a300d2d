//! Hosts with the real engine, their agents, the VMs and the datastores they share.
