//! The computation: from a picture to a thumbnail. It knows nothing of HTTP or of pools.

use std::io::Cursor;

use bytes::Bytes;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::{ImageError, ImageFormat, ImageReader, Limits, Rgb, RgbImage};

/// The widest thumbnail.
pub const MAX_WIDTH: u32 = 1024;

/// Decodes a JPEG or PNG, scales it down to a width, and encodes it as JPEG.
///
/// A plain function whose arguments and result serde can carry: so it runs on threads and in
/// worker processes.
///
/// # Errors
///
/// What is wrong with the picture.
pub fn thumbnail(picture: Bytes, width: u32) -> Result<Bytes, String> {
    shrink(&picture, width).map(Bytes::from).map_err(|error| error.to_string())
}

fn shrink(picture: &[u8], width: u32) -> Result<Vec<u8>, ImageError> {
    let mut reader = ImageReader::new(Cursor::new(picture)).with_guessed_format()?;
    // A small file can claim to be a huge picture.
    let mut limits = Limits::default();
    limits.max_image_width = Some(8_192);
    limits.max_image_height = Some(8_192);
    reader.limits(limits);
    let picture = reader.decode()?;
    let small = picture.resize(width.clamp(1, MAX_WIDTH), u32::MAX, FilterType::Triangle);
    let mut jpeg = Vec::new();
    small.into_rgb8().write_with_encoder(JpegEncoder::new_with_quality(&mut jpeg, 80))?;
    Ok(jpeg)
}

/// Pictures as a camera and a screen make them, so that the example brings its own: by name.
///
/// # Errors
///
/// None in practice; the encoders may fail.
pub fn samples() -> Result<Vec<(&'static str, Bytes)>, ImageError> {
    let jpeg = ImageFormat::Jpeg;
    Ok(vec![
        ("dunes.jpg", encode(&paint(1_200, 800, 1, 16), jpeg)?),
        ("lake.jpg", encode(&paint(1_024, 768, 2, 16), jpeg)?),
        ("meadow.jpg", encode(&paint(800, 1_200, 3, 16), jpeg)?),
        ("plan.png", encode(&paint(1_000, 700, 4, 1), ImageFormat::Png)?),
    ])
}

fn encode(picture: &RgbImage, format: ImageFormat) -> Result<Bytes, ImageError> {
    let mut file = Cursor::new(Vec::new());
    picture.write_to(&mut file, format)?;
    Ok(file.into_inner().into())
}

/// Slopes, waves, and noise as of a camera, which keeps the encoders honest; 1: no noise.
fn paint(width: u32, height: u32, seed: u32, noise: u32) -> RgbImage {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    RgbImage::from_fn(width, height, |x, y| {
        // Marsaglia's xorshift.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let noise = (state % noise) as f32;
        let (u, v) = (x as f32 / width as f32, y as f32 / height as f32);
        let wave = ((u * 9.0 + v * 7.0 * seed as f32).sin() + 1.0) * 60.0;
        Rgb([u * 100.0 + wave, v * 120.0 + wave, (1.0 - u) * 100.0 + wave]
            .map(|c| (c + noise) as u8))
    })
}
