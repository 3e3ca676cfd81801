//! What a function is.

use std::marker::PhantomData;

use crate::{Context, Error, Message, State};

/// A stateful function as a type: for functions that hold something, such as a client or a configuration.
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
pub trait Function: Send + Sync + 'static {
    /// What it takes.
    type Message: Message;

    /// What it remembers per address.
    type State: State;

    /// Handles one message.
    ///
    /// # Errors
    ///
    /// An error fails the whole batch: nothing of it takes effect, and it is tried again. What the error says reaches the operator.
    fn invoke(
        &self,
        ctx: &mut Context<Self::State>,
        message: Self::Message,
    ) -> impl Future<Output = Result<(), Error>> + Send;
}

/// A stateful function as an `async fn(&mut Context<S>, M) -> Result<(), E>`.
///
/// Implemented for every such function; a bound, not something to implement.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a stateful function",
    note = "a stateful function is an `async fn(ctx: &mut Context<S>, message: M) -> Result<(), E>`, where `S: State`, `M: Message`, and `E` converts into `satchel_sdk::Error`",
    note = "what it holds over an `.await` must be `Send`"
)]
pub trait AsyncFunction<'a, S: 'a, M>: Send + Sync + 'static {
    /// What its errors are.
    type Error: Into<Error>;

    /// What it returns when called.
    type Future: Future<Output = Result<(), Self::Error>> + Send + 'a;

    /// Calls it.
    fn call(&self, ctx: &'a mut Context<S>, message: M) -> Self::Future;
}

impl<'a, S, M, E, F, Fut> AsyncFunction<'a, S, M> for F
where
    S: 'a,
    E: Into<Error>,
    F: Fn(&'a mut Context<S>, M) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), E>> + Send + 'a,
{
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
        self.function.call(ctx, message).await.map_err(Into::into)
    }
}
