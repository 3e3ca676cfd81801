//! The functions of an application, and how a batch for one of them is served.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;

use satchel_protocol::bundle::BatchError;
use satchel_protocol::reqreply::from_function::{IncompleteInvocationContext, Response};
use satchel_protocol::reqreply::to_function::{InvocationBatchRequest, Request};
use satchel_protocol::reqreply::{FromFunction, ToFunction};

use crate::address::{Address, FunctionType};
use crate::function::{AsyncFunction, FromAsync, Function};
use crate::message::MessageError;
use crate::state::{State, StoredValues, ValueSpec};
use crate::{Context, Message};

/// The functions that a handler serves, by type.
///
/// Needs no particular async runtime: [`handle`](Self::handle) answers one batch, and whoever drives it (the crate
/// `satchel-function-handler`, a test, an embedding program) does the rest.
#[derive(Default)]
pub struct Functions {
    by_type: HashMap<FunctionType, Box<dyn Serve>>,
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<FromFunction, BatchError>> + Send + 'a>>;

/// A bound function, with its types erased.
trait Serve: Send + Sync {
    fn serve(&self, target: Address, batch: InvocationBatchRequest) -> Answer<'_>;
    fn specs(&self) -> &[ValueSpec];
}

struct Bound<F> {
    function: F,
    specs: Vec<ValueSpec>,
}

impl Functions {
    /// No functions yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves `function`, an `async fn(&mut Context<S>, M) -> Result<(), E>`, as `function_type`: a [`FunctionType`] or a literal `namespace/name`.
    ///
    /// # Panics
    ///
    /// When a literal is not of that form, or the type is bound already: mistakes in the program, seen at its first start.
    #[must_use]
    pub fn bind<S, M, F>(self, function_type: impl Into<FunctionType>, function: F) -> Self
    where
        S: State,
        M: Message,
        F: for<'a> AsyncFunction<'a, S, M>,
    {
        self.bind_type(function_type, FromAsync::new(function))
    }

    /// Serves `function`, a type that implements [`Function`], as `function_type`: a [`FunctionType`] or a literal `namespace/name`.
    ///
    /// # Panics
    ///
    /// As [`bind`](Self::bind).
    #[must_use]
    pub fn bind_type(
        mut self,
        function_type: impl Into<FunctionType>,
        function: impl Function,
    ) -> Self {
        let function_type = function_type.into();
        let bound = Bound::new(function);
        let before = self.by_type.insert(function_type.clone(), Box::new(bound));
        assert!(
            before.is_none(),
            "{function_type} is bound to two functions"
        );
        self
    }

    /// The bound function types, sorted.
    pub fn function_types(&self) -> Vec<&FunctionType> {
        let mut types: Vec<_> = self.by_type.keys().collect();
        types.sort();
        types
    }

    /// What a function declares of its state; `None` if it is not bound.
    pub fn state_specs(&self, function_type: &FunctionType) -> Option<&[ValueSpec]> {
        self.by_type.get(function_type).map(|bound| bound.specs())
    }

    /// Serves one batch: its invocations in order, over one state.
    ///
    /// When the request lacks a state that the function declares, the answer asks for it and no user code runs (StateFun's handshake).
    /// Dropping the future gives the batch up.
    ///
    /// # Errors
    ///
    /// Nothing of a failed batch takes effect. Kinds: `invalid_request` (no batch, or no target), `unknown_function`,
    /// `unknown_typename`, `invalid_message`, `invalid_state`, `function` (the function returned an error, or did something that has no wire form).
    ///
    /// # Panics
    ///
    /// When the function does.
    pub async fn handle(&self, request: ToFunction) -> Result<FromFunction, BatchError> {
        let Some(Request::Invocation(mut batch)) = request.request else {
            return Err(error("invalid_request", "the request holds no batch"));
        };
        let Some(target) = batch.target.take() else {
            return Err(error("invalid_request", "the batch has no target"));
        };
        let target = Address::from_wire(target);
        match self.by_type.get(target.function_type()) {
            Some(function) => function.serve(target, batch).await,
            None => Err(self.unknown(target.function_type())),
        }
    }

    fn unknown(&self, function_type: &FunctionType) -> BatchError {
        let known: Vec<_> = self
            .function_types()
            .iter()
            .map(ToString::to_string)
            .collect();
        error(
            "unknown_function",
            format!(
                "this handler has no function {function_type}; it has {}",
                known.join(", ")
            ),
        )
    }
}

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Functions")
            .field(&self.function_types())
            .finish()
    }
}

impl<F: Function> Bound<F> {
    fn new(function: F) -> Self {
        Self {
            function,
            specs: F::State::specs(),
        }
    }

    async fn run(
        &self,
        target: Address,
        batch: InvocationBatchRequest,
    ) -> Result<FromFunction, BatchError> {
        let mut values = StoredValues::from_wire(batch.state);
        let missing: Vec<_> = self
            .specs
            .iter()
            .filter(|spec| !values.knows(spec.name))
            .map(|spec| spec.to_wire())
            .collect();
        if !missing.is_empty() {
            return Ok(answer(Response::IncompleteInvocationContext(
                IncompleteInvocationContext {
                    missing_values: missing,
                },
            )));
        }
        let state = F::State::load(&mut values)
            .map_err(|source| error("invalid_state", describe(&source)))?;

        let mut ctx = Context::new(target, state);
        let count = batch.invocations.len();
        for (index, invocation) in batch.invocations.into_iter().enumerate() {
            let which = Which { index, count };
            let message = ctx
                .begin::<F::Message>(index, invocation)
                .map_err(|source| which.error(kind_of(&source), &describe(&source)))?;
            self.function
                .invoke(&mut ctx, message)
                .await
                .and_then(|()| ctx.end())
                .map_err(|source| which.error("function", &describe(source.as_ref())))?;
        }
        ctx.finish()
            .map(|response| answer(Response::InvocationResult(response)))
            .map_err(|source| error("function", describe(&source)))
    }
}

impl<F: Function> Serve for Bound<F> {
    fn serve(&self, target: Address, batch: InvocationBatchRequest) -> Answer<'_> {
        Box::pin(self.run(target, batch))
    }

    fn specs(&self) -> &[ValueSpec] {
        &self.specs
    }
}

/// Which message of a batch an error is about.
struct Which {
    index: usize,
    count: usize,
}

impl Which {
    fn error(&self, kind: &str, message: &str) -> BatchError {
        if self.count == 1 {
            error(kind, message)
        } else {
            error(
                kind,
                format!("message {} of {}: {message}", self.index + 1, self.count),
            )
        }
    }
}

fn answer(response: Response) -> FromFunction {
    FromFunction {
        response: Some(response),
    }
}

fn error(kind: &str, message: impl Into<String>) -> BatchError {
    BatchError {
        kind: kind.to_owned(),
        message: message.into(),
    }
}

fn kind_of(error: &MessageError) -> &'static str {
    match error {
        MessageError::UnknownTypename { .. } => "unknown_typename",
        _ => "invalid_message",
    }
}

/// An error with its causes, each told once, even where an error repeats its cause in its own words.
fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let also = error.to_string();
        if !text.contains(&also) {
            text.push_str(": ");
            text.push_str(&also);
        }
        cause = error.source();
    }
    text
}
