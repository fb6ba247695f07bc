//! The content of the shared memory: the keys of session tickets, and behind them certificates and their keys.

use super::material::Material;
use super::tickets::{KEY_BYTES, TicketKeys};

/// The bytes of one version, for [`read`].
pub(super) fn write(keys: &TicketKeys, material: &Material) -> Vec<u8> {
    let mut content: Vec<u8> = keys.bytes().flatten().copied().collect();
    material.write(&mut content);
    content
}

/// What [`write()`] has written.
///
/// # Errors
/// It is nothing of the kind.
pub(super) fn read(content: &[u8]) -> Result<(TicketKeys, Material), &'static str> {
    let (keys, material) = content.split_at_checked(3 * KEY_BYTES).ok_or("too little is known of them")?;
    let keys = TicketKeys::read(keys).ok_or("the keys of tickets are not known")?;
    let material = Material::read(material).ok_or("they cannot be read")?;
    Ok((keys, material))
}
