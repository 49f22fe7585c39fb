//! What the service promises, over real connections. Each pool here has one worker, which a test
//! holds as long as it likes: so it is certain what waits in the queue.

use std::io::Cursor;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bench_common::http::Client;
use bytes::Bytes;
use concurrent_futures::{Error, ShutdownReport, TaskFuture, ThreadPoolExecutor};
use futures::poll;
use hyper::StatusCode;
use hyper::header::RETRY_AFTER;
use image::{ImageFormat, Rgb, RgbImage};
use service::app::Service;
use service::backend::{Backend, Kind, threads};
use service::picture::thumbnail;
use service::server::serve;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, yield_now};

/// Long enough for anything.
const LIMIT: Duration = Duration::from_secs(60);

struct Server {
    client: Arc<Client>,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<std::io::Result<Option<ShutdownReport>>>,
}

async fn start(backend: Backend, limit: Duration) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Arc::new(Client::new(listener.local_addr().unwrap()));
    let pictures = [("small.png", picture(40, 30)), ("wide.png", picture(90, 10))];
    let service = Service { backend, pictures: Arc::new(pictures.into()) };
    let (stop, stopped) = oneshot::channel();
    let stop_signal = async {
        let _ = stopped.await;
    };
    let ended = tokio::spawn(serve(listener, service, stop_signal, limit));
    Server { client, stop, ended }
}

/// A server whose only worker is held, with room for one request.
async fn start_held(limit: Duration) -> (Server, ThreadPoolExecutor, Held) {
    let pool = threads(1, 1).unwrap();
    let held = hold(&pool).await;
    (start(Backend::Pool(pool.clone().into()), limit).await, pool, held)
}

fn picture(width: u32, height: u32) -> Bytes {
    let picture = RgbImage::from_fn(width, height, |x, y| Rgb([x as u8, y as u8, 100]));
    let mut file = Cursor::new(Vec::new());
    picture.write_to(&mut file, ImageFormat::Png).unwrap();
    file.into_inner().into()
}

/// A worker that does nothing until it is released.
struct Held {
    release: mpsc::Sender<()>,
    task: TaskFuture<()>,
}

impl Held {
    async fn release(self) {
        self.release.send(()).unwrap();
        self.task.await.unwrap();
    }
}

async fn hold(pool: &ThreadPoolExecutor) -> Held {
    let (start, started) = oneshot::channel();
    let (release, released) = mpsc::channel();
    let task = pool.task().label("held").submit(move || {
        start.send(()).unwrap();
        let _ = released.recv();
    });
    started.await.unwrap();
    Held { release, task }
}

/// Sends a request; it goes on while the test does something else. Aborting it hangs up.
fn get(server: &Server, path: &'static str) -> JoinHandle<(StatusCode, Bytes)> {
    let client = Arc::clone(&server.client);
    tokio::spawn(async move {
        let answer = client.get(path).await.unwrap();
        (answer.status(), answer.into_body())
    })
}

async fn until_queued(pool: &ThreadPoolExecutor, count: usize) {
    while pool.metrics().queued != count {
        yield_now().await;
    }
}

#[tokio::test]
async fn too_much_load_is_refused_at_once_and_told_to_come_again() {
    let (server, pool, held) = start_held(LIMIT).await;
    let accepted = get(&server, "/thumbnail/small.png?within=60000");
    until_queued(&pool, 1).await;

    let refused = server.client.get("/thumbnail/small.png").await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()[RETRY_AFTER], "1");
    let health = server.client.get("/health").await.unwrap();
    assert_eq!(health.into_body(), "ok\n");

    held.release().await;
    assert_eq!(accepted.await.unwrap().0, StatusCode::OK);
}

#[tokio::test]
async fn a_client_that_hangs_up_frees_its_place() {
    let (server, pool, held) = start_held(LIMIT).await;
    let impatient = get(&server, "/thumbnail/small.png?within=60000");
    until_queued(&pool, 1).await;
    let mut room = Box::pin(pool.reserve());
    assert!(poll!(&mut room).is_pending());

    impatient.abort();
    drop(room.await.unwrap()); // there is room now
    assert_eq!(pool.metrics().cancelled, 1);

    let next = get(&server, "/thumbnail/small.png?within=60000");
    until_queued(&pool, 1).await;
    held.release().await;
    assert_eq!(next.await.unwrap().0, StatusCode::OK);
    assert_eq!(pool.metrics().completed, 2, "what was held, and the next");
}

#[tokio::test]
async fn an_expired_request_never_runs() {
    let (server, pool, held) = start_held(LIMIT).await;
    let expired = server.client.get("/thumbnail/small.png?within=10").await.unwrap();
    assert_eq!(expired.status(), StatusCode::GATEWAY_TIMEOUT);

    held.release().await;
    // One worker runs its tasks in order: what was before this one has run by now, or never will.
    pool.submit(|| ()).await.unwrap();
    assert_eq!(pool.metrics().completed, 2, "what was held, and this one");
}

#[tokio::test]
async fn the_end_waits_for_what_was_accepted() {
    let (server, pool, held) = start_held(LIMIT).await;
    let accepted = get(&server, "/thumbnail/small.png?within=60000");
    until_queued(&pool, 1).await;

    server.stop.send(()).unwrap();
    while !matches!(pool.submit(|| ()).await, Err(Error::ShutDown)) {
        yield_now().await; // the queue is full until the pool is closed
    }
    assert!(!server.ended.is_finished());
    held.release().await;
    assert_eq!(accepted.await.unwrap().0, StatusCode::OK);
    let report = server.ended.await.unwrap().unwrap().unwrap();
    assert_eq!((report.completed, report.cancelled), (2, 0));
    assert!(report.running.is_empty());
}

#[tokio::test]
async fn the_end_gives_up_at_its_limit_and_says_what_it_left() {
    let (server, pool, held) = start_held(Duration::from_millis(10)).await;
    let queued = get(&server, "/thumbnail/small.png?within=60000");
    until_queued(&pool, 1).await;

    server.stop.send(()).unwrap();
    assert_eq!(queued.await.unwrap().0, StatusCode::SERVICE_UNAVAILABLE);
    let report = server.ended.await.unwrap().unwrap().unwrap();
    assert_eq!(report.cancelled, 1);
    let left: Vec<_> = report.running.iter().map(|task| task.label.as_deref()).collect();
    assert_eq!(left, [Some("held")]);
    held.release().await;
}

#[tokio::test]
async fn every_backend_makes_the_same_thumbnail() {
    let expected = thumbnail(picture(40, 30), 20).unwrap();
    let size = image::load_from_memory(&expected).unwrap();
    assert_eq!((size.width(), size.height()), (20, 15));
    for kind in Kind::ALL {
        let server = start(kind.build(2, 10).unwrap(), LIMIT).await;
        let own = server.client.get("/thumbnail/small.png?width=20&within=60000").await.unwrap();
        assert_eq!((own.status(), own.body()), (StatusCode::OK, &expected), "{kind:?}");
        let path = "/thumbnail?width=20&within=60000";
        let sent = server.client.post(path, picture(40, 30)).await.unwrap();
        assert_eq!((sent.status(), sent.body()), (StatusCode::OK, &expected), "{kind:?}");
        server.stop.send(()).unwrap();
        let report = server.ended.await.unwrap().unwrap();
        assert!(report.is_none_or(|report| report.running.is_empty()));
    }
}

#[tokio::test]
async fn wrong_requests_are_told_what_is_wrong() {
    let server = start(Kind::Threads.build(1, 1).unwrap(), LIMIT).await;
    let names = server.client.get("/thumbnail").await.unwrap();
    assert_eq!(names.into_body(), "small.png\nwide.png\n");
    let unknown = server.client.get("/thumbnail/large.png").await.unwrap();
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    let width = server.client.get("/thumbnail/small.png?width=wide").await.unwrap();
    assert_eq!(width.status(), StatusCode::BAD_REQUEST);
    let path = "/thumbnail?within=60000";
    let no_picture = server.client.post(path, Bytes::from_static(b"no picture")).await.unwrap();
    assert_eq!(no_picture.status(), StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn counters_are_those_of_the_pool() {
    let server = start(Kind::Threads.build(1, 1).unwrap(), LIMIT).await;
    for _ in 0..3 {
        let path = "/thumbnail/wide.png?within=60000";
        assert_eq!(server.client.get(path).await.unwrap().status(), StatusCode::OK);
    }
    let counters = server.client.get("/metrics").await.unwrap().into_body();
    let counters = String::from_utf8(counters.to_vec()).unwrap();
    let value = |name: &str| {
        let line = counters.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {counters}")).trim().parse::<f64>().unwrap()
    };
    assert_eq!(value("pool_tasks_total{outcome=\"completed\"}"), 3.0);
    assert_eq!(value("pool_workers "), 1.0);
    assert_eq!(value("pool_queued "), 0.0);
    assert_eq!(value("pool_run_seconds_count"), 3.0);
    assert_eq!(value("pool_run_seconds_bucket{le=\"+Inf\"}"), 3.0);
    assert!(value("pool_run_seconds_sum") > 0.0);
    let buckets = counters.lines().filter(|line| line.starts_with("pool_run_seconds_bucket"));
    let counts: Vec<f64> =
        buckets.map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap()).collect();
    assert_eq!(counts.len(), 11);
    assert!(counts.is_sorted());
}
