//! Our own tokens, `bs_<id>_<secret>`: their format, the hash that is stored, and its comparison.
//!
//! PURE. Random bytes are an argument. Must not know scopes, users or the database. Called by `token_store` and by the
//! `token` commands.

use std::fmt;

use hmac::digest::CtOutput;
use secrecy::{ExposeSecret, ExposeSecretMut, SecretBox};
use sha2::{Digest, Sha256};

/// What every token begins with. A JWT never does, because it begins with the base64 of `{"`.
pub const PREFIX: &str = "bs_";

/// The id only finds the row; the secret must not be guessed, so it has 256 bits.
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;

/// Number of random bytes in a token.
pub const RANDOM_BYTES: usize = ID_BYTES + SECRET_BYTES;

/// The public part of a token: 16 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenId(String);

impl TokenId {
    /// Reads an id.
    pub fn parse(text: &str) -> Option<Self> {
        is_lower_hex(text, ID_BYTES).then(|| Self(text.to_owned()))
    }

    /// Reads an id, or the id of a token. The secret is not checked, so that a leaked token can be revoked even if it
    /// was not copied to its end.
    pub fn named_by(text: &str) -> Option<Self> {
        let text = text.trim();
        let id = text.strip_prefix(PREFIX).map_or(text, |rest| rest.split('_').next().unwrap_or_default());
        Self::parse(id)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A whole token. Its secret cannot be printed by accident.
pub struct Token {
    id: TokenId,
    secret: SecretBox<[u8; SECRET_BYTES]>,
}

impl Token {
    /// Creates a token. The bytes must come from a cryptographic source.
    pub fn new(random: &[u8; RANDOM_BYTES]) -> Self {
        let (id, secret) = random.split_at(ID_BYTES);
        let secret = SecretBox::init_with_mut(|bytes: &mut [u8; SECRET_BYTES]| bytes.copy_from_slice(secret));
        Self { id: TokenId(hex::encode(id)), secret }
    }

    /// Reads a token. Only the exact text is accepted: upper-case digits or whitespace would be other texts of the
    /// same token.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let id = TokenId::parse(id)?;
        if !is_lower_hex(secret, SECRET_BYTES) {
            return None;
        }
        let mut bytes = SecretBox::new(Box::new([0; SECRET_BYTES]));
        hex::decode_to_slice(secret, bytes.expose_secret_mut()).ok()?;
        Some(Self { id, secret: bytes })
    }

    /// The public part.
    pub fn id(&self) -> &TokenId {
        &self.id
    }

    /// The whole text, for the one time that it is shown.
    pub fn expose(&self) -> String {
        format!("{PREFIX}{}_{}", self.id, hex::encode(self.secret.expose_secret()))
    }

    /// The hash to store. A plain SHA-256 suffices, because a random secret of 256 bits cannot be guessed.
    pub fn hash(&self) -> SecretHash {
        SecretHash(CtOutput::new(Sha256::digest(self.secret.expose_secret())))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("id", &self.id).finish_non_exhaustive()
    }
}

/// SHA-256 of the bytes of a secret. Two hashes are compared in constant time, and `Debug` does not show them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretHash(CtOutput<Sha256>);

impl SecretHash {
    /// A stored hash; `None` unless it has 32 bytes.
    pub fn read(stored: &[u8]) -> Option<Self> {
        let bytes: [u8; 32] = stored.try_into().ok()?;
        Some(Self(CtOutput::new(bytes.into())))
    }

    /// The hash to compare with if no token has the id, so that the comparison takes the same time.
    pub fn of_no_token() -> Self {
        Self(CtOutput::new([0; 32].into()))
    }

    /// The bytes to store.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes().as_slice()
    }

    /// Whether this is the hash of the token's secret, in constant time.
    pub fn is_of(&self, token: &Token) -> bool {
        *self == token.hash()
    }
}

/// Whether the text is this number of bytes in lower-case hexadecimal digits. `hex` also accepts upper case.
fn is_lower_hex(text: &str, bytes: usize) -> bool {
    text.len() == 2 * bytes && text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0001020304050607";
    const SECRET: &str = "08090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f2021222324252627";

    /// The token with the bytes 0, 1, 2 …
    fn token() -> Token {
        Token::new(&std::array::from_fn(|at| u8::try_from(at).unwrap()))
    }

    #[test]
    fn a_token_is_read_as_it_was_written() {
        let text = token().expose();
        assert_eq!(text, format!("bs_{ID}_{SECRET}"));
        let read = Token::parse(&text).unwrap();
        assert_eq!((read.id().as_str(), read.expose()), (ID, text));
        assert!(read.hash().is_of(&token()));
    }

    #[test]
    fn the_hash_is_that_of_the_bytes_of_the_secret() {
        let expected = Sha256::digest(hex::decode(SECRET).unwrap());
        assert_eq!(token().hash().as_bytes(), expected.as_slice());
        assert_eq!(SecretHash::read(token().hash().as_bytes()), Some(token().hash()));
        assert_eq!(SecretHash::read(&[0; 31]), None);
        assert_eq!(SecretHash::read(&[]), None);
    }

    #[test]
    fn only_the_secret_of_the_token_matches() {
        let stored = token().hash();
        for at in ID_BYTES..RANDOM_BYTES {
            let mut random: [u8; RANDOM_BYTES] = std::array::from_fn(|at| u8::try_from(at).unwrap());
            random[at] ^= 1;
            assert!(!stored.is_of(&Token::new(&random)), "byte {at}");
        }
        assert!(!SecretHash::of_no_token().is_of(&token()));
        assert!(!SecretHash::of_no_token().is_of(&Token::new(&[0; RANDOM_BYTES])));
    }

    #[test]
    fn other_texts_are_refused() {
        let text = format!("bs_{ID}_{SECRET}");
        let changed = [
            String::new(),
            PREFIX.to_owned(),
            ID.to_owned(),
            format!("bs_{ID}"),
            format!("bs_{ID}_"),
            format!("bs__{SECRET}"),
            format!("{ID}_{SECRET}"),
            format!("BS_{ID}_{SECRET}"),
            format!("bs-{ID}-{SECRET}"),
            format!("bs_{SECRET}_{ID}"),
            format!("bs_{}_{SECRET}", &ID[1..]),
            format!("bs_0{ID}_{SECRET}"),
            format!("bs_{ID}_{}", &SECRET[1..]),
            format!("bs_{ID}_{}", &SECRET[2..]),
            format!("bs_{ID}_0{SECRET}"),
            format!("bs_{ID}_00{SECRET}"),
            format!("bs_{ID}_{}", SECRET.to_uppercase()),
            format!("bs_{}_{SECRET}", ID.replace('0', "A")),
            format!("bs_{}_{SECRET}", ID.replace('7', "g")),
            format!("bs_{ID}_{}", SECRET.replace('f', "_")),
            // two bytes in one letter: the length in bytes is right
            format!("bs_{ID}_{}ä", &SECRET[2..]),
            format!("bs_{}ä_{SECRET}", &ID[2..]),
            format!(" {text}"),
            format!("{text} "),
            format!("{text}\n"),
            format!("Bearer {text}"),
            format!("{text}_{SECRET}"),
            "eyJhbGciOiJFUzI1NiJ9.e30.c2ln".to_owned(),
        ];
        for wrong in changed {
            assert!(Token::parse(&wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn an_id_is_found_in_a_pasted_token() {
        let whole = token().expose();
        for text in [ID, &whole, &whole[..30], &format!("bs_{ID}"), &format!("  {whole}\n")] {
            assert_eq!(TokenId::named_by(text), TokenId::parse(ID), "{text}");
        }
        for text in ["", "bs_", "bs__", SECRET, &ID[1..], &whole[1..], "a token"] {
            assert_eq!(TokenId::named_by(text), None, "{text}");
        }
    }

    #[test]
    fn debug_shows_neither_secret_nor_hash() {
        let token = token();
        let shown = format!("{token:?} {token:#?} {:?} {:#?}", token.hash(), token.hash());
        assert!(shown.contains(ID), "{shown}");
        let hash = token.hash();
        let bytes = hash.as_bytes();
        for private in [SECRET, &hex::encode(bytes), &format!("{bytes:?}"), "8, 9, 10", "[8"] {
            assert!(!shown.contains(private), "{private}: {shown}");
        }
        // as lists of numbers, which the derived Debug of an array would show
        assert!(!shown.contains(&format!("{}, {}", bytes[0], bytes[1])), "{shown}");
    }
}
