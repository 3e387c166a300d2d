//! The real `vdvsd` with a simulated host, spoken to over its sockets.

mod peers;
mod process;
mod service;
mod stop;
