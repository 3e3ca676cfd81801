//! The functions of an application, and the serving of a batch for one of them.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;

use satchel_protocol::bundle::{BatchError, Terminal};
use satchel_protocol::declaration::fingerprint;
use satchel_protocol::reqreply::from_function::{
    IncompleteInvocationContext, PersistedValueSpec, Response,
};
use satchel_protocol::reqreply::to_function::{InvocationBatchRequest, Request};
use satchel_protocol::reqreply::{FromFunction, ToFunction};

use crate::address::{Address, FunctionType};
use crate::function::{AsyncFunction, FromAsync, Function};
use crate::message::MessageError;
use crate::state::{State, StoredValues, ValueSpec};
use crate::terminal::TerminalError;
use crate::{Context, Message};

/// HTTP status for a caller whose message the function cannot decode.
const UNDECODABLE_CODE: u16 = 400;

/// HTTP status for a caller whose message is for a function that is not bound.
const UNKNOWN_FUNCTION_CODE: u16 = 404;

/// The functions that a handler serves, by type.
///
/// Needs no particular async runtime. [`handle`](Self::handle) answers one batch; its driver (the
/// crate `satchel-function-handler`, a test, an embedding program) does the rest.
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
    /// Fingerprint of `specs`.
    declaration: u64,
}

impl Functions {
    /// An empty set of functions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves an `async fn(&mut Context<S>, M) -> Result<R, E>` as `function_type`: a
    /// [`FunctionType`] or a literal `namespace/name`.
    ///
    /// `R` is `()`, or the reply to the caller: a [`Message`], or an `Option` of one.
    ///
    /// ```
    /// use satchel_sdk::{Context, Functions, Result};
    ///
    /// async fn greet(_: &mut Context, name: String) -> Result<String> {
    ///     Ok(format!("Hello {name}"))
    /// }
    ///
    /// let functions = Functions::new().bind("example/greeter", greet);
    /// # let _ = functions;
    /// ```
    ///
    /// A returned reply is sent after all other effects of the invocation. Without a caller,
    /// nothing is sent, which is no error. A message has one reply: returning one after
    /// [`Context::reply`] fails the invocation.
    ///
    /// A function that sends a message is its caller too, whether it asks or only tells: a message
    /// does not say which. So a function that sends to this one gets the returned reply, and must
    /// be able to decode it. A function that others only tell something returns `()`, or replies
    /// with [`Context::reply`] to the [`caller`](Context::caller)s that expect it.
    ///
    /// # Panics
    ///
    /// When a literal has another form, or the type is bound already. Both are mistakes in the
    /// program, seen at its first start.
    #[must_use]
    pub fn bind<S, M, F>(self, function_type: impl Into<FunctionType>, function: F) -> Self
    where
        S: State,
        M: Message,
        F: for<'a> AsyncFunction<'a, S, M>,
    {
        self.bind_type(function_type, FromAsync::new(function))
    }

    /// Serves a type that implements [`Function`] as `function_type`: a [`FunctionType`] or a
    /// literal `namespace/name`.
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

    /// State declarations of a function. `None` if the function is not bound.
    pub fn state_specs(&self, function_type: &FunctionType) -> Option<&[ValueSpec]> {
        self.by_type.get(function_type).map(|bound| bound.specs())
    }

    /// Serves one batch: its invocations in order, over one state.
    ///
    /// If the request lacks a state that the function declares, the answer asks for it and no user
    /// code runs (StateFun's handshake). The same holds if the runtime asked for the function's
    /// declarations and does not know the present ones (see [`satchel_protocol::declaration`]).
    /// Dropping the future abandons the batch.
    ///
    /// # Errors
    ///
    /// Nothing of a failed batch takes effect. The kinds are:
    ///
    /// | Kind | Reason | Terminal |
    /// |---|---|---|
    /// | `invalid_request` | the request has no batch, or the batch no target | no |
    /// | `unknown_function` | no function of this type is bound | 404 |
    /// | `unknown_typename` | the function does not take messages of this typename | 400 |
    /// | `invalid_message` | the bytes of the message are not of its type | 400 |
    /// | `invalid_state` | a stored value is not of the declared type | no |
    /// | `function` | the function returned an error, or an effect has no wire form | no |
    /// | `terminal` | the function returned a [`TerminalError`] | its code |
    ///
    /// # Panics
    ///
    /// When the function panics.
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
        // Every message of the batch is rejected. The first is, and the others follow it.
        let terminal = Terminal {
            index: Some(0),
            code: UNKNOWN_FUNCTION_CODE,
            message: format!("there is no function {function_type}"),
        };
        let message = format!(
            "this handler has no function {function_type}; it has {}",
            known.join(", ")
        );
        BatchError {
            terminal: Some(terminal),
            ..error("unknown_function", message)
        }
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
        let specs = F::State::specs();
        let wire: Vec<_> = specs.iter().map(|spec| spec.to_wire()).collect();
        Self {
            function,
            specs,
            declaration: fingerprint(&wire),
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
        // A runtime without this extension lists nothing.
        let asked = !batch.declarations.is_empty();
        let is_known = batch.declarations.contains(&self.declaration);
        if !missing.is_empty() || (asked && !is_known) {
            return Ok(answer(Response::IncompleteInvocationContext(
                self.declare(missing, asked),
            )));
        }
        let state = F::State::load(&mut values)
            .map_err(|source| error("invalid_state", describe(&source)))?;

        let mut ctx = Context::new(target, state);
        let count = batch.invocations.len();
        for (index, invocation) in batch.invocations.into_iter().enumerate() {
            let position = Position { index, count };
            let message = ctx
                .begin::<F::Message>(index, invocation)
                .map_err(|source| position.undecodable(&source))?;
            self.function
                .invoke(&mut ctx, message)
                .await
                .and_then(|()| ctx.end())
                .map_err(|source| position.failed(source.as_ref()))?;
        }
        let mut response = ctx
            .finish()
            .map_err(|source| error("function", describe(&source)))?;
        if asked {
            response.declaration = self.declaration;
        }
        Ok(answer(Response::InvocationResult(response)))
    }

    /// The request for `missing` states, with all declarations if the runtime asked for them.
    fn declare(
        &self,
        missing_values: Vec<PersistedValueSpec>,
        asked: bool,
    ) -> IncompleteInvocationContext {
        if !asked {
            return IncompleteInvocationContext {
                missing_values,
                ..Default::default()
            };
        }
        IncompleteInvocationContext {
            missing_values,
            declaration: self.declaration,
            declared_values: self.specs.iter().map(|spec| spec.to_wire()).collect(),
        }
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

/// Position of the message of a batch that an error is about.
struct Position {
    index: usize,
    count: usize,
}

impl Position {
    /// The message could not be decoded, which no retry repairs.
    fn undecodable(&self, source: &MessageError) -> BatchError {
        let kind = match source {
            MessageError::UnknownTypename { .. } => "unknown_typename",
            _ => "invalid_message",
        };
        let text = describe(source);
        self.rejected(kind, &text, UNDECODABLE_CODE, text.clone())
    }

    /// The function returned an error.
    fn failed(&self, source: &(dyn std::error::Error + 'static)) -> BatchError {
        let text = describe(source);
        match TerminalError::find(source) {
            Some(found) => {
                let message = found.message().to_owned();
                self.rejected("terminal", &text, found.code(), message)
            }
            None => self.error("function", &text),
        }
    }

    /// The message is rejected for good. The first message of a batch is concluded by that, so its
    /// text stands alone, as that of a message that was sent alone does.
    fn rejected(&self, kind: &str, text: &str, code: u16, message: String) -> BatchError {
        let reported = if self.index == 0 {
            error(kind, text)
        } else {
            self.error(kind, text)
        };
        BatchError {
            terminal: Some(Terminal {
                index: u32::try_from(self.index).ok(),
                code,
                message,
            }),
            ..reported
        }
    }

    fn error(&self, kind: &str, message: &str) -> BatchError {
        if self.count == 1 {
            return error(kind, message);
        }
        let number = self.index + 1;
        error(
            kind,
            format!("message {number} of {}: {message}", self.count),
        )
    }
}

fn answer(response: Response) -> FromFunction {
    FromFunction {
        response: Some(response),
    }
}

fn error(kind: &str, message: impl Into<String>) -> BatchError {
    BatchError::new(kind, message)
}

/// Text of an error and its sources. A source whose text the error repeats is not added again.
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
