//! Orders and inventory together, in virtual time and without any server.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::time::Duration;

use order_fulfilment::messages::{
    Fulfilment, GetOrder, OrderEvent, OrderStatus, OrderView, StockCounted,
};
use order_fulfilment::{Config, FULFILMENT, INVENTORY, ORDER, functions};
use satchel_sdk::egress::KinesisRecord;
use satchel_sdk::testing::{CallError, Scenario};

const MINUTE: Duration = Duration::from_secs(60);

fn created(quantity: u32) -> OrderEvent {
    OrderEvent::OrderCreated {
        items: BTreeMap::from([("mug".into(), quantity)]),
    }
}

fn paid() -> OrderEvent {
    OrderEvent::PaymentReceived { amount_cents: 2100 }
}

fn shipped() -> OrderEvent {
    OrderEvent::ItemShipped { item: "mug".into() }
}

async fn status(app: &mut Scenario, order: &str) -> OrderStatus {
    let view: OrderView = app.call(ORDER.id(order), &GetOrder {}).await.unwrap();
    view.status
}

fn emitted(app: &Scenario) -> Vec<Fulfilment> {
    let records: Vec<KinesisRecord> = app.egress(FULFILMENT);
    let events = records.iter().map(|record| record.value_as_json().unwrap());
    events.collect()
}

fn application(initial_stock: u32) -> Scenario {
    Scenario::new(functions(Config {
        initial_stock,
        ..Config::default()
    }))
}

#[tokio::test]
async fn an_order_goes_from_creation_to_shipment() {
    let mut app = application(100);
    app.send(ORDER.id("o-1"), &created(2));
    app.run_to_rest().await.unwrap();
    assert_eq!(app.pending_timers()[0].due, 15 * MINUTE);

    app.advance(14 * MINUTE).await.unwrap();
    app.send(ORDER.id("o-1"), &paid());
    app.run_to_rest().await.unwrap();
    assert_eq!(app.pending_timers(), []);
    assert_eq!(status(&mut app, "o-1").await, OrderStatus::Shipping);

    app.send(ORDER.id("o-1"), &shipped());
    app.advance(60 * MINUTE).await.unwrap();
    assert_eq!(status(&mut app, "o-1").await, OrderStatus::Shipped);
    let order = || "o-1".to_owned();
    assert_eq!(
        emitted(&app),
        [
            Fulfilment::OrderConfirmed { order: order() },
            Fulfilment::InventoryUpdated {
                item: "mug".into(),
                stock: 98
            },
            Fulfilment::ShipmentInitiated {
                order: order(),
                items: BTreeMap::from([("mug".into(), 2)]),
            },
        ]
    );
}

#[tokio::test]
async fn an_unpaid_order_is_cancelled_after_its_timeout_and_takes_no_stock() {
    let mut app = application(1);
    app.send(ORDER.id("late"), &created(1));
    app.advance(15 * MINUTE).await.unwrap();
    app.send(ORDER.id("late"), &paid());
    app.send(ORDER.id("next"), &created(1));
    app.send(ORDER.id("next"), &paid());
    app.run_to_rest().await.unwrap();
    assert_eq!(status(&mut app, "late").await, OrderStatus::Cancelled);
    assert_eq!(status(&mut app, "next").await, OrderStatus::Shipping);
    let refunds = emitted(&app)
        .into_iter()
        .filter(|event| matches!(event, Fulfilment::RefundDue { .. }));
    assert_eq!(refunds.count(), 1);
}

#[tokio::test]
async fn orders_wait_for_stock_in_turn() {
    let mut app = application(1);
    for order in ["first", "second", "third"] {
        app.send(ORDER.id(order), &paid());
        app.send(ORDER.id(order), &created(1));
    }
    app.run_to_rest().await.unwrap();
    for (order, expected) in [
        ("first", OrderStatus::Shipping),
        ("second", OrderStatus::Confirmed),
        ("third", OrderStatus::Confirmed),
    ] {
        assert_eq!(status(&mut app, order).await, expected, "{order}");
    }
    app.send(INVENTORY.id("mug"), &StockCounted { stock: 1 });
    app.run_to_rest().await.unwrap();
    assert_eq!(status(&mut app, "second").await, OrderStatus::Shipping);
    assert_eq!(status(&mut app, "third").await, OrderStatus::Confirmed);
}

#[tokio::test]
async fn an_order_without_items_is_the_callers_mistake() {
    let mut app = application(1);
    let reply = app.call::<OrderView>(ORDER.id("o-1"), &created(0)).await;
    let Err(CallError::Rejected(error)) = reply else {
        panic!("{reply:?}")
    };
    assert_eq!(error.code(), 400);
    assert_eq!(status(&mut app, "o-1").await, OrderStatus::Unknown);
}
