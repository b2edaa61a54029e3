//! Bodies as they are stored. What forges send shrinks to a third by LZ4, which takes less time than writing the
//! rest twice would, to the log and to the file.

use ports::store::StoreError;

/// A body as it is stored.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) bytes: Vec<u8>,
    /// How long it is when it is unpacked; `None` when it is stored as it came.
    pub(crate) unpacked: Option<i64>,
}

impl Packed {
    pub(crate) fn of(body: &[u8]) -> Self {
        let bytes = lz4_flex::compress(body);
        match i64::try_from(body.len()) {
            Ok(length) if bytes.len() < body.len() => Self { bytes, unpacked: Some(length) },
            _ => Self { bytes: body.to_vec(), unpacked: None },
        }
    }

    pub(crate) fn body(self) -> Result<Vec<u8>, StoreError> {
        let Some(length) = self.unpacked else { return Ok(self.bytes) };
        let corrupt = |why: String| StoreError::Corrupt(format!("the body of a delivery: {why}"));
        let length = usize::try_from(length).map_err(|error| corrupt(error.to_string()))?;
        let body = lz4_flex::decompress(&self.bytes, length).map_err(|error| corrupt(error.to_string()))?;
        if body.len() == length { Ok(body) } else { Err(corrupt("it is too short".to_owned())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_comes_out_as_it_went_in() {
        let long = br#"{"action":"created","number":7}"#.repeat(1_000);
        let packed = Packed::of(&long);
        assert!(packed.bytes.len() * 3 < long.len());
        assert_eq!(packed.body().expect("it is whole"), long);
        for short in [&b""[..], b"{}", &[0x1f, 0x8b, 0xff, 0x00]] {
            let packed = Packed::of(short);
            assert_eq!((packed.unpacked, packed.bytes.as_slice()), (None, short));
            assert_eq!(packed.body().expect("it is as it came"), short);
        }
    }

    #[test]
    fn what_is_damaged_is_no_body() {
        let damage: [fn(&mut Packed); 4] = [
            |packed| packed.bytes.truncate(20),
            |packed| packed.bytes.clear(),
            |packed| packed.unpacked = packed.unpacked.map(|length| length + 1),
            |packed| packed.unpacked = Some(-1),
        ];
        for damage in damage {
            let mut packed = Packed::of(&[b'x'; 10_000]);
            damage(&mut packed);
            assert!(matches!(packed.body(), Err(StoreError::Corrupt(_))));
        }
    }
}
