"""A terminal: runs a command in a pseudo terminal, and shows its screen on request.

  terminal.py COLUMNS ROWS COMMAND...

Takes one JSON object a line: {"keys": TEXT}, {"resize": [COLUMNS, ROWS]}, {"signal": NUMBER} or
{"show": true}. Answers each with one that has
  screen    the lines of the screen
  written   everything that the command wrote, one character for each byte
  ended     exit code of the command, negative for a signal; null while it runs
  cooked    true if the terminal has the modes with which the command was started
Kills the command at the end of its own input.
"""

import fcntl
import json
import os
import pty
import selectors
import struct
import subprocess
import sys
import termios

import pyte


def main():
    columns, rows, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    master, slave = pty.openpty()
    resize(master, columns, rows)
    before = termios.tcgetattr(slave)
    child = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
    screen = pyte.Screen(columns, rows)
    stream = pyte.ByteStream(screen)
    written = bytearray()
    selector = selectors.DefaultSelector()
    selector.register(master, selectors.EVENT_READ)
    selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
    rest = b""
    while True:
        ready = {key.fd for key, _ in selector.select()}
        if master in ready:
            data = os.read(master, 65536)
            written += data
            stream.feed(data)
            continue
        read = os.read(sys.stdin.fileno(), 65536)
        if not read:
            break
        *lines, rest = (rest + read).split(b"\n")
        for line in lines:
            asked = json.loads(line)
            if "keys" in asked:
                os.write(master, asked["keys"].encode())
            if "resize" in asked:
                resize(master, *asked["resize"])
                screen.resize(asked["resize"][1], asked["resize"][0])
            if "signal" in asked:
                child.send_signal(asked["signal"])
            answer = {
                "screen": [text.rstrip() for text in screen.display],
                "written": written.decode("latin-1"),
                "ended": child.poll(),
                "cooked": termios.tcgetattr(slave) == before,
            }
            print(json.dumps(answer), flush=True)
    child.kill()
    child.wait()


def resize(master, columns, rows):
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


main()
