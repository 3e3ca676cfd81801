package satchel;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import com.amazonaws.services.lambda.runtime.Context;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.IOException;
import java.lang.reflect.Proxy;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import org.apache.flink.statefun.sdk.java.StatefulFunctionSpec;
import org.apache.flink.statefun.sdk.java.StatefulFunctions;
import org.apache.flink.statefun.sdk.java.TypeName;
import org.apache.flink.statefun.sdk.java.ValueSpec;
import org.apache.flink.statefun.sdk.java.message.Message;
import org.apache.flink.statefun.sdk.java.message.MessageBuilder;
import org.apache.flink.statefun.sdk.reqreply.generated.FromFunction;
import org.junit.Test;

/** The vectors that handlers of every language are tested with, and deadlines and sizes. */
public class BundleHandlerTest {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final ValueSpec<Integer> COUNT = ValueSpec.named("count").withIntType();

  /** The function of the vectors; see vectors/README.md of the handler. */
  public static final class Vectors extends BundleHandler {
    public Vectors() {
      super(
          new StatefulFunctions()
              .withStatefulFunction(
                  StatefulFunctionSpec.builder(TypeName.typeNameFromString("vectors/counter"))
                      .withValueSpec(COUNT)
                      .withSupplier(() -> Vectors::count)));
    }

    private static CompletableFuture<Void> count(
        org.apache.flink.statefun.sdk.java.Context context, Message message) throws Exception {
      String[] command = message.asUtf8String().split(" ", 2);
      MessageBuilder reply = MessageBuilder.forAddress(context.caller().orElseThrow());
      switch (command[0]) {
        case "add":
          int count = context.storage().get(COUNT).orElse(0) + Integer.parseInt(command[1]);
          context.storage().set(COUNT, count);
          context.send(reply.withValue(count).build());
          return context.done();
        case "answer":
          String text = "x".repeat(Integer.parseInt(command[1]));
          context.send(reply.withValue(text).build());
          return context.done();
        case "fail":
          throw new IOException(command[1]);
        case "hang":
          return new CompletableFuture<>();
        case "reject":
          String[] rejection = command[1].split(" ", 2);
          TerminalError error = new TerminalError(Integer.parseInt(rejection[0]), rejection[1]);
          // As an asynchronous function does.
          return CompletableFuture.supplyAsync(
              () -> {
                throw new IllegalStateException("wrapped", error);
              });
        default:
          throw new IllegalArgumentException(command[0]);
      }
    }
  }

  private static JsonNode invoke(String payload, Context context) throws IOException {
    ByteArrayOutputStream output = new ByteArrayOutputStream();
    byte[] bytes = payload.getBytes(StandardCharsets.UTF_8);
    new Vectors().handleRequest(new ByteArrayInputStream(bytes), output, context);
    return JSON.readTree(output.toByteArray());
  }

  private static JsonNode vectors() throws IOException {
    return JSON.readTree(new File("../vectors/bundles.json"));
  }

  @Test
  public void vectorsAreAnswered() throws IOException {
    for (JsonNode vector : vectors()) {
      String needs = vector.path("needs").toString();
      if (needs.contains("zstd") || needs.contains("http")) {
        continue;
      }
      String name = vector.get("name").textValue();
      System.out.println("vector: " + name);
      String request = vector.get("request").toString();
      if (vector.has("function_error")) {
        JsonNode wanted = vector.get("function_error");
        Exception error = assertThrows(name, Exception.class, () -> invoke(request, null));
        assertEquals(name, wanted.get("errorType").textValue(), error.getClass().getName());
        String message = error.getMessage();
        assertTrue(message, message.startsWith(wanted.get("errorMessage").textValue()));
      } else {
        check(name, vector.get("response"), invoke(request, null));
      }
    }
  }

  private static void check(String name, JsonNode wanted, JsonNode answer) throws IOException {
    for (String field : List.of("satchel", "bundle", "encoding")) {
      assertEquals(name, wanted.get(field), answer.get(field));
    }
    assertEquals(name, wanted.get("results").size(), answer.get("results").size());
    for (int i = 0; i < wanted.get("results").size(); i++) {
      JsonNode expected = wanted.get("results").get(i);
      JsonNode result = answer.get("results").get(i);
      String where = name + ": " + result;
      assertEquals(where, expected.get("attempt"), result.get("attempt"));
      assertEquals(where, 2, result.size());
      if (expected.has("from")) {
        assertEquals(where, from(expected), from(result));
        continue;
      }
      assertEquals(where, expected.at("/error/type"), result.at("/error/type"));
      assertEquals(where, expected.at("/error/terminal"), result.at("/error/terminal"));
      String part = expected.at("/error/message").textValue();
      assertTrue(where, result.at("/error/message").textValue().contains(part));
    }
  }

  /** A FromFunction in the form in which the vectors compare it. */
  private static FromFunction from(JsonNode result) throws IOException {
    byte[] bytes = Base64.getDecoder().decode(result.get("from").textValue());
    FromFunction.Builder from = FromFunction.parseFrom(bytes).toBuilder();
    if (from.hasIncompleteInvocationContext()) {
      from.getIncompleteInvocationContextBuilder().getMissingValuesBuilderList().stream()
          .filter(value -> value.getExpirationSpec().getModeValue() == 0)
          .forEach(value -> value.clearExpirationSpec());
    }
    return from.build();
  }

  @Test
  public void aBatchThatHangsCostsOnlyItself() throws IOException {
    Context context =
        (Context)
            Proxy.newProxyInstance(
                Context.class.getClassLoader(),
                new Class<?>[] {Context.class},
                (proxy, method, arguments) -> 300);
    ObjectNode request = null;
    for (JsonNode vector : vectors()) {
      if (vector.get("name").textValue().equals("states and messages")) {
        request = (ObjectNode) vector.get("request");
      }
    }
    ObjectNode second = (ObjectNode) request.get("batches").get(1);
    byte[] to = Base64.getDecoder().decode(second.get("to").textValue());
    String hanging = new String(to, StandardCharsets.ISO_8859_1).replace("add -5", "hang !");
    byte[] bytes = hanging.getBytes(StandardCharsets.ISO_8859_1);
    second.put("to", Base64.getEncoder().encodeToString(bytes));
    List<String> types = new ArrayList<>();
    for (JsonNode result : invoke(request.toString(), context).get("results")) {
      types.add(result.has("error") ? result.at("/error/type").textValue() : "ok");
    }
    assertEquals(List.of("ok", "timeout", "ok"), types);
  }

  @Test
  public void theLargestResultsAreReplacedUntilTheResponseFits() {
    ObjectNode response = JSON.createObjectNode();
    ArrayNode results = response.putArray("results");
    for (int size : new int[] {1000, 9000, 4000, 6000}) {
      results.addObject().put("attempt", "" + size).put("from", "A".repeat(size));
    }
    BundleHandler.fit(response, 6000);
    List<String> replaced = new ArrayList<>();
    for (JsonNode result : results) {
      if (result.has("error")) {
        replaced.add(
            result.get("attempt").textValue() + " " + result.at("/error/type").textValue());
      }
    }
    assertEquals(List.of("9000 response_too_large", "6000 response_too_large"), replaced);
    assertTrue(BundleHandler.jsonBytes(response) <= 6000);
  }

  @Test
  public void anErrorIsCutBetweenCharacters() {
    BatchError error = new BatchError("function", "€".repeat(BatchError.BYTES_MAX));
    assertEquals(
        "€".repeat(BatchError.BYTES_MAX / 3) + "…", error.toJson().get("message").textValue());
  }

  @Test
  public void codesAreThoseOfErrors() {
    for (int code : new int[] {0, 200, 399, 501}) {
      assertThrows(IllegalArgumentException.class, () -> new TerminalError(code, "no"));
    }
    assertEquals(500, new TerminalError(500, "no").code());
  }
}
