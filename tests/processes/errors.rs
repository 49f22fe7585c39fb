//! Errors on their way between the processes.

use concurrent_futures::{ParentPool, PortableError, call};

use crate::over_pools;
use crate::support::within_limit;
use crate::tools::{end, pool};

fn read(path: String) -> Result<String, PortableError> {
    let text = std::fs::read_to_string(&path)?;
    Ok(text.lines().next().ok_or("it is empty")?.to_owned())
}

#[test]
fn the_error_of_a_function_travels_with_its_text_and_debug() {
    over_pools(|pool| {
        let missing = "no/such/file".to_owned();
        let error = pool.submit(call!(read(missing.clone()))).result().unwrap().unwrap_err();
        let expected = std::fs::read_to_string(&missing).unwrap_err();
        assert_eq!(error.to_string(), expected.to_string());
        assert_eq!(format!("{error:?}"), format!("{expected:?}"));
        let items = pool.map(read, [missing, "/dev/null".to_owned()]).result().unwrap();
        let texts: Vec<_> = items.into_iter().map(|item| item.unwrap_err().to_string()).collect();
        assert_eq!(texts, [expected.to_string(), "it is empty".to_owned()]);
    });
}

/// Fails for what a call of its own has failed of.
fn forwards() -> Result<u32, PortableError> {
    fn panics() -> u32 {
        panic!("deep down")
    }
    let parent = ParentPool::current().ok_or("this is no worker")?;
    Ok(parent.submit(call!(panics())).result()?)
}

#[test]
fn an_error_of_the_pool_is_forwarded_by_the_question_mark() {
    within_limit(|| {
        let pool = pool(1);
        let error = pool.submit(call!(forwards())).result().unwrap().unwrap_err();
        assert!(error.to_string().ends_with("deep down"), "{error}");
        assert!(format!("{error:?}").starts_with("Panicked: "), "{error:?}");
        let boxed = error.into_boxed();
        assert!(boxed.source().is_none());
        end(&pool);
    });
}
