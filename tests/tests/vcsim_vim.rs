//! The SOAP client against a hostd that nobody here wrote, as a host by itself and as a vCenter.

#[cfg(test)]
#[path = "vcsim_vim/client.rs"]
mod client;
