//! Derive macros of `satchel-sdk`, which re-exports them.

mod message;
mod state;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Makes a type a message.
///
/// A struct, or an enum that is one message, has the attribute
/// `#[message(typename = "namespace/name")]`. Its wire form is chosen by `encoding`:
///
/// - `"json"` (default): the type implements serde's `Serialize` and `DeserializeOwned`.
/// - `"protobuf"`: the type implements `prost::Message`.
/// - `"bytes"`: a tuple struct around one `bytes::Bytes` or `Vec<u8>`.
///
/// In an enum without that attribute, each variant holds one message, `Variant(Type)`, and the
/// typename distinguishes them. One variant may be marked `#[message(json)]`. It takes JSON of no
/// declared type.
///
/// ```
/// use satchel_sdk::Message;
/// use satchel_sdk::protocol::prost;
///
/// #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize, Message)]
/// #[message(typename = "shop/order")]
/// struct Order { item: String }
///
/// #[derive(PartialEq, prost::Message, Message)]
/// #[prost(prost_path = "prost")]
/// #[message(typename = "shop/receipt", encoding = "protobuf")]
/// struct Receipt {
///     #[prost(uint64, tag = "1")]
///     amount: u64,
/// }
///
/// #[derive(Debug, PartialEq, Message)]
/// #[message(typename = "shop/image", encoding = "bytes")]
/// struct Image(Vec<u8>);
///
/// #[derive(Debug, PartialEq, Message)]
/// enum Event {
///     #[message(json)]
///     Order(Order),
///     Receipt(Receipt),
///     Image(Image),
/// }
///
/// let event = Event::Receipt(Receipt { amount: 5 });
/// let value = event.to_typed_value().unwrap();
/// assert_eq!(value.typename, "shop/receipt");
/// assert_eq!(Event::from_typed_value(value).unwrap(), event);
/// ```
///
/// A missing typename does not compile:
///
/// ```compile_fail
/// #[derive(serde::Serialize, serde::Deserialize, satchel_sdk::Message)]
/// struct Order { item: String }
/// ```
///
/// Two variants with one typename do not compile:
///
/// ```compile_fail
/// #[derive(satchel_sdk::Message)]
/// enum Event { Created(String), Deleted(String) }
/// ```
#[proc_macro_derive(Message, attributes(message))]
pub fn derive_message(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    message::derive(&input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Makes a struct of `Value<T>` fields the state of a function.
///
/// A field may have the attributes `#[state(name = "…")]`, and one of
/// `#[state(expire_after_write = "30d")]` and `#[state(expire_after_invoke = "1h")]`. A duration is
/// a whole number and a unit: `ms`; `s`, `sec`; `m`, `min`; `h`; `d`.
///
/// Access to a state that is not declared does not compile:
///
/// ```compile_fail
/// use satchel_sdk::{Context, Result, State, Value};
///
/// #[derive(State)]
/// struct Account { balance: Value<i64> }
///
/// async fn account(ctx: &mut Context<Account>, message: i64) -> Result {
///     ctx.state.ballance.set(message);
///     Ok(())
/// }
/// ```
///
/// A value of another type than the declared one does not compile:
///
/// ```compile_fail
/// use satchel_sdk::{Context, Result, State, Value};
///
/// #[derive(State)]
/// struct Account { balance: Value<i64> }
///
/// async fn account(ctx: &mut Context<Account>, message: String) -> Result {
///     ctx.state.balance.set(message);
///     Ok(())
/// }
/// ```
///
/// A text that is not a duration does not compile:
///
/// ```compile_fail
/// use satchel_sdk::{State, Value};
///
/// #[derive(State)]
/// struct Account { #[state(expire_after_write = "soon")] balance: Value<i64> }
/// let specs = <Account as State>::specs();
/// ```
#[proc_macro_derive(State, attributes(state))]
pub fn derive_state(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    state::derive(&input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
