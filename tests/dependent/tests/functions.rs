//! Functions from everywhere as tasks, in `#[tokio::test]`s.

use concurrent_futures::{Call, Error, ProcessPoolExecutor, call};
use dependent::{largest, shapes, square};

fn half(n: u64) -> Option<u64> {
    (n % 2 == 0).then_some(n / 2)
}

fn last<T: Clone>(items: Vec<T>) -> Option<T> {
    items.last().cloned()
}

#[tokio::test]
async fn functions_of_the_test() -> Result<(), Error> {
    let pool = ProcessPoolExecutor::new()?;
    assert_eq!(pool.submit(call!(half(84))).await?, Some(42));
    assert_eq!(pool.map(half, 0..3).await?, [Some(0), None, Some(1)]);
    assert_ne!(pool.submit(call!(std::process::id())).await?, std::process::id());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_of_another_crate_and_of_a_module_there() -> Result<(), Error> {
    let pool = ProcessPoolExecutor::new()?;
    assert_eq!(pool.map(square, 0..4).await?, [0, 1, 4, 9]);
    assert_eq!(pool.submit(call!(shapes::area(6, 7))).await?, 42);
    Ok(())
}

#[tokio::test]
async fn generic_functions_of_both() -> Result<(), Error> {
    let pool = ProcessPoolExecutor::new()?;
    let words = || ["one", "two", "three"].map(String::from).to_vec();
    assert_eq!(pool.submit(call!(largest(vec![2_u8, 3, 1]))).await?, Some(3));
    assert_eq!(pool.submit(call!(largest(words()))).await?.as_deref(), Some("two"));
    assert_eq!(pool.submit(call!(last(vec![2_u8, 3, 1]))).await?, Some(1));
    assert_eq!(pool.submit(call!(last(words()))).await?.as_deref(), Some("three"));
    Ok(())
}

#[tokio::test]
async fn functions_of_std() -> Result<(), Error> {
    let pool = ProcessPoolExecutor::new()?;
    assert_eq!(pool.submit(call!(u64::pow(2, 10))).await?, 1024);
    assert_eq!(pool.submit(Call::new(Vec::<u8>::into_boxed_slice, vec![1, 2])).await?[..], [1, 2]);
    assert_eq!(pool.map(u32::count_ones, 0..4).await?, [0, 1, 1, 2]);
    Ok(())
}

#[tokio::test]
async fn closures_without_captures() -> Result<(), Error> {
    let pool = ProcessPoolExecutor::new()?;
    assert_eq!(pool.map(|n: u32| n + 1, 0..3).await?, [1, 2, 3]);
    Ok(())
}
