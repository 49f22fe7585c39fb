//! What a map is given: next to no work, so that the map itself is what costs.

/// Items of a map.
pub const ITEMS: usize = 100_000;

/// The function of the map.
pub fn square(x: usize) -> usize {
    x.wrapping_mul(x)
}

/// The items, in memory.
pub fn vec() -> Vec<usize> {
    (0..ITEMS).collect()
}

/// The items, from an iterator that tells nothing of its length.
pub fn opaque() -> impl Iterator<Item = usize> + Send + 'static {
    let mut items = 0..ITEMS;
    std::iter::from_fn(move || items.next())
}
