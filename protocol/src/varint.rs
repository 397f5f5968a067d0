//! Variable-length integers (LEB128, as in Protocol Buffers): seven bits a byte, low ones first.

use bytes::{Buf, BufMut, Bytes};

/// Longest encoding of a `u32`, in bytes.
pub(crate) const U32_LEN_MAX: usize = 5;

/// Appends `value`.
pub(crate) fn put_u32(out: &mut impl BufMut, mut value: u32) {
    while value >= 0x80 {
        out.put_u8((value as u8) | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Length of the encoding of `value`, in bytes.
pub(crate) fn u32_len(value: u32) -> usize {
    let bits = u32::BITS - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// What reading a varint found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// The value and how many bytes it took.
    Value(u32, usize),
    /// The input ends inside the varint.
    Incomplete,
    /// Longer than it needs to be, or over 32 bits.
    Invalid,
}

/// Reads a varint from the start of `input`. One value has one encoding: overlong ones are invalid.
pub(crate) fn read_u32(input: &[u8]) -> Read {
    let mut value: u64 = 0;
    for (index, &byte) in input.iter().take(U32_LEN_MAX).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let overlong = index > 0 && byte == 0;
            return match u32::try_from(value) {
                Ok(value) if !overlong => Read::Value(value, index + 1),
                _ => Read::Invalid,
            };
        }
    }
    if input.len() < U32_LEN_MAX { Read::Incomplete } else { Read::Invalid }
}

/// Takes a varint off the front of `input`; `None` if there is no valid one.
pub(crate) fn take_u32(input: &mut Bytes) -> Option<u32> {
    match read_u32(input) {
        Read::Value(value, len) => {
            input.advance(len);
            Some(value)
        }
        Read::Incomplete | Read::Invalid => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn edges() {
        assert_eq!(read_u32(&[]), Read::Incomplete);
        assert_eq!(read_u32(&[0x80]), Read::Incomplete);
        assert_eq!(read_u32(&[0x80, 0]), Read::Invalid, "overlong zero");
        assert_eq!(read_u32(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Read::Value(u32::MAX, 5));
        assert_eq!(read_u32(&[0xff, 0xff, 0xff, 0xff, 0x1f]), Read::Invalid, "33 bits");
        assert_eq!(read_u32(&[0xff; 5]), Read::Invalid);
    }

    proptest! {
        #[test]
        fn round_trip(value: u32) {
            let mut out = Vec::new();
            put_u32(&mut out, value);
            prop_assert_eq!(out.len(), u32_len(value));
            prop_assert_eq!(read_u32(&out), Read::Value(value, out.len()));
        }
    }
}
