//! Docker's side of the plugin's socket.

pub(crate) use vdvs_tests::driver::call;
