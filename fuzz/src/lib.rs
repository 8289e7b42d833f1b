//! What the targets share.

/// The frames of a stream, each behind its length in four bytes; and whether nothing follows them, or `None` if what
/// follows is a length beyond the limit. It sees the whole stream at once, and so is what decoders are held to.
pub fn model(stream: &[u8], frame_max: usize) -> (Vec<Vec<u8>>, Option<bool>) {
    let (mut frames, mut rest) = (Vec::new(), stream);
    while let Some((header, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*header) as usize;
        if length > frame_max {
            return (frames, None);
        }
        let Some((frame, after)) = after.split_at_checked(length) else { break };
        frames.push(frame.to_vec());
        rest = after;
    }
    (frames, Some(rest.is_empty()))
}
