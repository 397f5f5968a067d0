//! Compression of large payloads: raw DEFLATE (RFC 1951), which every platform has built in.

use bytes::Bytes;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Payloads below this many bytes are not worth compressing.
pub(crate) const WORTH_BYTES_MIN: usize = 1024;

/// Compresses `payload`; `None` if that does not make it smaller.
pub(crate) fn compress(payload: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(payload.len());
    // The vector never grows: what doesn't fit into the input's size is not worth sending.
    let status = Compress::new(Compression::fast(), false).compress_vec(payload, &mut out, FlushCompress::Finish);
    (matches!(status, Ok(Status::StreamEnd)) && out.len() < payload.len()).then_some(out)
}

/// Inflates `compressed` into exactly `size` bytes; `None` if it is damaged or of another size.
/// Allocates no more than `size`, which the caller has checked against its limit.
pub(crate) fn inflate(compressed: &[u8], size: usize) -> Option<Bytes> {
    let mut out = Vec::with_capacity(size);
    let mut inflater = Decompress::new(false);
    let status = inflater.decompress_vec(compressed, &mut out, FlushDecompress::Finish);
    let whole =
        matches!(status, Ok(Status::StreamEnd)) && out.len() == size && inflater.total_in() == compressed.len() as u64;
    whole.then(|| Bytes::from(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_refusals() {
        let payload = b"to be or not to be ".repeat(100);
        let compressed = compress(&payload).unwrap();
        assert!(compressed.len() < 100);
        assert_eq!(inflate(&compressed, payload.len()).unwrap(), payload);
        assert_eq!(inflate(&compressed, payload.len() - 1), None, "larger than announced");
        assert_eq!(inflate(&compressed, payload.len() + 1), None, "smaller than announced");
        assert_eq!(inflate(&compressed[..compressed.len() - 1], payload.len()), None, "cut");
        assert_eq!(inflate(&[&compressed[..], b"x"].concat(), payload.len()), None, "trailing bytes");
        assert_eq!(inflate(&[3, 0], 0), Some(Bytes::new()), "nothing, compressed");
        assert_eq!(inflate(&[], 0), None, "no data at all");
    }

    #[test]
    fn incompressible_stays_as_it_is() {
        let noise: Vec<u8> = (0..2000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        assert!(compress(&noise).is_none_or(|smaller| smaller.len() < noise.len()));
        assert_eq!(compress(b""), None);
    }
}
