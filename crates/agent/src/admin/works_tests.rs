//! What callers of long work see.

use tokio::sync::{Notify, oneshot};
use tokio::time::advance;

use super::*;

impl Works {
    fn begin<Run>(
        &self,
        calls: &Calls,
        what: &str,
        total: u64,
        run: impl FnOnce(Teller) -> Run,
    ) -> Result<v1::Work, Error>
    where
        Run: Future<Output = Result<Vec<String>, Error>> + Send + 'static,
    {
        let begun = self.start(calls, what.to_owned(), total, run);
        begun.map(|entry| entry.shown())
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

#[tokio::test]
async fn work_goes_on_without_its_caller_and_its_result_can_be_asked_for() {
    let (works, calls) = (Works::default(), Calls::default());
    let (go, gone) = oneshot::channel::<()>();
    let work = works
        .begin(&calls, "counting", 2, |tell| async move {
            tell.line("one");
            tell.one_more();
            gone.await.unwrap();
            tell.one_more();
            Ok(vec!["two".to_owned()])
        })
        .unwrap();
    assert_eq!((work.state.as_str(), work.total), ("running", 2));
    let entry = works.get(&work.id).unwrap();
    assert_eq!(entry.ended_by(Instant::now() + TOGETHER).await, None);
    assert_eq!(entry.shown().done, 1);
    go.send(()).unwrap();
    assert!(entry.ended_by(soon()).await.is_some());
    let shown = entry.shown();
    assert_eq!((shown.state.as_str(), shown.done), ("done", 2));
    assert_eq!(shown.lines, ["one", "two"]);
}

#[tokio::test(start_paused = true)]
async fn a_question_is_answered_at_the_next_progress_at_the_end_or_when_its_time_is_up() {
    let (works, calls) = (Works::default(), Calls::default());
    let step = Arc::new(Notify::new());
    let steps = Arc::clone(&step);
    let work = works
        .begin(&calls, "stepping", 0, |tell| async move {
            steps.notified().await;
            tell.done(1);
            steps.notified().await;
            Err(Error::Internal("broke".to_owned()))
        })
        .unwrap();
    let entry = works.get(&work.id).unwrap();
    let asked = Instant::now();
    entry.news_by(asked + Duration::from_secs(5)).await;
    assert_eq!(asked.elapsed(), Duration::from_secs(5));
    step.notify_one();
    entry.news_by(soon()).await;
    assert_eq!(entry.shown().done, 1);
    assert!(entry.is_running());
    step.notify_one();
    entry.news_by(soon()).await;
    let shown = entry.shown();
    assert_eq!(
        (shown.state.as_str(), shown.reason.as_str()),
        ("failed", "INTERNAL")
    );
    assert!(shown.error.contains("broke"), "{shown:?}");
    assert!(asked.elapsed() < Duration::from_secs(6));
}

#[tokio::test(start_paused = true)]
async fn the_table_is_bounded_and_forgets_what_ended() {
    let (works, calls) = (Works::default(), Calls::default());
    for _ in 0..MAX_KEPT + 5 {
        let work = works
            .begin(&calls, "quick", 0, |_| async { Ok(Vec::new()) })
            .unwrap();
        works.get(&work.id).unwrap().ended_by(soon()).await;
    }
    assert_eq!(works.all().len(), MAX_KEPT);
    let wait = |tell: Teller| async move {
        tell.stop().cancelled().await;
        Ok(Vec::new())
    };
    for _ in 0..MAX_RUNNING {
        works.begin(&calls, "slow", 0, wait).unwrap();
    }
    let refused = works.begin(&calls, "slow", 0, wait).unwrap_err();
    assert!(matches!(refused, Error::Overloaded { .. }), "{refused}");
    calls.drain();
    assert!(calls.finished(Duration::from_secs(20)).await);
    advance(KEEP * 2).await;
    works
        .begin(&calls, "quick", 0, |_| async { Ok(Vec::new()) })
        .unwrap();
    assert_eq!(works.all().len(), 1);
}

#[tokio::test]
async fn a_lost_work_says_so() {
    let (works, calls) = (Works::default(), Calls::default());
    let work = works
        .begin(&calls, "losing", 0, |_| async { panic!("lost") })
        .unwrap();
    let end = works.get(&work.id).unwrap().ended_by(soon()).await;
    assert!(matches!(end, Some(Err(Error::Internal(_)))), "{end:?}");
}
