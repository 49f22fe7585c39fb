//! The ends of a channel on their way to a process. In any process.

use std::any::type_name;
use std::sync::Arc;

use serde_core::de::{Deserialize, Deserializer, Error as _};
use serde_core::ser::{Serialize, Serializer};

use super::end::End;
use super::shared::{Channel, Side};
use super::{Receiver, Sender};
use crate::codec::handle;
use crate::portable::Portable;
use crate::sys::{AsFd, control};

fn serialize<T, S: Serializer>(end: &End, serializer: S) -> Result<S::Ok, S::Error> {
    let descriptors = vec![Arc::clone(&end.channel().descriptor), Arc::clone(&end.lane)];
    let is_sender = end.side() == Side::Sender;
    handle::serialize(
        &name::<T>(end.side()),
        descriptors,
        &(type_name::<T>(), is_sender),
        serializer,
    )
}

fn deserialize<'de, T, D: Deserializer<'de>>(
    side: Side,
    deserializer: D,
) -> Result<Arc<End>, D::Error> {
    let what = match side {
        Side::Sender => "Sender",
        Side::Receiver => "Receiver",
    };
    let carried = handle::deserialize::<(String, bool), D>(what, deserializer)?;
    let (of, is_sender) = carried.value;
    if of != type_name::<T>() || is_sender != (side == Side::Sender) {
        let other = if is_sender { "Sender" } else { "Receiver" };
        let this = name::<T>(side);
        return Err(D::Error::custom(format_args!("a {other}<{of}> instead of a {this}")));
    }
    let Ok([memory, lane]) = <[_; 2]>::try_from(carried.descriptors) else {
        return Err(D::Error::custom("the end of a channel has two descriptors"));
    };
    if !control::is_control(lane.as_fd()) {
        return Err(D::Error::custom("the end of a channel has a socket"));
    }
    let channel = Channel::of(memory).map_err(|error| {
        D::Error::custom(format_args!("the memory of a channel can't be mapped: {error}"))
    })?;
    Ok(End::new(&channel, side, lane))
}

fn name<T>(side: Side) -> String {
    let of = type_name::<T>();
    match side {
        Side::Sender => format!("Sender<{of}>"),
        Side::Receiver => format!("Receiver<{of}>"),
    }
}

impl<T> Serialize for Sender<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize::<T, S>(&self.end, serializer)
    }
}

impl<T> Serialize for Receiver<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize::<T, S>(&self.end, serializer)
    }
}

impl<'de, T: Portable> Deserialize<'de> for Sender<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize::<T, D>(Side::Sender, deserializer).map(Self::of)
    }
}

impl<'de, T: Portable> Deserialize<'de> for Receiver<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize::<T, D>(Side::Receiver, deserializer).map(Self::of)
    }
}
