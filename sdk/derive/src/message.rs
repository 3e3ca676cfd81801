//! `#[derive(Message)]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DataEnum, DeriveInput, Error, Fields, Ident, LitStr, Result, Type};

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &input.generics,
            "a message is not generic: its typename names one type",
        ));
    }
    let attribute = TypeAttribute::of(input)?;
    match (&input.data, attribute.typename) {
        (Data::Struct(_) | Data::Enum(_), Some(typename)) => {
            single(input, &typename, attribute.encoding)
        }
        (Data::Enum(data), None) => {
            if let Some(encoding) = attribute.encoding_literal {
                return Err(Error::new_spanned(
                    encoding,
                    "an encoding belongs to a typename; each message of an enum has its own",
                ));
            }
            several(input, data)
        }
        (Data::Struct(_), None) => Err(Error::new_spanned(
            &input.ident,
            "a message needs a typename: #[message(typename = \"namespace/name\")]",
        )),
        (Data::Union(_), _) => Err(Error::new_spanned(
            &input.ident,
            "a message is a struct or an enum",
        )),
    }
}

#[derive(Clone, Copy, Default)]
enum Encoding {
    #[default]
    Json,
    Protobuf,
    Bytes,
}

/// `#[message(typename = "…", encoding = "…")]` on the type.
#[derive(Default)]
struct TypeAttribute {
    typename: Option<LitStr>,
    encoding: Encoding,
    encoding_literal: Option<LitStr>,
}

impl TypeAttribute {
    fn of(input: &DeriveInput) -> Result<Self> {
        let mut found = Self::default();
        for attribute in &input.attrs {
            if !attribute.path().is_ident("message") {
                continue;
            }
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("typename") {
                    let typename: LitStr = meta.value()?.parse()?;
                    check_typename(&typename)?;
                    found.typename = Some(typename);
                    Ok(())
                } else if meta.path.is_ident("encoding") {
                    let encoding: LitStr = meta.value()?.parse()?;
                    found.encoding = match encoding.value().as_str() {
                        "json" => Encoding::Json,
                        "protobuf" => Encoding::Protobuf,
                        "bytes" => Encoding::Bytes,
                        _ => {
                            return Err(Error::new_spanned(
                                encoding,
                                "an encoding is \"json\", \"protobuf\" or \"bytes\"",
                            ));
                        }
                    };
                    found.encoding_literal = Some(encoding);
                    Ok(())
                } else {
                    Err(meta.error("expected `typename` or `encoding`"))
                }
            })?;
        }
        Ok(found)
    }
}

fn check_typename(typename: &LitStr) -> Result<()> {
    match typename.value().rsplit_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => Ok(()),
        _ => Err(Error::new_spanned(
            typename,
            "a typename has the form namespace/name",
        )),
    }
}

/// A type with one typename.
fn single(input: &DeriveInput, typename: &LitStr, encoding: Encoding) -> Result<TokenStream> {
    let name = &input.ident;
    let (encode, decode, from_json) = match encoding {
        Encoding::Json => (
            quote!(::satchel_sdk::derived::message::encode_json(self)),
            quote!(::satchel_sdk::derived::message::decode_json(bytes)),
            quote! {
                fn from_json(
                    json: &[u8],
                ) -> ::core::option::Option<::core::result::Result<Self, ::satchel_sdk::Error>> {
                    ::core::option::Option::Some(::satchel_sdk::derived::message::decode_json(json))
                }
            },
        ),
        Encoding::Protobuf => (
            quote!(::core::result::Result::Ok(
                ::satchel_sdk::derived::message::encode_protobuf(self)
            )),
            quote!(::satchel_sdk::derived::message::decode_protobuf(bytes)),
            quote!(),
        ),
        Encoding::Bytes => {
            if !is_newtype(&input.data) {
                return Err(Error::new_spanned(
                    name,
                    "a message of raw bytes is a tuple struct around one field, \
                     such as `struct Image(Vec<u8>);`",
                ));
            }
            (
                quote!(::core::result::Result::Ok(
                    ::satchel_sdk::derived::message::encode_bytes(&self.0)
                )),
                quote!(::core::result::Result::Ok(Self(
                    ::satchel_sdk::derived::message::decode_bytes(bytes)
                ))),
                quote!(),
            )
        }
    };
    Ok(quote! {
        #[automatically_derived]
        impl ::satchel_sdk::Typed for #name {
            const TYPENAME: &'static str = #typename;

            fn encode(
                &self,
            ) -> ::core::result::Result<
                ::satchel_sdk::derived::message::Bytes,
                ::satchel_sdk::Error,
            > {
                #encode
            }

            fn decode(
                bytes: &::satchel_sdk::derived::message::Bytes,
            ) -> ::core::result::Result<Self, ::satchel_sdk::Error> {
                #decode
            }

            #from_json
        }
    })
}

fn is_newtype(data: &Data) -> bool {
    let Data::Struct(data) = data else {
        return false;
    };
    matches!(&data.fields, Fields::Unnamed(fields) if fields.unnamed.len() == 1)
}

/// One message of an enum of messages.
struct Variant<'a> {
    name: &'a Ident,
    message: &'a Type,
    takes_json: bool,
}

impl<'a> Variant<'a> {
    fn of(variant: &'a syn::Variant) -> Result<Self> {
        let message = match &variant.fields {
            Fields::Unnamed(fields) if fields.unnamed.len() == 1 => &fields.unnamed[0].ty,
            _ => {
                return Err(Error::new_spanned(
                    variant,
                    "a variant holds one message, such as `Created(Created)`; \
                     or give the enum a typename to make it one message",
                ));
            }
        };
        let mut takes_json = false;
        for attribute in &variant.attrs {
            if attribute.path().is_ident("message") {
                attribute.parse_nested_meta(|meta| {
                    if meta.path.is_ident("json") {
                        takes_json = true;
                        Ok(())
                    } else {
                        Err(meta.error("expected `json`"))
                    }
                })?;
            }
        }
        Ok(Self {
            name: &variant.ident,
            message,
            takes_json,
        })
    }
}

/// An enum of messages, distinguished by typename.
fn several(input: &DeriveInput, data: &DataEnum) -> Result<TokenStream> {
    let name = &input.ident;
    let variants = data
        .variants
        .iter()
        .map(Variant::of)
        .collect::<Result<Vec<_>>>()?;
    if variants.is_empty() {
        return Err(Error::new_spanned(name, "an enum of messages has variants"));
    }
    let names: Vec<_> = variants.iter().map(|variant| variant.name).collect();
    let messages: Vec<_> = variants.iter().map(|variant| variant.message).collect();
    let from_json = untyped_json(input, &variants)?;
    Ok(quote! {
        #[automatically_derived]
        impl ::satchel_sdk::Message for #name {
            fn typenames() -> ::std::vec::Vec<&'static str> {
                ::std::vec![#(<#messages as ::satchel_sdk::Typed>::TYPENAME),*]
            }

            fn to_typed_value(
                &self,
            ) -> ::core::result::Result<::satchel_sdk::TypedValue, ::satchel_sdk::MessageError> {
                match self {
                    #(Self::#names(message) => ::satchel_sdk::Message::to_typed_value(message),)*
                }
            }

            fn from_typed_value(
                value: ::satchel_sdk::TypedValue,
            ) -> ::core::result::Result<Self, ::satchel_sdk::MessageError> {
                #(
                    if value.typename == <#messages as ::satchel_sdk::Typed>::TYPENAME {
                        return <#messages as ::satchel_sdk::Message>::from_typed_value(value)
                            .map(Self::#names);
                    }
                )*
                if ::satchel_sdk::derived::message::is_json(&value) {
                    #from_json
                }
                ::core::result::Result::Err(::satchel_sdk::MessageError::UnknownTypename {
                    found: value.typename,
                    expected: <Self as ::satchel_sdk::Message>::typenames(),
                })
            }
        }

        const _: () = ::satchel_sdk::derived::message::assert_distinct(&[
            #(<#messages as ::satchel_sdk::Typed>::TYPENAME),*
        ]);
    })
}

/// Decoding of JSON of no declared type as one of the variants.
fn untyped_json(input: &DeriveInput, variants: &[Variant<'_>]) -> Result<TokenStream> {
    let mut marked = variants.iter().filter(|variant| variant.takes_json);
    match (marked.next(), marked.next()) {
        (Some(_), Some(_)) => Err(Error::new_spanned(
            &input.ident,
            "only one variant can take JSON of no declared type",
        )),
        (Some(Variant { name, message, .. }), None) => Ok(quote! {
            return <#message as ::satchel_sdk::Message>::from_typed_value(value).map(Self::#name);
        }),
        (None, _) => {
            let names = variants.iter().map(|variant| variant.name);
            let messages: Vec<_> = variants.iter().map(|variant| variant.message).collect();
            Ok(quote! {
                let mut trial = ::satchel_sdk::derived::message::JsonTrial::default();
                #(
                    trial.note(
                        <#messages as ::satchel_sdk::Typed>::TYPENAME,
                        <#messages as ::satchel_sdk::Typed>::from_json(&value.value)
                            .map(|read| read.map(Self::#names)),
                    );
                )*
                return trial.finish();
            })
        }
    }
}
