//! Each function by itself, without any server.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::time::Duration;

use order_fulfilment::messages::{
    Fulfilment, GetOrder, Line, OrderEvent, OrderStatus, OrderView, PaymentTimeout, Reserve,
    Reserved, StockCounted,
};
use order_fulfilment::{Config, FULFILMENT, INVENTORY, ORDER, functions};
use satchel_sdk::egress::KinesisRecord;
use satchel_sdk::testing::{BatchScenario, Outcome};
use satchel_sdk::{Address, FunctionType};

const ORDER_1: &str = "orders/order/o-1";

fn asker() -> Address {
    FunctionType::new("satchel/call").id("1")
}

fn items() -> BTreeMap<String, u32> {
    BTreeMap::from([("mug".into(), 2), ("spoon".into(), 1)])
}

fn created() -> OrderEvent {
    OrderEvent::OrderCreated { items: items() }
}

fn paid() -> OrderEvent {
    OrderEvent::PaymentReceived { amount_cents: 2100 }
}

fn shipped(item: &str) -> OrderEvent {
    OrderEvent::ItemShipped { item: item.into() }
}

fn reserved(item: &str) -> Reserved {
    Reserved { item: item.into() }
}

fn confirmed() -> Fulfilment {
    Fulfilment::OrderConfirmed {
        order: "o-1".into(),
    }
}

fn shipment() -> Fulfilment {
    Fulfilment::ShipmentInitiated {
        order: "o-1".into(),
        items: items(),
    }
}

fn emitted(outcome: &Outcome<'_>) -> Vec<Fulfilment> {
    outcome
        .egressed()
        .iter()
        .map(|egressed| {
            assert_eq!(egressed.egress, FULFILMENT);
            let record: KinesisRecord = egressed.value.read();
            assert_eq!(record.stream(), "fulfilment");
            record.value_as_json().unwrap()
        })
        .collect()
}

fn reservations(outcome: &Outcome<'_>) -> Vec<(Address, Reserve)> {
    outcome
        .sent()
        .iter()
        .filter(|sent| sent.message.is::<Reserve>())
        .map(|sent| (sent.to.clone(), sent.message.read()))
        .collect()
}

fn both_reservations() -> Vec<(Address, Reserve)> {
    vec![
        (INVENTORY.id("mug"), Reserve { quantity: 2 }),
        (INVENTORY.id("spoon"), Reserve { quantity: 1 }),
    ]
}

async fn status(outcome: &Outcome<'_>) -> OrderStatus {
    let view = outcome
        .clone()
        .then()
        .message_from(&asker(), &GetOrder {})
        .run()
        .await
        .unwrap();
    view.messages_to::<OrderView>(&asker())[0].status
}

#[tokio::test]
async fn an_order_waits_for_its_payment_which_confirms_it_and_reserves_its_items() {
    let functions = functions(Config::default());
    let outcome = BatchScenario::new(&functions, ORDER_1)
        .message(&created())
        .run()
        .await
        .unwrap();
    assert_eq!(outcome.delayed().len(), 1);
    let timeout = &outcome.delayed()[0];
    assert_eq!(timeout.delay, Duration::from_secs(900));
    assert_eq!(timeout.to, ORDER.id("o-1"));
    assert_eq!(timeout.token.as_deref(), Some("payment-timeout"));
    assert_eq!(timeout.message.read::<PaymentTimeout>(), PaymentTimeout {});
    assert_eq!((emitted(&outcome), outcome.sent()), (vec![], &[][..]));
    assert_eq!(status(&outcome).await, OrderStatus::AwaitingPayment);

    let outcome = outcome.then().message(&paid()).run().await.unwrap();
    assert_eq!(outcome.cancelled(), ["payment-timeout"]);
    assert_eq!(emitted(&outcome), [confirmed()]);
    assert_eq!(reservations(&outcome), both_reservations());
    assert_eq!(status(&outcome).await, OrderStatus::Confirmed);
}

#[tokio::test]
async fn the_last_reservation_starts_the_shipment_and_the_last_item_ends_it() {
    let functions = functions(Config::default());
    let outcome = BatchScenario::new(&functions, ORDER_1)
        .message(&created())
        .message(&paid())
        .message_from(&INVENTORY.id("spoon"), &reserved("spoon"))
        .run()
        .await
        .unwrap();
    assert_eq!(emitted(&outcome), [confirmed()]);
    let outcome = outcome
        .then()
        .message_from(&INVENTORY.id("mug"), &reserved("mug"))
        .message(&shipped("mug"))
        .run()
        .await
        .unwrap();
    assert_eq!(emitted(&outcome), [shipment()]);
    assert_eq!(status(&outcome).await, OrderStatus::Shipping);
    let outcome = outcome
        .then()
        .message_from(&asker(), &shipped("spoon"))
        .run()
        .await
        .unwrap();
    let done = |quantity| Line {
        quantity,
        reserved: true,
        shipped: true,
    };
    assert_eq!(
        outcome.messages_to::<OrderView>(&asker()),
        [OrderView {
            status: OrderStatus::Shipped,
            items: BTreeMap::from([("mug".into(), done(2)), ("spoon".into(), done(1))]),
        }]
    );
}

#[tokio::test]
async fn events_end_the_same_in_every_order_and_twice() {
    let events = [created(), paid(), shipped("mug"), shipped("spoon")];
    let functions = functions(Config::default());
    for order in permutations(events.len()) {
        let mut scenario = BatchScenario::new(&functions, ORDER_1);
        for index in order.iter().chain(&order) {
            scenario = scenario.message(&events[*index]);
        }
        let outcome = scenario.run().await.unwrap();
        assert_eq!(emitted(&outcome), [confirmed()], "{order:?}");
        assert_eq!(reservations(&outcome), both_reservations(), "{order:?}");
        // Each timeout that was set was cancelled.
        assert_eq!(
            outcome.delayed().len(),
            outcome.cancelled().len(),
            "{order:?}"
        );
        let outcome = outcome
            .then()
            .message_from(&INVENTORY.id("mug"), &reserved("mug"))
            .message_from(&INVENTORY.id("spoon"), &reserved("spoon"))
            .run()
            .await
            .unwrap();
        assert_eq!(emitted(&outcome), [shipment()], "{order:?}");
        assert_eq!(status(&outcome).await, OrderStatus::Shipped, "{order:?}");
    }
}

fn permutations(count: usize) -> Vec<Vec<usize>> {
    (0..count).fold(vec![vec![]], |shorter, new| {
        shorter
            .iter()
            .flat_map(|permutation: &Vec<usize>| {
                (0..=permutation.len()).map(move |at| {
                    let mut longer = permutation.clone();
                    longer.insert(at, new);
                    longer
                })
            })
            .collect()
    })
}

#[tokio::test]
async fn an_order_that_is_not_paid_in_time_is_cancelled_and_a_late_payment_refunded_once() {
    let functions = functions(Config::default());
    let me = ORDER.id("o-1");
    let outcome = BatchScenario::new(&functions, ORDER_1)
        .message(&created())
        .message_from(&me, &PaymentTimeout {})
        .run()
        .await
        .unwrap();
    let order = "o-1".to_owned();
    assert_eq!(
        emitted(&outcome),
        [Fulfilment::OrderCancelled {
            order: order.clone()
        }]
    );
    let outcome = outcome
        .then()
        .message(&paid())
        .message(&paid())
        .message(&created())
        .run()
        .await
        .unwrap();
    assert_eq!(
        emitted(&outcome),
        [Fulfilment::RefundDue {
            order,
            amount_cents: 2100,
        }]
    );
    assert_eq!(outcome.sent(), []);
    assert_eq!(status(&outcome).await, OrderStatus::Cancelled);
}

#[tokio::test]
async fn a_timeout_that_crosses_the_payment_cancels_nothing() {
    let functions = functions(Config::default());
    let outcome = BatchScenario::new(&functions, ORDER_1)
        .message(&created())
        .message(&paid())
        .message_from(&ORDER.id("o-1"), &PaymentTimeout {})
        .run()
        .await
        .unwrap();
    assert_eq!(emitted(&outcome), [confirmed()]);
    assert_eq!(status(&outcome).await, OrderStatus::Confirmed);
}

#[tokio::test]
async fn an_order_without_items_is_rejected_for_good() {
    let functions = functions(Config::default());
    for items in [BTreeMap::new(), BTreeMap::from([("mug".to_owned(), 0)])] {
        let error = BatchScenario::new(&functions, ORDER_1)
            .message(&OrderEvent::OrderCreated { items })
            .run()
            .await
            .unwrap_err();
        assert_eq!(error.message, "an order has items, at least one of each");
        assert_eq!(error.terminal.map(|terminal| terminal.code), Some(400));
    }
}

#[tokio::test]
async fn an_item_is_reserved_first_come_first_served() {
    let functions = functions(Config {
        initial_stock: 3,
        ..Config::default()
    });
    let order = |id: &str| ORDER.id(id);
    let updated = |stock| Fulfilment::InventoryUpdated {
        item: "mug".into(),
        stock,
    };
    let outcome = BatchScenario::new(&functions, "orders/inventory/mug")
        .message_from(&order("o-1"), &Reserve { quantity: 2 })
        .message_from(&order("o-2"), &Reserve { quantity: 2 })
        .message_from(&order("o-3"), &Reserve { quantity: 1 })
        .run()
        .await
        .unwrap();
    // One is left, but the second order comes before the third.
    assert_eq!(emitted(&outcome), [updated(1)]);
    assert_eq!(
        outcome.messages_to::<Reserved>(&order("o-1")),
        [reserved("mug")]
    );
    assert_eq!(outcome.sent().len(), 1);

    let outcome = outcome
        .then()
        .message(&StockCounted { stock: 10 })
        .message(&StockCounted { stock: 7 })
        .run()
        .await
        .unwrap();
    // The second count equals the rest of the first one.
    assert_eq!(emitted(&outcome), [updated(7)]);
    let served: Vec<_> = outcome.sent().iter().map(|sent| sent.to.clone()).collect();
    assert_eq!(served, [order("o-2"), order("o-3")]);
    assert_eq!(outcome.cleared(), ["waiting"]);
}
