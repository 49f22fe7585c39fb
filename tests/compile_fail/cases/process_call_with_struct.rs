//! What goes to another process has serde's derives.

use concurrent_futures::{Error, ProcessPoolExecutor, call};

struct Image {
    width: usize,
    pixels: Vec<u8>,
}

fn height(image: Image, border: usize) -> usize {
    image.pixels.len() / image.width + 2 * border
}

fn main() -> Result<(), Error> {
    let pool = ProcessPoolExecutor::new()?;
    let image = Image { width: 2, pixels: vec![0; 8] };
    println!("{}", pool.submit(call!(height(image, 1))).result()?);
    Ok(())
}
