//! One item of the inventory: reserves stock for orders, first come, first served.

use std::collections::VecDeque;

use satchel_sdk::{Address, Context, Error, Function, Message, State, Value};
use serde::{Deserialize, Serialize};

use crate::emit;
use crate::messages::{Fulfilment, Reserve, Reserved, StockCounted};

/// The function with the stock at the start.
pub struct Inventory {
    initial_stock: u32,
}

/// Its messages.
#[derive(Debug, Message)]
pub enum InventoryMessage {
    /// Sent by an order.
    Reserve(Reserve),
    /// Sent by the stream, or by a caller outside.
    #[message(json)]
    StockCounted(StockCounted),
}

/// State of an item.
#[derive(State)]
pub struct Item {
    stock: Value<Stock>,
    waiting: Value<Waiting>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize, Message)]
#[message(typename = "orders/stock")]
struct Stock {
    left: u32,
}

/// Orders that wait for stock, in the order in which they asked.
#[derive(Debug, Clone, Default, Serialize, Deserialize, Message)]
#[message(typename = "orders/waiting")]
struct Waiting {
    orders: VecDeque<(Address, u32)>,
}

impl Inventory {
    /// Each item has `initial_stock` until the first count.
    pub fn new(initial_stock: u32) -> Self {
        Self { initial_stock }
    }

    fn left(&self, ctx: &Context<Item>) -> u32 {
        ctx.state
            .stock
            .get()
            .map_or(self.initial_stock, |stock| stock.left)
    }

    /// Serves waiting orders while the stock suffices for the first of them.
    fn serve(&self, ctx: &mut Context<Item>, mut left: u32) {
        let mut waiting = ctx.state.waiting.take().unwrap_or_default();
        let item = ctx.self_address().id().to_owned();
        while let Some((order, quantity)) = waiting.orders.front()
            && *quantity <= left
        {
            ctx.send(order, &Reserved { item: item.clone() });
            left -= quantity;
            waiting.orders.pop_front();
        }
        if !waiting.orders.is_empty() {
            ctx.state.waiting.set(waiting);
        }
        if left != self.left(ctx) {
            emit(ctx, &Fulfilment::InventoryUpdated { item, stock: left });
        }
        ctx.state.stock.set(Stock { left });
    }
}

impl Function for Inventory {
    type Message = InventoryMessage;
    type State = Item;

    async fn invoke(
        &self,
        ctx: &mut Context<Item>,
        message: InventoryMessage,
    ) -> Result<(), Error> {
        match message {
            InventoryMessage::Reserve(Reserve { quantity }) => {
                let order = ctx.caller().ok_or("only an order can reserve")?.clone();
                let waiting = ctx.state.waiting.get_mut_or_default();
                waiting.orders.push_back((order, quantity));
                let left = self.left(ctx);
                self.serve(ctx, left);
            }
            InventoryMessage::StockCounted(StockCounted { stock }) => self.serve(ctx, stock),
        }
        Ok(())
    }
}
