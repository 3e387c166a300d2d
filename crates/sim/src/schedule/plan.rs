//! What a seed stands for.

use std::fmt;
use std::time::Duration;

use super::dice::Dice;
use super::draw;
use super::step::Timed;

/// The world a plan runs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Hosts.
    pub hosts: usize,
    /// VMs; the first ones are on the first host, and so on in turn.
    pub vms: usize,
    /// Datastores that all hosts share.
    pub datastores: usize,
    /// Volumes that the services use: per volume whether it is `failover=fence`.
    pub fenced: Vec<bool>,
    /// Services: which volumes each has.
    pub services: Vec<Vec<usize>>,
    /// How long a lock lasts after its host is gone.
    pub lapse: Duration,
    /// What a call of an agent takes at most, in milliseconds.
    pub pace: u64,
    /// Docker is told the driver with every use of a volume (`driver:` in the stack).
    pub driver_named: bool,
}

/// A schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What everything that is drawn while it runs is drawn from.
    pub seed: u64,
    /// The world.
    pub shape: Shape,
    /// What happens.
    pub steps: Vec<Timed>,
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut dice = Dice::of(seed, "plan");
        let shape = draw::shape(&mut dice);
        let steps = draw::steps(&mut dice, &shape);
        Self { seed, shape, steps }
    }

    /// The same world with these steps.
    #[must_use]
    pub fn with(&self, steps: Vec<Timed>) -> Self {
        Self {
            steps,
            ..self.clone()
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} hosts, {} VMs, {} datastores, locks lapse after {} s, calls take up to {} ms, services with volumes {:?} (fence: {:?}), driver {}",
            self.hosts,
            self.vms,
            self.datastores,
            self.lapse.as_secs(),
            self.pace,
            self.services,
            self.fenced,
            if self.driver_named {
                "named"
            } else {
                "not named"
            },
        )
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}", self.seed, self.shape)?;
        for (number, step) in self.steps.iter().enumerate() {
            writeln!(f, "  {number:>2} {step}")?;
        }
        Ok(())
    }
}
