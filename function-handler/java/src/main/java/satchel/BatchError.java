package satchel;

import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.charset.StandardCharsets;

/** Failure of one batch: the field {@code error} of its result. */
final class BatchError extends Exception {
  /** Maximum length of an error text, so that it cannot displace the results beside it. */
  static final int BYTES_MAX = 8 << 10;

  private final ObjectNode json = JsonNodeFactory.instance.objectNode();

  BatchError(String type, String message) {
    super(type + ": " + message);
    json.put("type", type);
    json.put("message", shortened(message));
  }

  /** Rejects a message for good. The position is -1 if it is not known. */
  static BatchError terminal(String type, String text, int index, int code, String message) {
    BatchError error = new BatchError(type, text);
    ObjectNode terminal = error.json.putObject("terminal");
    if (index >= 0) {
      terminal.put("index", index);
    }
    terminal.put("code", code);
    terminal.put("message", shortened(message));
    return error;
  }

  ObjectNode toJson() {
    return json;
  }

  private static String shortened(String text) {
    byte[] bytes = String.valueOf(text).getBytes(StandardCharsets.UTF_8);
    if (bytes.length <= BYTES_MAX) {
      return String.valueOf(text);
    }
    int end = BYTES_MAX;
    // Not within a character.
    while ((bytes[end] & 0xc0) == 0x80) {
      end -= 1;
    }
    return new String(bytes, 0, end, StandardCharsets.UTF_8) + "…";
  }
}
