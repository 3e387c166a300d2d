//! What the demo measured: the final table, the JSON, the last line.

use serde::Serialize;

/// One power cut and what came after it. All times in seconds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Failover {
    /// Node that lost its power.
    pub(crate) from: String,
    /// Node the service came back on.
    pub(crate) to: String,
    /// Power cut to the first answer of the database on the other node.
    pub(crate) total_s: f64,
    /// Docker's share: noticing that the node is gone, rescheduling, starting the container, and the database's own
    /// recovery.
    pub(crate) docker_s: f64,
    /// Our share: Mount request to mounted.
    pub(crate) ours_s: f64,
    /// Rows whose commit was acknowledged to the client, in all.
    pub(crate) acknowledged: usize,
    /// Of those, rows found after the failover.
    pub(crate) found: usize,
    /// Rows the table held in all; some may have been committed without the client learning it.
    pub(crate) rows: usize,
}

/// Everything measured.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Report {
    /// Seconds from `packages ready` to the end.
    pub(crate) since_packages_s: f64,
    /// Seconds from start to end.
    pub(crate) total_s: f64,
    /// Seconds the service was away in the orderly shutdown.
    pub(crate) orderly_s: f64,
    /// The power cuts.
    pub(crate) failovers: Vec<Failover>,
}

impl Report {
    /// The median of the failovers' totals; none when there was none.
    pub(crate) fn median_s(&self) -> Option<f64> {
        let mut totals: Vec<f64> = self.failovers.iter().map(|f| f.total_s).collect();
        totals.sort_by(f64::total_cmp);
        totals.get(totals.len().checked_sub(1)? / 2).copied()
    }

    /// The table at the end.
    pub(crate) fn table(&self) -> String {
        let mut out = format!(
            "{:<28} {:>9} {:>9} {:>9} {:>13} {:>7}\n",
            "power cut", "total", "Docker", "vDVS", "acknowledged", "found"
        );
        for f in &self.failovers {
            let way = format!("{} -> {}", f.from, f.to);
            out.push_str(&format!(
                "{way:<28} {:>7.1} s {:>7.1} s {:>7.2} s {:>13} {:>7}\n",
                f.total_s, f.docker_s, f.ours_s, f.acknowledged, f.found
            ));
        }
        out.push_str(&format!(
            "orderly shutdown: service away {:.1} s\n",
            self.orderly_s
        ));
        out.push_str(&format!(
            "whole demo: {:.0} s, of which {:.0} s after the packages were there\n",
            self.total_s, self.since_packages_s
        ));
        out
    }

    /// The very last line when all went well.
    pub(crate) fn verdict(&self) -> Result<String, String> {
        let last = self.failovers.last().ok_or("no power cut was measured")?;
        if let Some(lost) = self.failovers.iter().find(|f| f.found != f.acknowledged) {
            return Err(format!(
                "{} of {} acknowledged rows are missing after the power cut of {}",
                lost.acknowledged.saturating_sub(lost.found),
                lost.acknowledged,
                lost.from
            ));
        }
        let median = self.median_s().ok_or("no power cut was measured")?;
        Ok(format!(
            "demo: PASS failover={median:.1} acknowledged={} found={}",
            last.acknowledged, last.found
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failover(total_s: f64, acknowledged: usize, found: usize) -> Failover {
        Failover {
            from: "swarm02".into(),
            to: "swarm03".into(),
            total_s,
            docker_s: total_s - 0.5,
            ours_s: 0.5,
            acknowledged,
            found,
            rows: found,
        }
    }

    #[test]
    fn the_last_line_carries_the_median_and_the_last_count() {
        let failovers = vec![
            failover(16.0, 10, 10),
            failover(14.0, 20, 20),
            failover(30.0, 30, 30),
        ];
        let report = Report {
            failovers,
            ..Report::default()
        };
        assert_eq!(
            report.verdict().unwrap(),
            "demo: PASS failover=16.0 acknowledged=30 found=30"
        );
    }

    #[test]
    fn one_lost_row_in_any_round_fails() {
        let failovers = vec![failover(16.0, 10, 9), failover(14.0, 20, 20)];
        let report = Report {
            failovers,
            ..Report::default()
        };
        assert!(
            report
                .verdict()
                .unwrap_err()
                .starts_with("1 of 10 acknowledged rows")
        );
        assert!(Report::default().verdict().is_err());
    }
}
