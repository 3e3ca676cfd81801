//! The terminal: entered, drawn to, and left as it was.

use std::io::{self, IsTerminal as _, Stdout, Write as _, stdin, stdout};
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::Duration;

use ratatui_core::terminal::Terminal;
use ratatui_termion::TermionBackend;
use termion::clear;
use termion::cursor::{Hide, Show};
use termion::event::Key;
use termion::input::{Keys, TermRead as _};
use termion::raw::{IntoRawMode as _, RawTerminal};
use termion::screen::{ToAlternateScreen, ToMainScreen};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::app::{App, Effect};
use super::draw::{Theme, draw};
use super::source::{News, Source, Wanted};
use crate::cli::signals::shutdown_signal;
use crate::clock::now_ms;
use crate::error::{Exit, Failure};

/// Interval at which ages on the screen are renewed.
const TICK: Duration = Duration::from_secs(1);

/// News and keys that wait.
const WAITING_MAX: usize = 16;

/// Modes of the terminal as it was found, while it has others. Dropping them brings them back.
/// Restoring twice would move the cursor back over what was printed in between.
static ENTERED: Mutex<Option<RawTerminal<Stdout>>> = Mutex::new(None);

/// Terminal in raw mode with its second screen. Dropping it restores the first one.
struct Screen {
    terminal: Terminal<TermionBackend<Stdout>>,
}

impl Screen {
    fn enter() -> io::Result<Self> {
        restore_on_panic();
        *entered() = Some(stdout().into_raw_mode()?);
        let screen = || {
            write!(stdout(), "{ToAlternateScreen}{}{Hide}", clear::All)?;
            stdout().flush()?;
            let terminal = Terminal::new(TermionBackend::new(stdout()))?;
            Ok(Self { terminal })
        };
        screen().inspect_err(|_| restore())
    }

    fn show(&mut self, app: &App, theme: Theme) -> io::Result<()> {
        self.terminal
            .draw(|frame| draw(app, theme, now_ms(), frame.buffer_mut()))?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

fn entered() -> MutexGuard<'static, Option<RawTerminal<Stdout>>> {
    ENTERED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Leaves the terminal as it was, as far as it can be reached.
fn restore() {
    let Some(modes) = entered().take() else {
        return;
    };
    let _ = write!(stdout(), "{Show}{ToMainScreen}");
    let _ = stdout().flush();
    drop(modes);
}

/// Lets a panic restore the terminal before its message is printed, which would be lost otherwise.
fn restore_on_panic() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            before(panic);
        }));
    });
}

/// Reads keys from the terminal, also where standard input is another file. The thread ends with
/// the process, or after the first key that is not taken.
fn read_keys() -> io::Result<mpsc::Receiver<io::Result<Key>>> {
    let (sender, keys) = mpsc::channel(WAITING_MAX);
    let read: Box<dyn FnOnce() + Send> = match stdin().is_terminal() {
        true => Box::new(move || send_keys(stdin().keys(), &sender)),
        false => {
            let terminal = termion::get_tty()?;
            Box::new(move || send_keys(terminal.keys(), &sender))
        }
    };
    thread::Builder::new().name("keys".to_owned()).spawn(read)?;
    Ok(keys)
}

fn send_keys<R: io::Read>(keys: Keys<R>, sender: &mpsc::Sender<io::Result<Key>>) {
    for key in keys {
        let is_last = key.is_err();
        if sender.blocking_send(key).is_err() || is_last {
            return;
        }
    }
}

/// Shows the application until a key or a signal ends it.
///
/// # Errors
///
/// The first load fails, or the terminal cannot be read or written.
pub(super) async fn run(source: &Source, interval: Duration) -> Result<(), Failure> {
    let failed = |error| Failure::caused(Exit::Environment, "the terminal", error);
    let shutdown = shutdown_signal()
        .map_err(|error| Failure::caused(Exit::Environment, "waiting for signals", error))?;
    let mut shutdown = pin!(shutdown);
    let mut app = App::new(source.url());
    let first = tokio::select! {
        first = source.load(app.wanted(now_ms())) => first?,
        () = &mut shutdown => return Ok(()),
    };
    app.take(News::Lists(Box::new(Ok(first))));
    let (sender, mut news) = mpsc::channel(WAITING_MAX);
    let (wish, wishes) = watch::channel(app.wanted(now_ms()));
    let mut screen = Screen::enter().map_err(failed)?;
    tokio::select! {
        shown = show(&mut screen, &mut app, &mut news, &wish) => shown.map_err(failed),
        () = &mut shutdown => Ok(()),
        () = load_again(source, interval, wishes, sender.clone()) => Ok(()),
        () = source.follow(sender) => Ok(()),
    }
}

/// Draws after each key and all news, until a key ends it.
async fn show(
    screen: &mut Screen,
    app: &mut App,
    news: &mut mpsc::Receiver<News>,
    wish: &watch::Sender<Wanted>,
) -> io::Result<()> {
    let theme = Theme::of_environment();
    let mut keys = read_keys()?;
    let mut resized = signal(SignalKind::window_change())?;
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        screen.show(app, theme)?;
        tokio::select! {
            key = keys.recv() => {
                // It ends where the terminal is gone.
                let key = key.ok_or(io::ErrorKind::UnexpectedEof)??;
                match app.press(key, now_ms()) {
                    Effect::Quit => return Ok(()),
                    Effect::Reload => drop(wish.send_replace(app.wanted(now_ms()))),
                    Effect::Redraw => {}
                }
            }
            // The window is measured when it is drawn.
            _ = resized.recv() => {}
            Some(one) = news.recv() => {
                app.take(one);
                // What came together is drawn together.
                while let Ok(more) = news.try_recv() {
                    app.take(more);
                }
                let wanted = app.wanted(now_ms());
                wish.send_if_modified(|wish| {
                    // For the next load, which this does not hasten.
                    *wish = wanted;
                    false
                });
            }
            _ = ticks.tick() => {}
        }
    }
}

/// Loads what is wanted, after each interval and at once on request.
async fn load_again(
    source: &Source,
    interval: Duration,
    mut wishes: watch::Receiver<Wanted>,
    news: mpsc::Sender<News>,
) {
    loop {
        tokio::select! {
            () = sleep(interval) => {}
            wished = wishes.changed() => if wished.is_err() {
                return;
            },
        }
        let wanted = *wishes.borrow_and_update();
        let lists = source.load(wanted).await;
        if news.send(News::Lists(Box::new(lists))).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    #[ignore = "the next test runs it in a terminal"]
    fn panics_in_a_terminal() {
        let _screen = Screen::enter().unwrap();
        panic!("on purpose");
    }

    #[test]
    fn a_panic_is_printed_on_the_restored_screen() {
        let in_a_terminal = "import pty, sys; pty.spawn(sys.argv[1:])";
        let output = Command::new("python3")
            .args(["-c", in_a_terminal])
            .arg(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture"])
            .arg("cli::top::screen::tests::panics_in_a_terminal")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let at = |text: &str| {
            printed
                .find(text)
                .unwrap_or_else(|| panic!("{text}: {printed:?}"))
        };
        let (entered, left) = (at("\u{1b}[?1049h"), at("\u{1b}[?1049l"));
        assert!(entered < left && left < at("on purpose"), "{printed:?}");
        assert!(at("\u{1b}[?25h") < at("on purpose"), "{printed:?}");
        assert_eq!(printed.matches("\u{1b}[?1049l").count(), 1, "{printed:?}");
    }
}
