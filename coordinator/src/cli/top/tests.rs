//! Whole screens, and the answers that they are made of.

use ratatui_core::backend::TestBackend;
use ratatui_core::buffer::Buffer;
use ratatui_core::style::Color;
use ratatui_core::terminal::Terminal;
use serde_json::{Value, json};
use termion::event::Key;

use super::app::{App, Effect, View};
use super::draw::{Theme, draw};
use super::plain;
use super::source::{Answer, Loaded, News, Unloaded, Wanted};

mod asking;

/// 03:04:05Z on the second day of 2026.
const NOW_MS: u64 = 1_767_323_045_000;

fn shop() -> Loaded {
    let failure = json!({"at": "2026-01-02T03:03:55Z", "kind": "unavailable",
        "message": "connection refused"});
    let endpoint = |name: &str, functions: &[&str], is_down: bool| {
        json!({
            "name": name, "kind": "http", "functions": functions,
            "state": if is_down { "down" } else { "up" },
            "since": is_down.then_some("2026-01-02T03:02:05Z"),
            "last_success": (!is_down).then_some("2026-01-02T03:04:02Z"),
            "last_failure": is_down.then(|| failure.clone()),
            "requests_in_flight": 3, "requests_max": 64, "batches_waiting": 41,
        })
    };
    let function = |name: &str, addresses: u64, backlog: u64, letters: u64| {
        json!({
            "function": name, "endpoint": "shop", "endpoint_state": "up", "addresses": addresses,
            "backlog": {"messages": backlog, "bytes": backlog * 100}, "in_flight": 1,
            "backing_off": 0, "suspended": 0, "dead_letters": letters,
            "states": [{"name": "total", "typename": "satchel/json"}], "stopped": null,
        })
    };
    let letter = |id: &str, reason: &str| {
        json!({
            "id": id, "address": "shop/order/alice", "source": "shop/order/bob",
            "typename": "satchel/json", "message": {"item": "pear"}, "attempts": 3,
            "reason": reason, "failed_at": "2026-01-02T03:00:05Z",
        })
    };
    let partition = |number: u64| {
        json!({
            "partition": number, "key_groups": [number * 512, number * 512 + 511], "sealed": 9,
            "durable": 8, "in_flight": 1, "pending_bytes": 2048, "outbox": 0, "timers": 5,
            "dead_letters": 1, "state_bytes": 3_000_000, "processed": 12_345,
            "sent_to_peers": 7, "taken_from_peers": 6, "peer_waiting_bytes": 0, "paused": false,
        })
    };
    let loaded = |value: Value| Answer::Loaded(value);
    Loaded {
        at_ms: NOW_MS - 1_000,
        process: loaded(json!({
            "application": "shop", "version": "0.1.0", "state": "serving",
            "uptime_seconds": 125, "partitions": 2, "spread": false,
        })),
        readiness: loaded(json!({"state": "serving", "unhealthy_endpoints": ["billing"]})),
        endpoints: loaded(json!([
            endpoint("billing", &["billing/invoice"], true),
            endpoint("shop", &["shop/order", "shop/stock"], false),
        ])),
        functions: loaded(json!([
            function("shop/order", 1_500, 12, 1),
            function("shop/stock", 3, 400, 1),
        ])),
        ingresses: loaded(json!([{
            "id": "shop/orders", "kind": "stream", "sources": ["orders"], "paused": null,
            "stopped": [], "received": 5_000, "lag_seconds": 2.5, "backlog_messages": null,
            "last_error": null,
        }])),
        egresses: loaded(json!([{
            "id": "shop/shipments", "waiting": 4, "stopped": null, "delivered": 996,
            "retried": 0, "refused": 0, "last_success": "2026-01-02T03:04:03Z",
            "last_error": null,
        }])),
        partitions: loaded(json!({"partitions": [partition(0), partition(1)]})),
        members: Answer::Absent,
        dead_letters: loaded(json!([
            letter("0a", "no such account"),
            letter("0b", "out of stock")
        ])),
    }
}

fn samples(count: u64) -> impl Iterator<Item = News> {
    (0..count).map(move |second| {
        News::Sample(json!({
            "at_ms": NOW_MS - (count - second) * 1_000, "state": "serving",
            "calls": second * 2, "sends": 0, "requests": second * second, "commits": second * 8,
            "processed": second * second * 10, "timers_fired": 0, "dead_letters_made": second / 9,
            "in_flight": 3, "pending_bytes": 4_096, "outbox": 4, "timers": 10, "dead_letters": 2,
            "state_bytes": 6_000_000, "paused": false, "lag_seconds": 2.5, "endpoints_down": 1,
        }))
    })
}

fn lists(loaded: Result<Loaded, Unloaded>) -> News {
    News::Lists(Box::new(loaded))
}

fn app() -> App {
    let mut app = App::new("http://127.0.0.1:8081".to_owned());
    app.take(lists(Ok(shop())));
    samples(20).for_each(|sample| app.take(sample));
    app
}

fn press(app: &mut App, keys: &str) -> Effect {
    let keys = keys.chars().map(Key::Char);
    keys.fold(Effect::Redraw, |_, key| app.press(key, NOW_MS))
}

fn drawn(app: &App, width: u16, height: u16, has_colours: bool) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let theme = Theme { has_colours };
    let drawn = terminal.draw(|frame| draw(app, theme, NOW_MS, frame.buffer_mut()));
    drawn.unwrap().buffer.clone()
}

/// The screen as text, without blanks at the ends of lines.
fn screen(app: &App, width: u16, height: u16) -> String {
    let buffer = drawn(app, width, height, true);
    let rows = buffer.content().chunks(usize::from(width));
    let lines = rows.map(|row| {
        let mut line = String::new();
        let mut hidden = 0;
        for cell in row {
            // The cell behind a wide character is no character.
            if hidden == 0 {
                line.push_str(cell.symbol());
                hidden = unicode_width::UnicodeWidthStr::width(cell.symbol());
            }
            hidden = hidden.saturating_sub(1);
        }
        line.trim_end().to_owned() + "\n"
    });
    lines.collect()
}

#[test]
fn the_overview_shows_what_needs_a_person_rates_and_what_runs_where() {
    assert_eq!(screen(&app(), 100, 30), include_str!("tests/overview.txt"));
}

#[test]
fn each_view_has_its_key() {
    let mut app = app();
    for (key, view, file) in [
        ("2", View::Functions, include_str!("tests/functions.txt")),
        ("3", View::Connectors, include_str!("tests/connectors.txt")),
        ("4", View::Partitions, include_str!("tests/partitions.txt")),
        (
            "5",
            View::DeadLetters,
            include_str!("tests/dead_letters.txt"),
        ),
    ] {
        assert_eq!(press(&mut app, key), Effect::Reload);
        assert_eq!(app.view, view);
        assert_eq!(screen(&app, 90, 20), file, "{view:?}");
    }
    assert_eq!(app.press(Key::Char('\t'), NOW_MS), Effect::Reload);
    assert_eq!(app.view, View::Overview);
    assert_eq!(app.press(Key::BackTab, NOW_MS), Effect::Reload);
    assert_eq!(app.view, View::DeadLetters);
    assert_eq!(press(&mut app, "?"), Effect::Redraw);
    assert_eq!(screen(&app, 90, 20), include_str!("tests/help.txt"));
    assert_eq!(press(&mut app, "x"), Effect::Redraw);
    assert!(!app.is_help);
    assert_eq!(press(&mut app, "q"), Effect::Quit);
    assert_eq!(app.press(Key::Ctrl('c'), NOW_MS), Effect::Quit);
}

#[test]
fn rows_are_sorted_filtered_and_selected() {
    let names = |app: &App| -> Vec<String> {
        let tables = app.tables(NOW_MS);
        let rows = tables[0].rows.iter();
        rows.map(|row| row.cells[0].text.clone()).collect()
    };
    let mut app = app();
    press(&mut app, "2");
    assert_eq!(names(&app), ["shop/order", "shop/stock"]);
    // Function, state, addresses, backlog: the largest first.
    press(&mut app, "ssss");
    assert_eq!(names(&app), ["shop/stock", "shop/order"]);
    assert!(screen(&app, 100, 20).contains("Backlog ▼"));
    press(&mut app, "r");
    assert_eq!(names(&app), ["shop/order", "shop/stock"]);
    assert!(screen(&app, 100, 20).contains("Backlog ▲"));
    press(&mut app, "jj");
    assert_eq!(app.choices().selected, 1);
    press(&mut app, "/sToq");
    assert_eq!(names(&app), [""; 0]);
    assert!(screen(&app, 40, 10).contains("\nfilter: sToq█\n"));
    assert!(screen(&app, 40, 10).contains("\nNone of 2 matches the filter.\n"));
    app.press(Key::Backspace, NOW_MS);
    app.press(Key::Char('\n'), NOW_MS);
    assert_eq!(names(&app), ["shop/stock"]);
    assert!(
        screen(&app, 100, 20)
            .ends_with("\nfilter: sTo · ? help · / filter · s sort · q end · loaded 03:04:04Z\n")
    );
    // Another view has choices of its own.
    press(&mut app, "5");
    assert_eq!(names(&app).len(), 2);
    press(&mut app, "2");
    app.press(Key::Esc, NOW_MS);
    assert_eq!(names(&app), ["shop/order", "shop/stock"]);
    // `q` is a letter while a filter is typed.
    assert_eq!(press(&mut app, "/q"), Effect::Redraw);
    assert_eq!(app.press(Key::Ctrl('c'), NOW_MS), Effect::Quit);
}

#[test]
fn small_windows_show_the_most_important_and_large_ones_everything() {
    assert_eq!(
        screen(&app(), 20, 5),
        "\
shop serving · Over…
!! Endpoint billing
Endpoint  State
billing   down for …
? help · / filter ·…
"
    );
    let mut all = app();
    let large = screen(&all, 300, 100);
    for text in [
        "Endpoint billing is down. Messages for its functions wait. See its last failure below.",
        "2 dead letters are kept. Correct the cause, then retry them; or drop them. (5)",
        "unavailable: connection refused",
        "shop/orders",
        "this process",
    ] {
        assert!(large.contains(text), "{text}\n{large}");
    }
    for view in "12345?".chars() {
        press(&mut all, &view.to_string());
        for (width, height) in [
            (1, 1),
            (1, 40),
            (2, 2),
            (3, 3),
            (200, 1),
            (19, 9),
            (500, 300),
        ] {
            let lines = screen(&all, width, height);
            assert_eq!(lines.lines().count(), usize::from(height));
        }
    }
}

#[test]
fn long_lists_scroll_to_the_selected_row() {
    let mut loaded = shop();
    let functions = (0..500).map(|at| json!({"function": format!("shop/f{at:03}")}));
    loaded.functions = Answer::Loaded(functions.collect());
    let mut app = app();
    app.take(lists(Ok(loaded)));
    press(&mut app, "2");
    assert!(screen(&app, 60, 12).contains("shop/f000"));
    press(&mut app, "G");
    let end = screen(&app, 60, 12);
    assert!(
        end.contains("shop/f499") && !end.contains("shop/f000"),
        "{end}"
    );
    app.press(Key::PageUp, NOW_MS);
    assert!(screen(&app, 60, 12).contains("shop/f489"));
    // A list that became shorter than the selection.
    app.take(lists(Ok(shop())));
    assert!(screen(&app, 60, 12).contains("shop/stock"));
    press(&mut app, "k");
    assert_eq!(app.choices().selected, 0);
}

#[test]
fn no_colours_means_none() {
    let colours = |app: &App, has_colours| {
        let buffer = drawn(app, 100, 30, has_colours);
        let cells = buffer.content().iter();
        let coloured = cells.filter(|it| it.fg != Color::Reset || it.bg != Color::Reset);
        coloured.count()
    };
    let mut app = app();
    for view in "12345".chars() {
        press(&mut app, &view.to_string());
        assert_eq!(colours(&app, false), 0);
    }
    press(&mut app, "1");
    assert!(colours(&app, true) > 100);
}

#[test]
fn what_was_loaded_stays_while_the_application_cannot_be_reached() {
    let mut app = app();
    let reason = "http://127.0.0.1:8081 cannot be reached: connection refused";
    app.take(lists(Err(Unloaded::Lost(reason.to_owned()))));
    app.take(News::Silent);
    let lost = screen(&app, 100, 30);
    assert!(lost.starts_with("shop unreachable · "), "{lost}");
    assert!(lost.contains("shop/orders"), "{lost}");
    assert!(
        lost.ends_with(&format!("\n!! {reason}. Trying again.\n")),
        "{lost}"
    );
    // It returns with counters that begin anew.
    app.take(lists(Ok(shop())));
    app.take(News::Sample(
        json!({"at_ms": NOW_MS + 9_000, "processed": 1, "calls": 0}),
    ));
    let back = screen(&app, 100, 30);
    assert!(back.starts_with("shop serving · "), "{back}");
    assert!(back.contains("Messages –"), "{back}");
    app.take(News::Sample(
        json!({"at_ms": NOW_MS + 10_000, "processed": 8, "calls": 0}),
    ));
    assert!(screen(&app, 100, 30).contains("Messages 7 /s"));
}

#[test]
fn lists_that_are_expensive_are_loaded_when_they_are_seen() {
    let mut app = app();
    let wanted = |functions, dead_letters| Wanted {
        functions,
        dead_letters,
    };
    assert_eq!(app.wanted(NOW_MS), wanted(false, false));
    assert_eq!(app.wanted(NOW_MS + 14_000), wanted(true, false));
    press(&mut app, "2");
    assert_eq!(app.wanted(NOW_MS), wanted(true, false));
    press(&mut app, "5");
    assert_eq!(app.wanted(NOW_MS), wanted(false, true));
    // What was not wanted stays as it was.
    let loaded = Loaded {
        functions: Answer::Absent,
        dead_letters: Answer::Absent,
        ..shop()
    };
    app.take(lists(Ok(loaded)));
    assert_eq!(app.loaded.dead_letters.entries().len(), 2);
    assert_eq!(app.loaded.functions.entries().len(), 2);
}

#[test]
fn answers_of_another_version_leave_gaps() {
    let odd = [
        json!({}),
        json!([]),
        json!(null),
        json!("text"),
        json!([1, null, [], "x"]),
    ];
    for value in odd
        .into_iter()
        .chain([json!([{"name": 5, "last_failure": {"at": 3}}])])
    {
        let answer = || Answer::Loaded(value.clone());
        let mut app = App::new("http://localhost".to_owned());
        app.take(lists(Ok(Loaded {
            at_ms: NOW_MS,
            process: answer(),
            readiness: answer(),
            endpoints: answer(),
            functions: answer(),
            ingresses: answer(),
            egresses: answer(),
            partitions: answer(),
            members: answer(),
            dead_letters: answer(),
        })));
        app.take(News::Sample(value.clone()));
        for view in "12345".chars() {
            press(&mut app, &view.to_string());
            assert!(screen(&app, 80, 24).starts_with("satchel –"), "{value}");
        }
        assert!(plain::text(&app, NOW_MS).starts_with("satchel: –, "));
    }
}

#[test]
fn a_standby_says_so_and_why_nothing_is_listed() {
    let refused =
        "this process is on standby; another one serves the application (standby, HTTP 503)";
    let failed = || Answer::Failed(refused.to_owned());
    let mut app = App::new("http://localhost".to_owned());
    app.take(lists(Ok(Loaded {
        readiness: Answer::Loaded(json!({"state": "standby"})),
        endpoints: failed(),
        functions: failed(),
        ingresses: failed(),
        partitions: failed(),
        ..shop()
    })));
    let shown = screen(&app, 120, 24);
    assert!(shown.starts_with("shop standby · "), "{shown}");
    for text in [
        "!  This process is on standby: another one serves the application. Ask the owner instead,",
        "\nEndpoints\nNot loaded: this process is on standby; another one serves",
    ] {
        assert!(shown.contains(text), "{text}\n{shown}");
    }
}

#[test]
fn a_snapshot_is_plain_text_with_whole_cells() {
    assert_eq!(plain::text(&app(), NOW_MS), include_str!("tests/once.txt"));
}
