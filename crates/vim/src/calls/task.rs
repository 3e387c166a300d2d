//! `Task`: work of the host that outlives the call which began it.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::property::{Objects, filter_spec};
use crate::link::Pace;
use crate::soap::{Call, Repeat, localized};
use crate::xml::Element;
use crate::{Client, Error, Fault, Lost, MoRef, NotSent, Properties};

/// A task that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The call that began it.
    pub call: &'static str,
    /// The task.
    pub object: MoRef,
}

/// What a finished task left.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaskResult {
    /// Its result, where it has one.
    pub value: Option<Element>,
}

/// How far a task is.
#[derive(Debug)]
enum State {
    Runs(Option<u8>),
    Done(TaskResult),
    Failed(Fault),
}

/// What is read of a task. Never `info` whole: real and simulated hosts put things into it that the schema forbids.
const PATHS: &[&str] = &["info.state", "info.progress", "info.error", "info.result"];

/// Longest single wait at the host. Short, so that a restart of hostd is noticed, and what is behind it looked at.
const MOST_WAIT: Duration = Duration::from_secs(20);

impl Client {
    /// Sends a call that begins a task.
    pub(crate) async fn start(&self, call: Call, deadline: Instant) -> Result<Task, Error> {
        let name = call.name;
        let object = self.invoke(call, deadline).await?.need_moref()?;
        Ok(Task { call: name, object })
    }

    /// Waits until the task has ended. `progress` hears of it in percent.
    ///
    /// A lost connection or session is made up for while there is time. What stays unknown is unknown: the task may run
    /// on, and its object is to be looked at.
    ///
    /// # Errors
    /// [`Error::Refused`] when the task ended with a fault, [`Error::Unknown`] when it is not known how it ended. Never
    /// [`Error::NotSent`], since the task was begun.
    pub async fn finish(
        &self,
        task: &Task,
        progress: impl FnMut(u8),
        deadline: Instant,
    ) -> Result<TaskResult, Error> {
        Waits {
            client: self,
            task,
            progress,
            deadline,
            pace: Pace::of_call(),
        }
        .run()
        .await
    }

    /// `CancelTask`. Whether it had an effect is told by [`Client::finish`].
    ///
    /// # Errors
    /// [`Error`]
    pub async fn cancel_task(&self, task: &Task, deadline: Instant) -> Result<(), Error> {
        let call = Call::new("CancelTask", Repeat::Safe, &task.object, |_| ());
        self.invoke(call, deadline).await.map(drop)
    }
}

/// Someone waiting for a task.
struct Waits<'a, F> {
    client: &'a Client,
    task: &'a Task,
    progress: F,
    deadline: Instant,
    pace: Pace,
}

impl<F: FnMut(u8)> Waits<'_, F> {
    async fn run(mut self) -> Result<TaskResult, Error> {
        // Most tasks are over when they are first looked at.
        if let Some(end) = self.look().await? {
            return end;
        }
        loop {
            match self.wait().await {
                Ok(Some(end)) => return end,
                Ok(None) => {}
                Err(why) => self.survive(why).await?,
            }
            if let Some(end) = self.look().await? {
                return end;
            }
        }
    }

    /// Reads the task once.
    async fn look(&mut self) -> Result<Option<Result<TaskResult, Error>>, Error> {
        loop {
            let client = self.client;
            let read = client
                .properties(&self.task.object, PATHS, self.deadline)
                .await;
            match read {
                Ok(properties) => return Ok(self.judge(state_of(&properties))),
                Err(why) => self.survive(why).await?,
            }
        }
    }

    /// Waits at the host until the task changes, with a collector of its own.
    async fn wait(&mut self) -> Result<Option<Result<TaskResult, Error>>, Error> {
        let client = self.client;
        let collector = client.create_property_collector(self.deadline).await?;
        let end = self.wait_with(&collector).await;
        // One that stays behind ends with the session.
        if let Err(why) = client
            .destroy_property_collector(&collector, self.deadline)
            .await
        {
            tracing::debug!(%why, "a property collector stays until the session ends");
        }
        end
    }

    async fn wait_with(
        &mut self,
        collector: &MoRef,
    ) -> Result<Option<Result<TaskResult, Error>>, Error> {
        let client = self.client;
        let object = [self.task.object.clone()];
        let call = Call::new("CreateFilter", Repeat::Never, collector, |w| {
            let objects = Objects::Listed(&object);
            w.element("spec", |w| {
                filter_spec(w, object_kind(&object), PATHS, objects);
            });
            w.flag("partialUpdates", false);
        });
        client.invoke(call, self.deadline).await?;
        let mut version = String::new();
        let mut seen = Seen::default();
        while Instant::now() < self.deadline {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let update = client
                .wait_for_updates(collector, &version, left.min(MOST_WAIT), self.deadline)
                .await?;
            let Some(update) = update else {
                continue;
            };
            if update.version.is_empty() {
                return Ok(None);
            }
            version = update.version;
            for change in update.objects.iter().flat_map(|o| &o.changes) {
                seen.take(&change.path, change.value.as_ref());
            }
            if let Some(end) = self.judge(seen.state()) {
                return Ok(Some(end));
            }
        }
        Ok(None)
    }

    fn judge(&mut self, state: State) -> Option<Result<TaskResult, Error>> {
        match state {
            State::Runs(percent) => {
                if let Some(percent) = percent {
                    (self.progress)(percent);
                }
                None
            }
            State::Done(result) => Some(Ok(result)),
            State::Failed(fault) => Some(Err(Error::Refused {
                call: self.task.call,
                fault: Box::new(fault),
            })),
        }
    }

    /// Whether to go on after a failed look: yes while there is time, unless the task is not known any more.
    async fn survive(&mut self, why: Error) -> Result<(), Error> {
        let unknown = |why| Error::Unknown {
            call: self.task.call,
            why,
        };
        if Instant::now() >= self.deadline || why.is_deadline() {
            return Err(unknown(Lost::Deadline));
        }
        tracing::debug!(task = %self.task.object, %why, "looking at the task again");
        match why {
            Error::Refused { fault, .. } if fault.is_object_gone() => Err(unknown(Lost::TaskGone)),
            // The look opened a new session, or the next one will.
            Error::Refused { fault, .. } if fault.is_not_authenticated() => {
                sleep(self.pace.next()).await;
                Ok(())
            }
            Error::Refused { fault, .. } => Err(unknown(Lost::Answer(fault.to_string()))),
            Error::NotSent {
                why: NotSent::Login { cause, .. },
                ..
            } => Err(unknown(Lost::Connection(cause))),
            Error::NotSent { .. } | Error::Unknown { .. } => {
                sleep(self.pace.next()).await;
                Ok(())
            }
        }
    }
}

fn object_kind(objects: &[MoRef]) -> &str {
    objects.first().map_or("Task", MoRef::kind)
}

/// What is known of a task from its updates.
#[derive(Debug, Default)]
struct Seen {
    state: String,
    progress: Option<u8>,
    error: Option<Fault>,
    result: Option<Element>,
}

impl Seen {
    fn take(&mut self, path: &str, value: Option<&Element>) {
        match (path, value) {
            ("info.state", Some(value)) => value.text().clone_into(&mut self.state),
            ("info.progress", value) => self.progress = value.and_then(Element::number),
            ("info.error", value) => self.error = value.map(localized),
            ("info.result", value) => self.result = value.cloned(),
            _ => {}
        }
    }

    fn state(&self) -> State {
        match self.state.as_str() {
            "success" => State::Done(TaskResult {
                value: self.result.clone(),
            }),
            "error" => State::Failed(self.error.clone().unwrap_or_else(|| {
                Fault::read("", &Element::default(), "the task failed without a reason")
            })),
            _ => State::Runs(self.progress),
        }
    }
}

fn state_of(properties: &Properties) -> State {
    let mut seen = Seen::default();
    for (path, value) in properties.values() {
        seen.take(path, Some(value));
    }
    seen.state()
}
