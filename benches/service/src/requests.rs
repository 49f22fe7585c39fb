//! Requests for thumbnails: as many as are answered, or as many as one likes.

use std::sync::Arc;
use std::time::Duration;

use bench_common::http::{Client, Error};
use hyper::StatusCode;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::Plan;

/// What became of one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) outcome: Outcome,
    /// From when it was due.
    pub(crate) time: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// 200.
    Answered,
    /// 503: the queue was full.
    Refused,
    /// 504: accepted, and not begun in time.
    Expired,
    /// The client has hung up.
    GivenUp,
    /// The connection broke, or another answer came.
    Failed,
}

/// The most that can be answered: some clients, each of which sends its next request when it has
/// the answer to the one before. Answers per second.
pub(crate) async fn closed_loop(
    client: &Arc<Client>,
    paths: &[String],
    clients: usize,
    plan: &Plan,
) -> Result<f64, Error> {
    let begin = Instant::now();
    let (counts_from, end) = (begin + plan.warm_up, begin + plan.warm_up + plan.window / 2);
    let mut loops = JoinSet::new();
    for first in 0..clients {
        let (client, paths) = (Arc::clone(client), paths.to_vec());
        loops.spawn(async move {
            let mut count = 0_u32;
            for path in paths.iter().cycle().skip(first % paths.len()) {
                let status = client.get(path).await?.status();
                if status != StatusCode::OK {
                    return Err(format!("{path} is answered with {status}").into());
                }
                let now = Instant::now();
                if now >= end {
                    break;
                }
                count += u32::from(now >= counts_from);
            }
            Ok::<_, Error>(count)
        });
    }
    let mut answers = 0;
    for count in loops.join_all().await {
        answers += count?;
    }
    Ok(f64::from(answers) / (end - counts_from).as_secs_f64())
}

/// So many requests per second, whether or not answers come.
pub(crate) async fn open_loop(
    client: &Arc<Client>,
    paths: &[String],
    rate: f64,
    plan: &Plan,
) -> Vec<Sample> {
    let begin = Instant::now();
    let count = ((plan.warm_up + plan.window).as_secs_f64() * rate) as u32;
    let mut requests = JoinSet::new();
    for number in 0..count {
        let due = begin + Duration::from_secs_f64(f64::from(number) / rate);
        sleep_until(due).await;
        let path = paths[number as usize % paths.len()].clone();
        let request = request(Arc::clone(client), path, due, plan.patience);
        let counts = due >= begin + plan.warm_up;
        requests.spawn(async move { (counts, request.await) });
    }
    let samples = requests.join_all().await.into_iter();
    samples.filter_map(|(counts, sample)| counts.then_some(sample)).collect()
}

async fn request(client: Arc<Client>, path: String, due: Instant, patience: Duration) -> Sample {
    let outcome = match timeout_at(due + patience, client.get(&path)).await {
        Ok(Ok(answer)) => match answer.status() {
            StatusCode::OK => Outcome::Answered,
            StatusCode::SERVICE_UNAVAILABLE => Outcome::Refused,
            StatusCode::GATEWAY_TIMEOUT => Outcome::Expired,
            _ => Outcome::Failed,
        },
        Ok(Err(_)) => Outcome::Failed,
        Err(_) => Outcome::GivenUp,
    };
    Sample { outcome, time: due.elapsed() }
}
