//! Order fulfilment as a user runs it: the real `satchel dev`, a real handler process, kills.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use reqwest::Method;
use satchel_testkit::{Client, Dev, Setup, example, until_true};
use serde_json::{Value, json};

/// The README's example, and the shipment of both items.
#[tokio::test]
async fn an_order_goes_from_creation_to_shipment_over_kills() {
    let mut app = Setup::of(example("order-fulfilment")).start().await;
    happens(&app.client, "o-1", created(&json!({"mug": 2, "spoon": 1}))).await;
    until_status(&app.client, "o-1", "AwaitingPayment").await;
    assert_eq!(
        timers(&app.client).await,
        1,
        "the order waits for its payment"
    );

    kill_and_restart(&mut app).await;
    assert_eq!(timers(&app.client).await, 1, "and still waits");
    happens(&app.client, "o-1", paid()).await;
    until_status(&app.client, "o-1", "Shipping").await;
    assert_eq!(
        timers(&app.client).await,
        0,
        "the payment cancels the timeout"
    );

    kill_and_restart(&mut app).await;
    happens(&app.client, "o-1", shipped("mug")).await;
    kill_and_restart(&mut app).await;
    happens(&app.client, "o-1", shipped("spoon")).await;
    until_status(&app.client, "o-1", "Shipped").await;

    let told = app.client.records_when("fulfilment", 4).await;
    let of = |key: &str| -> Vec<Value> {
        let records = told.iter().filter(|record| record.key == key);
        records.map(satchel_testkit::Record::json).collect()
    };
    assert_eq!(
        of("o-1"),
        [
            json!({"type": "OrderConfirmed", "order": "o-1"}),
            json!({"type": "ShipmentInitiated", "order": "o-1", "items": {"mug": 2, "spoon": 1}}),
        ]
    );
    assert_eq!(
        of("mug"),
        [json!({"type": "InventoryUpdated", "item": "mug", "stock": 98})]
    );
    assert_eq!(
        of("spoon"),
        [json!({"type": "InventoryUpdated", "item": "spoon", "stock": 99})]
    );
    ends_well(&mut app).await;
}

#[tokio::test]
async fn events_out_of_order_and_twice_end_the_same() {
    let mut app = Setup::of(example("order-fulfilment")).start().await;
    let events = [shipped("mug"), paid(), created(&json!({"mug": 3})), paid()];
    for round in 0..2 {
        for event in &events {
            happens(&app.client, "o-2", event.clone()).await;
        }
        if round == 0 {
            kill_and_restart(&mut app).await;
        }
    }
    until_status(&app.client, "o-2", "Shipped").await;
    // All repeated events were read before this one, so their effects, if they had any, would be
    // emitted before those of this one.
    happens(&app.client, "o-3", shipped("spoon")).await;
    until_true("the last event was read", async || {
        view(&app.client, "o-3").await["items"]["spoon"]["shipped"] == true
    })
    .await;
    assert_eq!(status(&app.client, "o-2").await, "Shipped");
    happens(&app.client, "o-3", paid()).await;
    happens(&app.client, "o-3", created(&json!({"spoon": 1}))).await;
    until_status(&app.client, "o-3", "Shipped").await;
    let told = app.client.records_when("fulfilment", 6).await;
    let mut told: Vec<Value> = told.iter().map(satchel_testkit::Record::json).collect();
    told.sort_by_key(Value::to_string);
    assert_eq!(
        told,
        [
            json!({"type": "InventoryUpdated", "item": "mug", "stock": 97}),
            json!({"type": "InventoryUpdated", "item": "spoon", "stock": 99}),
            json!({"type": "ShipmentInitiated", "order": "o-2", "items": {"mug": 3}}),
            json!({"type": "ShipmentInitiated", "order": "o-3", "items": {"spoon": 1}}),
            json!({"type": "OrderConfirmed", "order": "o-2"}),
            json!({"type": "OrderConfirmed", "order": "o-3"}),
        ]
    );
    ends_well(&mut app).await;
}

/// The timeout falls due while no process runs.
#[tokio::test]
async fn an_order_that_is_not_paid_in_time_is_cancelled_and_a_late_payment_refunded() {
    let mut app = Setup::of(example("order-fulfilment"))
        .env("PAYMENT_TIMEOUT", "2s")
        .start()
        .await;
    happens(&app.client, "o-4", created(&json!({"mug": 1}))).await;
    until_true("the order is there", async || {
        status(&app.client, "o-4").await != "Unknown"
    })
    .await;
    app.kill9().await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    app.restart().await;
    until_status(&app.client, "o-4", "Cancelled").await;
    happens(&app.client, "o-4", paid()).await;
    let told = app.client.records_when("fulfilment", 2).await;
    assert_eq!(
        [told[0].json(), told[1].json()],
        [
            json!({"type": "OrderCancelled", "order": "o-4"}),
            json!({"type": "RefundDue", "order": "o-4", "amount_cents": 2100}),
        ]
    );
    ends_well(&mut app).await;
}

#[tokio::test]
async fn orders_wait_for_stock_in_turn_over_a_kill() {
    let mut app = Setup::of(example("order-fulfilment"))
        .env("INITIAL_STOCK", "1")
        .start()
        .await;
    for order in ["first", "second", "third"] {
        happens(&app.client, order, paid()).await;
        happens(&app.client, order, created(&json!({"mug": 1}))).await;
        until_true("the order asks for its items", async || {
            let status = status(&app.client, order).await;
            ["Confirmed", "Shipping"].contains(&status.as_str())
        })
        .await;
    }
    until_status(&app.client, "first", "Shipping").await;
    kill_and_restart(&mut app).await;
    assert_eq!(status(&app.client, "second").await, "Confirmed");
    counted(&app.client, 1).await;
    until_status(&app.client, "second", "Shipping").await;
    assert_eq!(status(&app.client, "third").await, "Confirmed");
    kill_and_restart(&mut app).await;
    counted(&app.client, 7).await;
    until_status(&app.client, "third", "Shipping").await;
    let stock = app.client.address("orders/inventory/mug").await.json();
    assert!(stock.to_string().contains(r#"{"left":6}"#), "{stock}");
    ends_well(&mut app).await;
}

/// The function rejects the message for good, so it is given up at the first attempt.
#[tokio::test]
async fn an_order_without_items_becomes_a_dead_letter_and_the_order_continues() {
    let mut app = Setup::of(example("order-fulfilment")).start().await;
    happens(&app.client, "o-5", paid()).await;
    happens(&app.client, "o-5", created(&json!({}))).await;
    happens(&app.client, "o-5", created(&json!({"mug": 1}))).await;
    until_status(&app.client, "o-5", "Shipping").await;
    kill_and_restart(&mut app).await;
    let dead_letters = app.client.dead_letters().await;
    assert_eq!(dead_letters.len(), 1, "{dead_letters:?}");
    let dead = &dead_letters[0];
    assert_eq!(dead["address"], "orders/order/o-5");
    assert_eq!(dead["message"], created(&json!({})));
    assert_eq!(dead["attempts"], 1);
    assert!(
        dead["reason"]
            .as_str()
            .unwrap()
            .contains("an order has items, at least one of each"),
        "{dead}"
    );
    let id = dead["id"].as_str().unwrap();
    assert_eq!(app.client.drop_dead_letter(id).await.status, 200);
    kill_and_restart(&mut app).await;
    assert_eq!(app.client.dead_letters().await, Vec::<Value>::new());
    ends_well(&mut app).await;
}

fn created(items: &Value) -> Value {
    json!({"type": "OrderCreated", "items": items})
}

fn paid() -> Value {
    json!({"type": "PaymentReceived", "amount_cents": 2100})
}

fn shipped(item: &str) -> Value {
    json!({"type": "ItemShipped", "item": item})
}

async fn happens(client: &Client, order: &str, event: Value) {
    client.put("order-events", order, event.to_string()).await;
}

async fn counted(client: &Client, stock: u32) {
    let count = json!({ "stock": stock }).to_string();
    client.put("stock-counts", "mug", count).await;
}

/// Asks the order for its state.
async fn view(client: &Client, order: &str) -> Value {
    let call = client
        .to_call(&format!("orders/order/{order}"))
        .value("orders/get", "{}")
        .timeout("110s");
    let reply = call.send().await.unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.typename.as_deref(), Some("orders/view"));
    reply.json()
}

async fn status(client: &Client, order: &str) -> String {
    let view = view(client, order).await;
    view["status"].as_str().unwrap().to_owned()
}

async fn until_status(client: &Client, order: &str, wanted: &str) {
    until_true(&format!("{order} is {wanted}"), async || {
        status(client, order).await == wanted
    })
    .await;
}

async fn timers(client: &Client) -> usize {
    let timers = client.admin(Method::GET, "/api/timers").await.json();
    timers["timers"].as_array().unwrap().len()
}

async fn kill_and_restart(app: &mut Dev) {
    app.kill9().await;
    app.restart().await;
}

async fn ends_well(app: &mut Dev) {
    let ended = app.terminate().await;
    assert_eq!(ended.code, Some(0), "{}", ended.printed);
}
