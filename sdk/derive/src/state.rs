//! `#[derive(State)]`.

use std::collections::HashSet;

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Data, DeriveInput, Error, Field, Fields, Ident, LitStr, Result, Type};

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &input.generics,
            "a state struct is not generic",
        ));
    }
    let values = values(input)?;
    let name = &input.ident;
    let fields: Vec<_> = values.iter().map(|value| value.field).collect();
    let types: Vec<_> = values.iter().map(|value| value.r#type).collect();
    let names: Vec<_> = values.iter().map(|value| &value.name).collect();
    let expirations: Vec<_> = values.iter().map(|value| &value.expiration).collect();
    let locals: Vec<_> = fields
        .iter()
        .map(|field| format_ident!("value_{}", field.to_string().trim_start_matches("r#")))
        .collect();
    Ok(quote! {
        #[automatically_derived]
        impl ::satchel_sdk::State for #name {
            fn specs() -> ::std::vec::Vec<::satchel_sdk::ValueSpec> {
                ::std::vec![#(
                    <#types as ::satchel_sdk::derived::state::Field>::spec(#names, #expirations)
                ),*]
            }

            fn load(
                values: &mut ::satchel_sdk::StoredValues,
            ) -> ::core::result::Result<Self, ::satchel_sdk::StateError> {
                #(
                    let #locals = <#types as ::satchel_sdk::derived::state::Field>::load(
                        <#types as ::satchel_sdk::derived::state::Field>::spec(
                            #names,
                            #expirations,
                        ),
                        values,
                    )?;
                )*
                ::core::result::Result::Ok(Self { #(#fields: #locals),* })
            }

            fn changes(
                &self,
                changes: &mut ::satchel_sdk::Changes,
            ) -> ::core::result::Result<(), ::satchel_sdk::StateError> {
                #(::satchel_sdk::derived::state::Field::changes(&self.#fields, changes)?;)*
                ::core::result::Result::Ok(())
            }
        }
    })
}

struct Value<'a> {
    field: &'a Ident,
    r#type: &'a Type,
    name: LitStr,
    expiration: TokenStream,
}

fn values(input: &DeriveInput) -> Result<Vec<Value<'_>>> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(&input.ident, "state is a struct"));
    };
    let Fields::Named(fields) = &data.fields else {
        return Err(Error::new_spanned(
            &input.ident,
            "state is a struct with named fields, each a `Value<T>`",
        ));
    };
    let mut names = HashSet::new();
    let mut values = Vec::new();
    for field in &fields.named {
        let value = value(field)?;
        if !names.insert(value.name.value()) {
            return Err(Error::new_spanned(
                field,
                format!("two states are named {:?}", value.name.value()),
            ));
        }
        values.push(value);
    }
    Ok(values)
}

fn value(field: &Field) -> Result<Value<'_>> {
    let ident = field
        .ident
        .as_ref()
        .ok_or_else(|| Error::new_spanned(field, "a state has a name"))?;
    let mut name = LitStr::new(ident.to_string().trim_start_matches("r#"), ident.span());
    let mut expiration = None;
    for attribute in &field.attrs {
        if !attribute.path().is_ident("state") {
            continue;
        }
        attribute.parse_nested_meta(|meta| {
            let mode = if meta.path.is_ident("name") {
                name = meta.value()?.parse()?;
                if name.value().is_empty() {
                    return Err(Error::new_spanned(&name, "a state's name is not empty"));
                }
                return Ok(());
            } else if meta.path.is_ident("expire_after_write") {
                quote!(AfterWrite)
            } else if meta.path.is_ident("expire_after_invoke") {
                quote!(AfterInvoke)
            } else {
                return Err(
                    meta.error("expected `name`, `expire_after_write` or `expire_after_invoke`")
                );
            };
            let after: LitStr = meta.value()?.parse()?;
            if expiration.is_some() {
                return Err(Error::new_spanned(after, "a state expires in one way only"));
            }
            expiration = Some(quote! {
                ::satchel_sdk::Expiration::#mode(
                    const { ::satchel_sdk::derived::state::duration_literal(#after) }
                )
            });
            Ok(())
        })?;
    }
    Ok(Value {
        field: ident,
        r#type: &field.ty,
        name,
        expiration: expiration.unwrap_or_else(|| quote!(::satchel_sdk::Expiration::Never)),
    })
}
