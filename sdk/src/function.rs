//! Handlers: a type, or an `async fn`.

use std::marker::PhantomData;

use satchel_protocol::reqreply::TypedValue;

use crate::{Context, Error, Message, MessageError, State};

/// A stateful function as a type, for functions that hold a client or a configuration.
///
/// ```
/// use satchel_sdk::{Context, Error, Function, Functions};
///
/// struct Echo { prefix: String }
///
/// impl Function for Echo {
///     type Message = String;
///     type State = ();
///
///     async fn invoke(&self, ctx: &mut Context, message: String) -> Result<(), Error> {
///         ctx.reply(&format!("{}{message}", self.prefix))?;
///         Ok(())
///     }
/// }
///
/// let functions = Functions::new().bind_type("example/echo", Echo { prefix: "> ".into() });
/// # let _ = functions;
/// ```
///
/// It replies with [`Context::reply`]. An `async fn` can return its reply as well; see
/// [`Functions::bind`](crate::Functions::bind).
pub trait Function: Send + Sync + 'static {
    /// Type of its messages.
    type Message: Message;

    /// State of each address.
    type State: State;

    /// Handles one message.
    ///
    /// # Errors
    ///
    /// An error fails the whole batch: nothing of the batch takes effect, and it is retried. The
    /// text of the error reaches the operator. A [`TerminalError`](crate::TerminalError) rejects
    /// this message for good instead.
    fn invoke(
        &self,
        ctx: &mut Context<Self::State>,
        message: Self::Message,
    ) -> impl Future<Output = Result<(), Error>> + Send;
}

/// Success value of an `async fn` handler: `()`, a reply, or an `Option` of a reply.
///
/// Implemented for `()`, for every [`Message`], and for `Option` of every `Message`. A bound, not
/// something to implement. A handler with a success value of another type does not compile:
///
/// ```compile_fail,E0277
/// use satchel_sdk::prelude::*;
///
/// struct Greeting(String); // without `#[derive(Message)]`
///
/// async fn greet(_: &mut Context, name: String) -> Result<Greeting> {
///     Ok(Greeting(name))
/// }
///
/// let functions = Functions::new().bind("example/greeter", greet);
/// ```
pub trait Reply: Send {
    /// Encodes the reply, if there is one.
    #[doc(hidden)]
    fn into_reply(self) -> Option<Result<TypedValue, MessageError>>;
}

impl Reply for () {
    fn into_reply(self) -> Option<Result<TypedValue, MessageError>> {
        None
    }
}

impl<M: Message> Reply for M {
    fn into_reply(self) -> Option<Result<TypedValue, MessageError>> {
        Some(self.to_typed_value())
    }
}

impl<M: Message> Reply for Option<M> {
    fn into_reply(self) -> Option<Result<TypedValue, MessageError>> {
        self.map(|message| message.to_typed_value())
    }
}

/// A stateful function as an `async fn(&mut Context<S>, M) -> Result<R, E>`.
///
/// Implemented for every such function whose `R` is a [`Reply`]. A bound, not something to
/// implement.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a stateful function",
    label = "not an `async fn(&mut Context<S>, M) -> Result<R, E>`",
    note = "a stateful function is an `async fn(ctx: &mut Context<S>, message: M) -> Result<R, E>`",
    note = "where `S: State`, `M: Message`, and `E` converts into `satchel_sdk::Error`",
    note = "`R` is `()`, or the reply: a message, or an `Option` of a message",
    note = "everything that it holds across an `.await` must be `Send`"
)]
pub trait AsyncFunction<'a, S: 'a, M>: Send + Sync + 'static {
    /// Type of its replies.
    type Reply: Reply;

    /// Type of its errors.
    type Error: Into<Error>;

    /// Future of one call.
    type Future: Future<Output = Result<Self::Reply, Self::Error>> + Send + 'a;

    /// Calls the function.
    fn call(&self, ctx: &'a mut Context<S>, message: M) -> Self::Future;
}

impl<'a, S, M, R, E, F, Fut> AsyncFunction<'a, S, M> for F
where
    S: 'a,
    R: Reply,
    E: Into<Error>,
    F: Fn(&'a mut Context<S>, M) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, E>> + Send + 'a,
{
    type Reply = R;
    type Error = E;
    type Future = Fut;

    fn call(&self, ctx: &'a mut Context<S>, message: M) -> Fut {
        self(ctx, message)
    }
}

/// An `async fn` as a [`Function`].
pub(crate) struct FromAsync<F, S, M> {
    function: F,
    types: PhantomData<fn(S, M)>,
}

impl<F, S, M> FromAsync<F, S, M> {
    pub(crate) fn new(function: F) -> Self {
        Self {
            function,
            types: PhantomData,
        }
    }
}

impl<F, S, M> Function for FromAsync<F, S, M>
where
    F: for<'a> AsyncFunction<'a, S, M>,
    S: State,
    M: Message,
{
    type Message = M;
    type State = S;

    async fn invoke(&self, ctx: &mut Context<S>, message: M) -> Result<(), Error> {
        let is_called = ctx.caller().is_some();
        let returned = self.function.call(ctx, message).await.map_err(Into::into)?;
        if is_called && let Some(reply) = returned.into_reply() {
            ctx.reply_returned(reply?)?;
        }
        Ok(())
    }
}
