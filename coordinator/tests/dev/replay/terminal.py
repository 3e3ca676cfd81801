"""Runs a command in a pseudo terminal, and types what a session types at its prompts.

Standard input is a JSON list: the command, then lines of the session: `(Pdb) <what is typed>`, or
what must be printed before the next prompt. Exit code 1, with all output, if anything differs.
"""

import json
import os
import pty
import re
import select
import signal
import sys
import time

PROMPT = "(Pdb) "
LIMIT_SECONDS = 60

session = json.load(sys.stdin)
command, lines = session[0], session[1:]
pid, terminal = pty.fork()
if pid == 0:
    # Without control sequences around what is printed.
    os.environ["TERM"] = "dumb"
    os.execvp("bash", ["bash", "-c", "exec " + command])

output = ""


def fail(reason):
    os.kill(pid, signal.SIGKILL)
    print(f"{reason}; the session was:\n{output}")
    sys.exit(1)


def read_until(done):
    """Reads until the output after `begin` satisfies `done`, or ends."""
    global output
    begin, deadline = len(output), time.monotonic() + LIMIT_SECONDS
    while not done(output[begin:]):
        readable, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
        if not readable:
            fail("nothing more was printed")
        try:
            part = os.read(terminal, 65536)
        except OSError:
            # The terminal has no other side any more.
            return None
        if not part:
            return None
        output += part.decode(errors="replace").replace("\r\n", "\n")
    return output[begin:]


def at_prompt(text):
    return text.endswith(PROMPT)


if read_until(at_prompt) is None:
    fail("there was no prompt")
typed = [line[len(PROMPT):] for line in lines if line.startswith(PROMPT)]
expected = [[] for _ in typed]
index = -1
for line in lines:
    if line.startswith(PROMPT):
        index += 1
    else:
        expected[index].append(line)
for number, (text, wanted) in enumerate(zip(typed, expected)):
    os.write(terminal, (text + "\n").encode())
    last = number == len(typed) - 1
    printed = read_until((lambda _: False) if last else at_prompt) or output
    for line in wanted:
        if not re.search(rf"^{re.escape(line)}$", printed, re.MULTILINE):
            fail(f"{line!r} was not printed after {text!r}")
_, status = os.waitpid(pid, 0)
if not os.WIFEXITED(status):
    fail(f"the command ended with status {status}")
print(output)
