//! Messages in Protocol Buffers' wire format, as far as they have to be written; nothing here reads one. Which
//! fields there are is known by those who write them.
//!
//! Source: "Encoding", Protocol Buffers documentation, protobuf.dev.

/// A message that is being written, field by field.
///
/// ```
/// use dacapo_nn::protobuf::Message;
/// let bytes = Message::new().integer(1, 150).text(2, "testing").into_bytes();
/// assert_eq!(bytes, b"\x08\x96\x01\x12\x07testing");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message(Vec<u8>);

/// How a field's value stands behind its number.
#[derive(Clone, Copy)]
enum Wire {
    Varint = 0,
    Bits64 = 1,
    Length = 2,
    Bits32 = 5,
}

impl Message {
    /// One without fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an `int64`, `uint64`, `int32` or enumeration; negative ones as their two's complement.
    #[must_use]
    pub fn integer(mut self, field: u32, value: i64) -> Self {
        self.tag(field, Wire::Varint);
        self.varint(value as u64);
        self
    }

    /// Adds a `float`.
    #[must_use]
    pub fn float(mut self, field: u32, value: f32) -> Self {
        self.tag(field, Wire::Bits32);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Adds a `double`.
    #[must_use]
    pub fn double(mut self, field: u32, value: f64) -> Self {
        self.tag(field, Wire::Bits64);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Adds a `string`.
    #[must_use]
    pub fn text(self, field: u32, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    /// Adds a message.
    #[must_use]
    pub fn message(self, field: u32, value: &Message) -> Self {
        self.bytes(field, &value.0)
    }

    /// Adds a field for each of the values: what `repeated` means for messages.
    #[must_use]
    pub fn messages<'a>(self, field: u32, values: impl IntoIterator<Item = &'a Message>) -> Self {
        values
            .into_iter()
            .fold(self, |message, value| message.message(field, value))
    }

    /// Adds a packed list of integers: what `repeated int64` means.
    #[must_use]
    pub fn integers(self, field: u32, values: impl IntoIterator<Item = i64>) -> Self {
        let mut packed = Self::new();
        for value in values {
            packed.varint(value as u64);
        }
        self.bytes(field, &packed.0)
    }

    /// Adds `bytes`.
    #[must_use]
    pub fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        self.tag(field, Wire::Length);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    /// The message as it is stored.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn tag(&mut self, field: u32, wire: Wire) {
        self.varint(u64::from(field) << 3 | wire as u64);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the documentation.
    #[test]
    fn values_stand_as_the_documentation_says() {
        assert_eq!(Message::new().integer(1, 150).into_bytes(), [0x08, 0x96, 0x01]);
        let negative = Message::new().integer(1, -2).into_bytes();
        assert_eq!(
            negative,
            [0x08, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]
        );
        let inner = Message::new().integer(1, 150);
        assert_eq!(
            Message::new().message(3, &inner).into_bytes(),
            [0x1a, 0x03, 0x08, 0x96, 0x01]
        );
        let packed = Message::new().integers(6, [3, 270, 86942]).into_bytes();
        assert_eq!(packed, [0x32, 0x06, 0x03, 0x8e, 0x02, 0x9e, 0xa7, 0x05]);
        assert_eq!(
            Message::new().float(1, 1.0).into_bytes(),
            [0x0d, 0, 0, 0x80, 0x3f]
        );
        assert_eq!(
            Message::new().double(2, 1.0).into_bytes(),
            [0x11, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f]
        );
        // Field numbers past 15 take two bytes.
        assert_eq!(Message::new().integer(16, 1).into_bytes(), [0x80, 0x01, 0x01]);
        let twice = Message::new().messages(1, [&inner, &inner]).into_bytes();
        assert_eq!(twice, [0x0a, 3, 8, 0x96, 1, 0x0a, 3, 8, 0x96, 1]);
    }
}
