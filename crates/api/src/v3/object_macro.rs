//! The one shape in which all structs of the v3 API are declared.

/// Declares a struct of the API: camelCase names, public fields, absent fields take their default and defaults are not
/// written. `field: Type = required` has to be there and is always written.
macro_rules! object {
    ($(#[$meta:meta])* pub struct $name:ident { $($fields:tt)* }) => {
        object!(@fields [$(#[$meta])*] $name [] $($fields)*);
    };
    (@fields $meta:tt $name:ident [$($done:tt)*]
     $(#[$field_meta:meta])* $field:ident: $type:ty = required, $($rest:tt)*) => {
        object!(@fields $meta $name [$($done)* $(#[$field_meta])* pub $field: $type,] $($rest)*);
    };
    (@fields $meta:tt $name:ident [$($done:tt)*]
     $(#[$field_meta:meta])* $field:ident: $type:ty, $($rest:tt)*) => {
        object!(@fields $meta $name [
            $($done)*
            #[serde(default, skip_serializing_if = "crate::v3::is_default")]
            $(#[$field_meta])*
            pub $field: $type,
        ] $($rest)*);
    };
    (@fields [$(#[$meta:meta])*] $name:ident [$($done:tt)*]) => {
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        $(#[$meta])*
        pub struct $name { $($done)* }
    };
}

pub(crate) use object;

/// Whether a value is what its absence means.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
