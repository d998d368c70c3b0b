//! The fields that generating routes share: their types, ranges and documentation, written once.
//!
//! Serde's `flatten` would do the same and lose the names of unknown fields, so that a typing error could not be told.

/// Adds shared fields, named in front of a request's struct, behind its own, and a method `given` that takes them out.
///
/// ```text
/// with_shared_fields! {
///     [temperature seed]
///     /// A body.
///     #[derive(Deserialize, ToSchema)]
///     pub struct Request {
///         prompt: String,
///     }
/// }
/// let options: GivenOptions = request.given();
/// ```
macro_rules! with_shared_fields {
    ([$($name:ident)*] $($item:tt)*) => {
        with_shared_fields!(@add [$($name)*] [] [$($name)*] $($item)*);
    };
    (@add [] [$($shared:tt)*] [$($name:ident)*] $(#[$attribute:meta])* pub struct $request:ident { $($own:tt)* }) => {
        $(#[$attribute])*
        pub struct $request {
            $($own)*
            $($shared)*
        }

        impl $request {
            /// Takes out the fields that generating routes share.
            pub(crate) fn given(&mut self) -> $crate::request::options::GivenOptions {
                $crate::request::options::GivenOptions {
                    $($name: self.$name.take(),)*
                    ..Default::default()
                }
            }
        }
    };
    (@add [temperature $($rest:ident)*] [$($shared:tt)*] $($item:tt)*) => {
        with_shared_fields!(@add [$($rest)*] [$($shared)*
            /// Divides the logits; 0 takes the most probable tokens. Default: the model's.
            #[schema(minimum = 0, maximum = 2)]
            temperature: Option<f64>,
        ] $($item)*);
    };
    (@add [top_p $($rest:ident)*] [$($shared:tt)*] $($item:tt)*) => {
        with_shared_fields!(@add [$($rest)*] [$($shared)*
            /// Nucleus mass. Default: the model's.
            #[schema(minimum = 0, maximum = 1)]
            top_p: Option<f64>,
        ] $($item)*);
    };
    (@add [top_k $($rest:ident)*] [$($shared:tt)*] $($item:tt)*) => {
        with_shared_fields!(@add [$($rest)*] [$($shared)*
            /// Only the k most probable tokens may be drawn; 0 and -1 are off.
            #[serde(default, deserialize_with = "crate::request::fields::integer")]
            #[schema(minimum = -1)]
            top_k: Option<i64>,
        ] $($item)*);
    };
    (@add [min_p $($rest:ident)*] [$($shared:tt)*] $($item:tt)*) => {
        with_shared_fields!(@add [$($rest)*] [$($shared)*
            /// Drops tokens below this share of the largest probability. Default 0.
            #[schema(minimum = 0, maximum = 1)]
            min_p: Option<f64>,
        ] $($item)*);
    };
    (@add [frequency_penalty $($rest:ident)*] [$($shared:tt)*] $($item:tt)*) => {
        with_shared_fields!(@add [$($rest)*] [$($shared)*
            /// Subtracted from a token's logit per occurrence generated so far. Tokens committed by the same
            /// evaluation do not see each other. Default 0.
            #[schema(minimum = -2, maximum = 2)]
            frequency_penalty: Option<f64>,
        ] $($item)*);
    };
    (@add [presence_penalty $($rest:ident)*] [$($shared:tt)*] $($item:tt)*) => {
        with_shared_fields!(@add [$($rest)*] [$($shared)*
            /// Subtracted from the logit of a token that was generated at all. Default 0.
            #[schema(minimum = -2, maximum = 2)]
            presence_penalty: Option<f64>,
        ] $($item)*);
    };
    (@add [repetition_penalty $($rest:ident)*] [$($shared:tt)*] $($item:tt)*) => {
        with_shared_fields!(@add [$($rest)*] [$($shared)*
            /// Divides positive logits of tokens on the canvas, given ones included, and multiplies negative
            /// ones. Default 1. `repeat_penalty` is the same.
            #[serde(alias = "repeat_penalty")]
            #[schema(minimum = 0.1, maximum = 10)]
            repetition_penalty: Option<f64>,
        ] $($item)*);
    };
    (@add [logit_bias $($rest:ident)*] [$($shared:tt)*] $($item:tt)*) => {
        with_shared_fields!(@add [$($rest)*] [$($shared)*
            /// Added to the logits of tokens, by id; a list of pairs of id and number is the same.
            #[serde(default, deserialize_with = "crate::request::fields::biases")]
            #[schema(value_type = Option<std::collections::HashMap<String, f64>>)]
            logit_bias: Option<$crate::request::fields::Biases>,
        ] $($item)*);
    };
    (@add [min_tokens $($rest:ident)*] [$($shared:tt)*] $($item:tt)*) => {
        with_shared_fields!(@add [$($rest)*] [$($shared)*
            /// Leading positions in which no document end is drawn. Default 0.
            #[serde(default, deserialize_with = "crate::request::fields::integer")]
            #[schema(minimum = 0)]
            min_tokens: Option<i64>,
        ] $($item)*);
    };
    (@add [ignore_eos $($rest:ident)*] [$($shared:tt)*] $($item:tt)*) => {
        with_shared_fields!(@add [$($rest)*] [$($shared)*
            /// No document end is drawn anywhere. Default false.
            ignore_eos: Option<bool>,
        ] $($item)*);
    };
    (@add [seed $($rest:ident)*] [$($shared:tt)*] $($item:tt)*) => {
        with_shared_fields!(@add [$($rest)*] [$($shared)*
            /// The answer is a function of the request and this number. Default: random, and returned.
            /// `random_seed` is the same.
            #[serde(alias = "random_seed")]
            seed: Option<$crate::seed::Seed>,
        ] $($item)*);
    };
    (@add [n $($rest:ident)*] [$($shared:tt)*] $($item:tt)*) => {
        with_shared_fields!(@add [$($rest)*] [$($shared)*
            /// Answers to each prompt. Default 1. With several, and without a decision rule in the request, a default
            /// temperature of 0 is replaced by the family's (`sampling_defaults` of /v1/models).
            #[serde(default, deserialize_with = "crate::request::fields::integer")]
            #[schema(minimum = 1)]
            n: Option<i64>,
        ] $($item)*);
    };
    (@add [stop $($rest:ident)*] [$($shared:tt)*] $($item:tt)*) => {
        with_shared_fields!(@add [$($rest)*] [$($shared)*
            /// A text ends before the first of these.
            stop: Option<$crate::request::options::Strings>,
        ] $($item)*);
    };
    (@add [timeout_ms $($rest:ident)*] [$($shared:tt)*] $($item:tt)*) => {
        with_shared_fields!(@add [$($rest)*] [$($shared)*
            /// Milliseconds from the request's arrival until it is given up, with the text that is settled by then
            /// (`early_exit`: `timeout`) or, without any, 504. At most, and by default, the server's own limit
            /// (`limits.timeout_ms` of /v1/models; null: four times what the request takes alone, at least 120,000).
            /// The header `x-request-timeout-ms` says the same; the earlier one counts.
            #[serde(default, deserialize_with = "crate::request::fields::integer")]
            #[schema(minimum = 1)]
            timeout_ms: Option<i64>,
        ] $($item)*);
    };
    (@add [token_healing $($rest:ident)*] [$($shared:tt)*] $($item:tt)*) => {
        with_shared_fields!(@add [$($rest)*] [$($shared)*
            /// Heals a blank or a word that the text before or after a hole cuts. The hole's first token brings the blank.
            /// A word that the model continues is continued as one. The given text stays as it is. Default true;
            /// `reproduce` turns it off.
            token_healing: Option<bool>,
        ] $($item)*);
    };
    (@add [diffusion $($rest:ident)*] [$($shared:tt)*] $($item:tt)*) => {
        with_shared_fields!(@add [$($rest)*] [$($shared)*
            /// Settings of the denoising.
            #[serde(default, deserialize_with = "crate::request::fields::object")]
            diffusion: Option<$crate::request::policy_options::DiffusionOptions>,
        ] $($item)*);
    };
}

pub(crate) use with_shared_fields;
