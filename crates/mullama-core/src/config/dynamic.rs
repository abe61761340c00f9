//! Settings from languages whose values have no fixed type: one rule per type, and every refusal names its field.

use mullama_ffi::{FlashAttn, KvType, TokenId};

use crate::error::MullamaError;

/// Most items of a list of settings that are converted; the fields' own limits are lower.
const MAX_ITEMS: usize = 1 << 20;

/// A value as a number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Numeral<T> {
    /// The number.
    Value(T),
    /// A number that the type cannot hold.
    TooLarge,
    /// No number, or a truth value.
    NotANumber,
}

impl<T> Numeral<T> {
    /// The number as another type.
    pub fn map<U>(self, convert: impl FnOnce(T) -> U) -> Numeral<U> {
        match self {
            Self::Value(number) => Numeral::Value(convert(number)),
            Self::TooLarge => Numeral::TooLarge,
            Self::NotANumber => Numeral::NotANumber,
        }
    }
}

/// The pairs of a mapping.
type Pairs<V> = Result<Vec<(V, V)>, <V as DynamicValue>::Error>;

/// A value of a language whose values have no fixed type, such as Python or JavaScript.
pub trait DynamicValue: Sized {
    /// What that language raises.
    type Error;

    /// Whether it stands for "not given".
    fn is_none(&self) -> bool;

    /// It as a truth value; `None` if it is none.
    fn to_bool(&self) -> Option<bool>;

    /// It as an integer.
    ///
    /// # Errors
    /// What the conversion raises.
    fn to_integer(&self) -> Result<Numeral<i128>, Self::Error>;

    /// It as a number.
    ///
    /// # Errors
    /// What the conversion raises.
    fn to_float(&self) -> Result<Numeral<f64>, Self::Error>;

    /// It as text; `None` if it is none, and `Some(None)` if it is not valid Unicode.
    fn to_text(&self) -> Option<Option<String>>;

    /// How many items or pairs it has, if it says so.
    ///
    /// # Errors
    /// What the value's own code raises.
    fn count(&self) -> Result<Option<usize>, Self::Error>;

    /// The items of a list; `None` if it is none.
    ///
    /// # Errors
    /// What the value's own code raises.
    fn items(&self) -> Result<Option<impl Iterator<Item = Result<Self, Self::Error>>>, Self::Error>;

    /// The pairs of a mapping; `None` if it is none.
    fn pairs(&self) -> Option<Pairs<Self>>;

    /// It in an error message, cut where it is long.
    ///
    /// # Errors
    /// What the value's own code raises.
    fn shown(&self) -> Result<String, Self::Error>;

    /// What is raised if it has a wrong type.
    fn mistyped(&self, name: &str, wanted: &str) -> Self::Error;

    /// What is raised for an error of this library.
    fn raised(&self, error: MullamaError) -> Self::Error;
}

/// The field that a value is for.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// The values that a field of this name allows, in words, where a table narrows its type's.
    pub range: fn(&str) -> Option<&'static str>,
    /// The index of the value, if the field is a list and the value is one of its items.
    pub index: Option<usize>,
}

impl Field {
    /// The field of this name, with the values that it allows in words.
    pub fn new(name: &'static str, range: fn(&str) -> Option<&'static str>) -> Self {
        Self { name, range, index: None }
    }

    fn mistyped<V: DynamicValue>(self, value: &V, wanted: &str) -> V::Error {
        match self.index {
            None => value.mistyped(self.name, wanted),
            Some(index) => value.mistyped(&format!("{}[{index}]", self.name), wanted),
        }
    }

    fn out_of_range<V: DynamicValue>(self, value: &V, range: &str) -> V::Error {
        let range = (self.range)(self.name).unwrap_or(range).to_owned();
        match value.shown() {
            Ok(shown) => value.raised(MullamaError::InvalidConfig { field: self.name, value: shown, range }),
            Err(raised) => raised,
        }
    }

    fn number<V: DynamicValue, T>(
        self,
        value: &V,
        found: Numeral<T>,
        wanted: &str,
        range: &str,
    ) -> Result<T, V::Error> {
        match found {
            Numeral::Value(number) => Ok(number),
            Numeral::TooLarge => Err(self.out_of_range(value, range)),
            Numeral::NotANumber => Err(self.mistyped(value, wanted)),
        }
    }

    /// Refuses more items than any field takes, before they are converted.
    fn check_count<V: DynamicValue>(self, value: &V, count: usize) -> Result<(), V::Error> {
        if count <= MAX_ITEMS {
            return Ok(());
        }
        let (shown, range) = (format!("a collection of {count} items"), format!("at most {MAX_ITEMS} items"));
        Err(value.raised(MullamaError::InvalidConfig { field: self.name, value: shown, range }))
    }
}

/// A type of settings.
pub trait Setting: Sized {
    /// Converts a value.
    ///
    /// # Errors
    /// [`DynamicValue::mistyped`] for a wrong type, [`MullamaError::InvalidConfig`] for a value that does not fit.
    fn take<V: DynamicValue>(value: &V, field: Field) -> Result<Self, V::Error>;
}

macro_rules! integer_settings {
    ($($type:ty: $range:literal),*) => {
        $(impl Setting for $type {
            fn take<V: DynamicValue>(value: &V, field: Field) -> Result<Self, V::Error> {
                let wide = field.number(value, value.to_integer()?, "an int", $range)?;
                Self::try_from(wide).map_err(|_| field.out_of_range(value, $range))
            }
        })*
    };
}

// The tables have the range of every field of numbers; what is left of `i32` are lists of token ids.
integer_settings! {
    u32: "0 to 4294967295", i32: "token ids of the model's vocabulary", u64: "0 to 18446744073709551615"
}

/// What a field of numbers takes if no table narrows it.
const SINGLE_PRECISION: &str = "a number from -3.4e38 to 3.4e38";

impl Setting for f32 {
    fn take<V: DynamicValue>(value: &V, field: Field) -> Result<Self, V::Error> {
        let wide = field.number(value, value.to_float()?, "a number", SINGLE_PRECISION)?;
        #[expect(clippy::cast_possible_truncation, reason = "llama.cpp computes with single precision")]
        let narrow = wide as Self;
        if wide.is_finite() && narrow.is_infinite() {
            return Err(field.out_of_range(value, SINGLE_PRECISION));
        }
        Ok(narrow)
    }
}

impl Setting for bool {
    fn take<V: DynamicValue>(value: &V, field: Field) -> Result<Self, V::Error> {
        value.to_bool().ok_or_else(|| value.mistyped(field.name, "a bool"))
    }
}

impl Setting for String {
    fn take<V: DynamicValue>(value: &V, field: Field) -> Result<Self, V::Error> {
        let text = value.to_text().ok_or_else(|| field.mistyped(value, "a str"))?;
        text.ok_or_else(|| field.out_of_range(value, "text without lone surrogates"))
    }
}

impl<T: Setting> Setting for Option<T> {
    fn take<V: DynamicValue>(value: &V, field: Field) -> Result<Self, V::Error> {
        if value.is_none() { Ok(None) } else { T::take(value, field).map(Some) }
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn take<V: DynamicValue>(value: &V, field: Field) -> Result<Self, V::Error> {
        let items = value.items()?.ok_or_else(|| value.mistyped(field.name, "a list or a tuple"))?;
        field.check_count(value, value.count()?.unwrap_or_default())?;
        let mut taken = Self::new();
        for item in items {
            field.check_count(value, taken.len() + 1)?;
            taken.push(T::take(&item?, Field { index: Some(taken.len()), ..field })?);
        }
        Ok(taken)
    }
}

/// The biases that [`StreamConfig::validate`](super::StreamConfig::validate) accepts.
const BIASES: &str = "numbers up to 1000000000, or negative infinity";

impl Setting for Vec<(TokenId, f32)> {
    fn take<V: DynamicValue>(value: &V, field: Field) -> Result<Self, V::Error> {
        field.check_count(value, value.count()?.unwrap_or_default())?;
        let biases = value.pairs().ok_or_else(|| value.mistyped(field.name, "a mapping"))??;
        let bias_field = Field { range: |_| Some(BIASES), ..field };
        let pairs = biases.iter().map(|(token, bias)| {
            let token = token_of(token, field)?;
            match bias.to_float()? {
                Numeral::NotANumber => Err(bias.mistyped(&format!("{}[{token}]", field.name), "a number")),
                _ => Ok((token, Setting::take(bias, bias_field)?)),
            }
        });
        pairs.collect()
    }
}

/// The token id that a key of a mapping is. The keys of a JSON object are texts, so its digits are taken too.
fn token_of<V: DynamicValue>(key: &V, field: Field) -> Result<TokenId, V::Error> {
    if let Some(Some(digits)) = key.to_text() {
        let token = digits.parse::<TokenId>().ok().filter(|token| token.to_string() == digits);
        let named = || key.mistyped(&format!("the key {digits:?} of {}", field.name), "an int token id");
        return token.ok_or_else(named);
    }
    match key.to_integer()? {
        Numeral::NotANumber => {
            Err(key.mistyped(&format!("the key {} of {}", key.shown()?, field.name), "an int token id"))
        }
        _ => Setting::take(key, field),
    }
}

macro_rules! named_settings {
    ($($type:ty),*) => {
        $(impl Setting for $type {
            /// The choice that a word of llama.cpp's names.
            fn take<V: DynamicValue>(value: &V, field: Field) -> Result<Self, V::Error> {
                let words = format!("one of {}", Self::NAMED.map(|(known, _)| known).join(", "));
                let word = value.to_text().ok_or_else(|| field.mistyped(value, &words))?;
                let choice = Self::NAMED.into_iter().find(|(known, _)| word.as_deref() == Some(*known));
                choice.map(|(_, choice)| choice).ok_or_else(|| field.out_of_range(value, &words))
            }
        })*
    };
}

named_settings!(FlashAttn, KvType);
