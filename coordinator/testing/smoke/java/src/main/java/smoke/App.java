package smoke;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.sun.net.httpserver.HttpServer;
import java.io.InputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.time.Duration;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executors;
import org.apache.flink.statefun.sdk.java.Context;
import org.apache.flink.statefun.sdk.java.StatefulFunctionSpec;
import org.apache.flink.statefun.sdk.java.StatefulFunctions;
import org.apache.flink.statefun.sdk.java.TypeName;
import org.apache.flink.statefun.sdk.java.ValueSpec;
import org.apache.flink.statefun.sdk.java.handler.RequestReplyHandler;
import org.apache.flink.statefun.sdk.java.io.KinesisEgressMessage;
import org.apache.flink.statefun.sdk.java.message.Message;
import org.apache.flink.statefun.sdk.java.message.MessageBuilder;
import org.apache.flink.statefun.sdk.java.slice.Slices;
import org.apache.flink.statefun.sdk.java.types.SimpleType;
import org.apache.flink.statefun.sdk.java.types.Type;
import satchel.BundleHandler;

/** The function of the smoke scheme, on StateFun's Java SDK. */
public final class App extends BundleHandler {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final TypeName FUNCTION = TypeName.typeNameFromString("smoke/command");
  private static final TypeName RECORDS = TypeName.typeNameFromString("smoke/records");
  private static final Type<JsonNode> COMMANDS =
      SimpleType.simpleImmutableTypeFrom(
          TypeName.typeNameFromString("smoke/commands"), JSON::writeValueAsBytes, JSON::readTree);
  private static final ValueSpec<Integer> TOTAL = ValueSpec.named("total").withIntType();
  private static final ValueSpec<Integer> SEEN = ValueSpec.named("seen").withIntType();

  public App() {
    super(functions());
  }

  private static StatefulFunctions functions() {
    return new StatefulFunctions()
        .withStatefulFunction(
            StatefulFunctionSpec.builder(FUNCTION)
                .withValueSpecs(TOTAL, SEEN)
                .withSupplier(() -> App::command));
  }

  private static CompletableFuture<Void> command(Context context, Message message)
      throws Exception {
    add(context, SEEN, 1);
    CompletableFuture<Void> done = context.done();
    for (JsonNode step : message.as(COMMANDS)) {
      if (step.has("add")) {
        add(context, TOTAL, step.get("add").intValue());
      } else if (step.has("send")) {
        send(context, step);
      } else if (step.has("cancel")) {
        context.cancelDelayedMessage(step.get("cancel").textValue());
      } else if (step.has("emit")) {
        String id = step.get("emit").textValue();
        context.send(
            KinesisEgressMessage.forEgress(RECORDS)
                .withStream("records")
                .withUtf8PartitionKey(id)
                .withUtf8Value(JSON.writeValueAsString(Map.of("id", id)))
                .build());
      } else if (step.has("noop")) {
        done = done.thenRunAsync(() -> {});
      } else {
        throw new IllegalArgumentException("unknown command " + step);
      }
    }
    return done;
  }

  private static void add(Context context, ValueSpec<Integer> state, int amount) {
    context.storage().set(state, context.storage().get(state).orElse(0) + amount);
  }

  private static void send(Context context, JsonNode step) {
    Message message =
        MessageBuilder.forAddress(FUNCTION, step.get("send").textValue())
            .withCustomType(COMMANDS, step.get("then"))
            .build();
    if (!step.has("after")) {
      context.send(message);
      return;
    }
    Duration delay = Duration.ofMillis(step.get("after").longValue());
    if (step.has("token")) {
      context.sendAfter(delay, step.get("token").textValue(), message);
    } else {
      context.sendAfter(delay, message);
    }
  }

  /** Serves the function over HTTP. Prints the port, and ends with the input. */
  public static void main(String[] arguments) throws Exception {
    RequestReplyHandler handler = functions().requestReplyHandler();
    InetSocketAddress address = new InetSocketAddress(InetAddress.getLoopbackAddress(), 0);
    HttpServer server = HttpServer.create(address, 128);
    server.setExecutor(Executors.newCachedThreadPool());
    server.createContext(
        "/",
        exchange -> {
          try (exchange;
              InputStream body = exchange.getRequestBody()) {
            byte[] answer = handler.handle(Slices.wrap(body.readAllBytes())).join().toByteArray();
            exchange.getResponseHeaders().set("Content-Type", "application/octet-stream");
            // No body is -1; 0 is a body of unknown length.
            exchange.sendResponseHeaders(200, answer.length == 0 ? -1 : answer.length);
            exchange.getResponseBody().write(answer);
          }
        });
    server.start();
    System.out.println(server.getAddress().getPort());
    System.in.transferTo(java.io.OutputStream.nullOutputStream());
    System.exit(0);
  }
}
