//! What moves work between VMs and knows nothing of volumes: the scheduler, HA, vMotion, administrators.
