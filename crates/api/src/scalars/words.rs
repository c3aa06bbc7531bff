//! Enumerations that are written as words.

/// Defines an enum whose variants are words in documents: display, parsing and serde agree, and the error for an
/// unknown word lists the known ones. `any_case` takes words in any case (as Calico does for log levels and actions);
/// the canonical spelling is what is written.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident $(($case:ident))? {
        $($(#[$doc:meta])* $variant:ident = $word:literal,)*
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word that documents use.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::scalars::ScalarError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::ALL
                    .iter()
                    .copied()
                    .find(|value| words!(@same value.as_str(), text $(, $case)?))
                    .ok_or_else(|| {
                        let words: Vec<&str> = Self::ALL.iter().map(|value| value.as_str()).collect();
                        $crate::scalars::ScalarError::not_one_of(text, &words)
                    })
            }
        }

        $crate::scalars::serde_as_text!($name);
    };
    (@same $word:expr, $text:expr) => { $word == $text };
    (@same $word:expr, $text:expr, any_case) => { $word.eq_ignore_ascii_case($text) };
}

/// Serde through `Display` and `FromStr`.
macro_rules! serde_as_text {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str($crate::scalars::TextVisitor::new())
            }
        }
    };
}

pub(crate) use {serde_as_text, words};
