package satchel;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestStreamHandler;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Comparator;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.stream.IntStream;
import org.apache.flink.statefun.sdk.java.StatefulFunctions;

/**
 * Lambda handler that answers bundles of a Satchel coordinator with StateFun's functions.
 *
 * <p>Extend it, and call its constructor with the functions. Batches of a bundle run concurrently.
 * This is an example to copy, without compression; see README.md.
 */
public class BundleHandler implements RequestStreamHandler {
  private static final int VERSION = 1;

  /** Maximum size of all requests of a bundle. */
  private static final int DECOMPRESSED_BYTES_MAX = 64 << 20;

  /** Maximum size of the response to a synchronous Lambda request. */
  private static final int RESPONSE_BYTES_MAX = 6 << 20;

  private static final ObjectMapper JSON = new ObjectMapper();

  private final Batches batches;

  protected BundleHandler(StatefulFunctions functions) {
    batches = new Batches(functions);
  }

  @Override
  public void handleRequest(InputStream input, OutputStream output, Context context)
      throws IOException {
    JSON.writeValue(output, answer(JSON.readTree(input), context));
  }

  private ObjectNode answer(JsonNode event, Context context) {
    check(event);
    Long cutoff = cutoff(context);
    List<Future<byte[]>> started = new ArrayList<>();
    int left = DECOMPRESSED_BYTES_MAX;
    for (JsonNode batch : event.get("batches")) {
      try {
        byte[] to = unpack(batch, left);
        left -= to.length;
        started.add(batches.start(to));
      } catch (BatchError error) {
        started.add(CompletableFuture.failedFuture(error));
      }
    }
    ObjectNode response = JSON.createObjectNode();
    response.put("satchel", VERSION);
    response.put("bundle", event.get("bundle").textValue());
    response.put("encoding", "identity");
    ArrayNode results = response.putArray("results");
    for (int i = 0; i < started.size(); i++) {
      String attempt = event.get("batches").get(i).get("attempt").textValue();
      ObjectNode result = results.addObject().put("attempt", attempt);
      try {
        byte[] from = finish(started.get(i), cutoff);
        result.put("from", Base64.getEncoder().encodeToString(from));
      } catch (BatchError error) {
        System.err.println("batch failed: " + error.getMessage());
        result.set("error", error.toJson());
      }
    }
    fit(response, RESPONSE_BYTES_MAX);
    return response;
  }

  /** Checks the form of a bundle. */
  private static void check(JsonNode event) {
    if (!event.has("satchel")) {
      throw invalidRequest(
          "the request is neither a bundle (it has no field `satchel`) nor an HTTP request");
    }
    JsonNode version = event.get("satchel");
    if (!version.isInt() || version.intValue() != VERSION) {
      throw invalidRequest(
          "the bundle has version " + version + ", this side understands version " + VERSION);
    }
    // It is always identity, because this handler never answers in another one.
    if (!event.path("encoding").asText("identity").equals("identity")) {
      throw invalidRequest(
          "the payload is not a bundle: the encoding " + event.get("encoding") + " is unknown");
    }
    if (!event.path("bundle").isTextual() || !event.path("batches").isArray()) {
      throw invalidRequest("the payload is not a bundle: it has no `bundle` or `batches`");
    }
    for (JsonNode batch : event.get("batches")) {
      if (!batch.path("attempt").isTextual() || !batch.path("to").isTextual()) {
        throw invalidRequest("the payload is not a bundle: a batch has `attempt` and `to`");
      }
    }
  }

  private static byte[] unpack(JsonNode batch, int left) throws BatchError {
    String attempt = "attempt " + batch.get("attempt").textValue() + ": ";
    byte[] to;
    try {
      to = Base64.getDecoder().decode(batch.get("to").textValue());
    } catch (IllegalArgumentException error) {
      String why = "the payload is not base64: " + error.getMessage();
      throw new BatchError("invalid_request", attempt + why);
    }
    if (to.length > left) {
      throw new BatchError(
          "invalid_request",
          attempt + "the parts of a bundle may have " + DECOMPRESSED_BYTES_MAX + " bytes in all, "
              + "decompressed, and this one exceeds what is left");
    }
    return to;
  }

  /**
   * Returns the time ({@link System#nanoTime}) of the response: a little before the deadline, at
   * which Lambda would drop every result. A deadline in the past is ignored, because some stand-ins
   * for Lambda give a constant one.
   */
  private static Long cutoff(Context context) {
    int left = context == null ? 0 : context.getRemainingTimeInMillis();
    if (left <= 0) {
      return null;
    }
    return System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(left - Math.min(left / 20, 500));
  }

  private static byte[] finish(Future<byte[]> batch, Long cutoff) throws BatchError {
    try {
      if (cutoff == null) {
        return batch.get();
      }
      return batch.get(Math.max(cutoff - System.nanoTime(), 0), TimeUnit.NANOSECONDS);
    } catch (ExecutionException error) {
      if (error.getCause() instanceof BatchError) {
        throw (BatchError) error.getCause();
      }
      throw new BatchError("function", String.valueOf(error.getCause()));
    } catch (TimeoutException error) {
      batch.cancel(true);
      throw new BatchError(
          "timeout", "the batch was not done before the deadline of the Lambda request");
    } catch (InterruptedException error) {
      Thread.currentThread().interrupt();
      throw new BatchError("function", "interrupted");
    }
  }

  /**
   * Replaces the largest results by errors until the response has at most {@code bytesMax} as JSON.
   * Most results get through, and a result that is too large by itself displaces no other.
   */
  static void fit(ObjectNode response, int bytesMax) {
    ArrayNode results = (ArrayNode) response.get("results");
    int[] sizes = new int[results.size()];
    int total = jsonBytes(response.deepCopy().set("results", JSON.createArrayNode()));
    for (int i = 0; i < sizes.length; i++) {
      sizes[i] = jsonBytes(results.get(i));
      // Each result counts with the comma after it.
      total += sizes[i] + 1;
    }
    List<Integer> largestFirst =
        IntStream.range(0, sizes.length)
            .boxed()
            .sorted(Comparator.comparing((Integer i) -> -sizes[i]))
            .toList();
    for (int largest : largestFirst) {
      if (total <= bytesMax) {
        return;
      }
      BatchError error =
          new BatchError(
              "response_too_large",
              "the result has " + sizes[largest] + " bytes; Lambda allows " + RESPONSE_BYTES_MAX
                  + " bytes for the results of all batches of a request");
      ObjectNode replaced = JSON.createObjectNode();
      replaced.set("attempt", results.get(largest).get("attempt"));
      replaced.set("error", error.toJson());
      total += jsonBytes(replaced) - sizes[largest];
      results.set(largest, replaced);
    }
  }

  static int jsonBytes(JsonNode json) {
    try {
      return JSON.writeValueAsBytes(json).length;
    } catch (IOException error) {
      throw new IllegalStateException(error);
    }
  }

  private static RuntimeException invalidRequest(String why) {
    try {
      // A class in no package cannot be named here.
      Class<?> type = Class.forName("invalid_request");
      return (RuntimeException) type.getConstructor(String.class).newInstance(why);
    } catch (ReflectiveOperationException error) {
      throw new IllegalStateException(error);
    }
  }
}
