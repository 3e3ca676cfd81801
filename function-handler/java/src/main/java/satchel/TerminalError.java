package satchel;

/**
 * Rejection of a message for good: the mistake lies in the message, so no retry can succeed.
 *
 * <p>The message changes no state, has no effects and is not retried. A caller that waits for a
 * reply gets the code as the HTTP status, and the message. Without such a caller, the message
 * becomes a dead letter. Any other exception is retried. An exception with a terminal error among
 * its causes is one too.
 */
public final class TerminalError extends RuntimeException {
  private final int code;

  /** A rejection with an HTTP status (400 to 499, or 500) and a text for the caller. */
  public TerminalError(int code, String message) {
    super(message);
    if (code < 400 || code > 500) {
      throw new IllegalArgumentException(
          "a terminal error has a code from 400 to 499, or 500, and not " + code);
    }
    this.code = code;
  }

  /** HTTP status for a caller that waits. */
  public int code() {
    return code;
  }

  /** Returns the terminal error among an exception and its causes, or null. */
  static TerminalError in(Throwable error) {
    for (int depth = 0; error != null && depth < 100; depth++, error = error.getCause()) {
      if (error instanceof TerminalError) {
        return (TerminalError) error;
      }
    }
    return null;
  }
}
