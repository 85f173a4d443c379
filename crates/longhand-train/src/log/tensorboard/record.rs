//! The framing of a TFRecord: length, its checksum, the data, its checksum; all little-endian.

/// Appends `data` as one record to `out`.
pub(super) fn frame(data: &[u8], out: &mut Vec<u8>) {
    let length = (data.len() as u64).to_le_bytes();
    out.extend_from_slice(&length);
    out.extend_from_slice(&masked_checksum(&length).to_le_bytes());
    out.extend_from_slice(data);
    out.extend_from_slice(&masked_checksum(data).to_le_bytes());
}

/// CRC-32C, rotated and shifted by a constant. A plain CRC of data that contains
/// CRCs would be weak.
pub(super) fn masked_checksum(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}
