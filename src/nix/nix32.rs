//! Nix's base-32: the digits of store path hashes and of `sha256:` hashes.
//!
//! The bytes are read as one little-endian number and written from its most significant digit
//! down, five bits a digit. The alphabet leaves out `e`, `o`, `t` and `u`, so that no digit
//! sequence spells a word.

const ALPHABET: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// The digits of `bytes`: 52 for a SHA-256, 32 for the 20 bytes of a store path hash.
pub fn encode(bytes: &[u8]) -> String {
    let digits = (bytes.len() * 8).div_ceil(5);
    (0..digits).rev().map(|digit| char::from(ALPHABET[usize::from(five_bits(bytes, digit * 5))])).collect()
}

/// The 32 bytes that 52 digits stand for; `None` for any other text.
pub fn decode_sha256(text: &str) -> Option<[u8; 32]> {
    if text.len() != 52 {
        return None;
    }
    let mut bytes = [0u8; 32];
    for (digit, character) in text.bytes().rev().enumerate() {
        let value = u16::try_from(ALPHABET.iter().position(|known| *known == character)?).ok()?;
        let shifted = value << (digit * 5 % 8);
        let index = digit * 5 / 8;
        bytes[index] |= u8::try_from(shifted & 0xff).ok()?;
        let carry = u8::try_from(shifted >> 8).ok()?;
        match bytes.get_mut(index + 1) {
            Some(next) => *next |= carry,
            None if carry == 0 => {}
            None => return None,
        }
    }
    Some(bytes)
}

/// Whether `text` consists of Nix's digits alone.
pub fn is_nix32(text: &str) -> bool {
    text.bytes().all(|byte| ALPHABET.contains(&byte))
}

fn five_bits(bytes: &[u8], bit: usize) -> u8 {
    let low = u16::from(bytes[bit / 8]);
    let high = bytes.get(bit / 8 + 1).copied().map_or(0, u16::from);
    (((low | high << 8) >> (bit % 8)) & 0x1f) as u8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `nix-hash --type sha256 --to-base32` of the NAR vector's hash.
    #[test]
    fn digits_are_those_of_nix() {
        let bytes = decode_sha256("0pzw0r9c75a3v5yclm0gdk03vslfbw4w9n7qfzbml85alcq7iabj");

        let hex: String = bytes.unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "72a97830a3aa205ad777f8d8c4095f8eea3dc06c0f54ca7cd94395c35206fc5f");
    }

    #[test]
    fn a_digit_too_large_for_the_last_byte_is_no_hash() {
        assert_eq!(decode_sha256(&"z".repeat(52)), None);
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(bytes: [u8; 32]) {
            prop_assert_eq!(decode_sha256(&encode(&bytes)), Some(bytes));
        }
    }
}
