//! The context of a map is sent to each worker process.

use std::collections::HashMap;

use concurrent_futures::{Error, ProcessPoolExecutor};

struct Prices(HashMap<String, u32>);

fn price(prices: &Prices, name: String) -> Option<u32> {
    prices.0.get(&name).copied()
}

fn main() -> Result<(), Error> {
    let pool = ProcessPoolExecutor::new()?;
    let prices = Prices(HashMap::new());
    println!("{:?}", pool.map_with(prices, price, ["tea".to_owned()]).result()?);
    Ok(())
}
