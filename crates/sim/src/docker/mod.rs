//! dockerd as measured: retries with empty bodies, lost and late Unmounts, one ID nested, Get and List before a Mount.
