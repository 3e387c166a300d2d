//! The engine over a simulated world. Each test is a sentence about behaviour; time is paused, so waits cost nothing.

mod attachments;
mod support;
mod volumes;
