package satchel.statefun;

import com.google.protobuf.ByteString;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Predicate;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.core.execution.JobClient;
import org.apache.flink.core.execution.SavepointFormatType;
import org.apache.flink.statefun.flink.core.StatefulFunctionsConfig;
import org.apache.flink.statefun.flink.core.StatefulFunctionsJob;
import org.apache.flink.statefun.flink.core.spi.Modules;
import org.apache.flink.statefun.flink.io.datastream.SourceFunctionSpec;
import org.apache.flink.statefun.sdk.Address;
import org.apache.flink.statefun.sdk.FunctionType;
import org.apache.flink.statefun.sdk.io.IngressIdentifier;
import org.apache.flink.statefun.sdk.reqreply.generated.FromFunction;
import org.apache.flink.statefun.sdk.reqreply.generated.FromFunction.ExpirationSpec;
import org.apache.flink.statefun.sdk.reqreply.generated.FromFunction.ExpirationSpec.ExpireMode;
import org.apache.flink.statefun.sdk.reqreply.generated.FromFunction.IncompleteInvocationContext;
import org.apache.flink.statefun.sdk.reqreply.generated.FromFunction.InvocationResponse;
import org.apache.flink.statefun.sdk.reqreply.generated.FromFunction.PersistedValueMutation;
import org.apache.flink.statefun.sdk.reqreply.generated.FromFunction.PersistedValueMutation.MutationType;
import org.apache.flink.statefun.sdk.reqreply.generated.FromFunction.PersistedValueSpec;
import org.apache.flink.statefun.sdk.reqreply.generated.ToFunction;
import org.apache.flink.statefun.sdk.reqreply.generated.ToFunction.InvocationBatchRequest;
import org.apache.flink.statefun.sdk.reqreply.generated.TypedValue;
import org.apache.flink.statefun.sdk.spi.StatefulFunctionModule;
import org.apache.flink.streaming.api.environment.LocalStreamEnvironment;
import org.apache.flink.streaming.api.functions.source.SourceFunction;
import org.apache.flink.streaming.api.graph.StreamGraph;

/** A job of StateFun 3.3 with one remote function that counts and remembers names. */
final class GreeterJob {

  static final List<String> NAMES = List.of("alice", "bob", "alice", "c\"é/1", "alice");
  private static final FunctionType GREETER = new FunctionType("com.example.app", "greeter");
  private static final AtomicInteger ARRIVED = new AtomicInteger();
  private static final AtomicInteger ANSWERED = new AtomicInteger();
  /** Open: requests are answered. */
  private static volatile CountDownLatch answering = new CountDownLatch(0);

  private GreeterJob() {}

  /**
   * Runs the job until all names were greeted, and returns the path of a savepoint that is
   * quiet: StateFun takes the last answers in a moment after they were given.
   */
  static String savepoint(
      Path dir, SavepointFormatType format, String backend, Predicate<String> quiet)
      throws Exception {
    return savepoint(dir, format, backend, NAMES.size(), quiet);
  }

  /** As above, once requests for all three names are in flight that are never answered. */
  static String savepointInFlight(Path dir, SavepointFormatType format, String backend)
      throws Exception {
    return savepoint(dir, format, backend, 0, any -> true);
  }

  private static String savepoint(
      Path dir,
      SavepointFormatType format,
      String backend,
      int answers,
      Predicate<String> accept)
      throws Exception {
    ARRIVED.set(0);
    ANSWERED.set(0);
    answering = new CountDownLatch(answers > 0 ? 0 : 1);
    HttpServer server = serve();
    Path module = dir.resolve("module.yaml");
    Files.writeString(
        module,
        "kind: io.statefun.endpoints.v2/http\nspec:\n  functions: com.example.app/*\n"
            + "  urlPathTemplate: http://127.0.0.1:" + server.getAddress().getPort() + "/\n");
    Configuration configuration = new Configuration();
    configuration.setString("state.backend", backend);
    configuration.setString("state.backend.incremental", "true");
    configuration.setString("state.checkpoints.dir", dir.toUri().toString());
    configuration.setString("execution.checkpointing.interval", "10min");
    configuration.setString("execution.checkpointing.max-concurrent-checkpoints", "1");
    CompletableFuture<JobClient> started = new CompletableFuture<>();
    LocalStreamEnvironment flink =
        new LocalStreamEnvironment(configuration) {
          @Override
          public JobClient executeAsync(StreamGraph graph) throws Exception {
            JobClient client = super.executeAsync(graph);
            started.complete(client);
            return client;
          }
        };
    flink.setParallelism(2);
    flink.configure(configuration, GreeterJob.class.getClassLoader());
    StatefulFunctionsConfig config =
        StatefulFunctionsConfig.fromFlinkConfiguration(configuration);
    config.setRemoteModuleName(module.toUri().toString());
    config.setProvider(
        (loader, given) -> Modules.loadFromClassPath(given).createStatefulFunctionsUniverse());
    Thread job =
        new Thread(
            () -> {
              try {
                StatefulFunctionsJob.main(flink, config);
              } catch (Exception ended) {
                started.completeExceptionally(ended);
              }
            });
    job.start();
    JobClient client = started.get();
    try {
      while (ANSWERED.get() < answers || ARRIVED.get() < 3) {
        Thread.sleep(20);
      }
      String all = dir.resolve("savepoints").toUri().toString();
      String savepoint = client.triggerSavepoint(all, format).get();
      while (!accept.test(savepoint)) {
        savepoint = client.triggerSavepoint(all, format).get();
      }
      return savepoint;
    } finally {
      client.cancel().get();
      answering.countDown();
      job.join();
      server.stop(0);
    }
  }

  private static HttpServer serve() throws IOException {
    HttpServer server =
        HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
    server.createContext("/", GreeterJob::answer);
    server.setExecutor(Executors.newCachedThreadPool());
    server.start();
    return server;
  }

  private static void answer(HttpExchange exchange) throws IOException {
    ToFunction request = ToFunction.parseFrom(exchange.getRequestBody());
    byte[] answer = greet(request.getInvocation()).toByteArray();
    exchange.getResponseHeaders().set("content-type", "application/octet-stream");
    exchange.sendResponseHeaders(200, answer.length);
    exchange.getResponseBody().write(answer);
    exchange.close();
  }

  /** The function, in the words of the protocol: the SDK cannot live beside the runtime. */
  private static FromFunction greet(InvocationBatchRequest batch) {
    if (batch.getStateCount() < 2) {
      ExpirationSpec hour =
          ExpirationSpec.newBuilder()
              .setMode(ExpireMode.AFTER_WRITE)
              .setExpireAfterMillis(3_600_000)
              .build();
      PersistedValueSpec.Builder seen =
          PersistedValueSpec.newBuilder()
              .setStateName("seen")
              .setTypeTypename("io.statefun.types/int");
      PersistedValueSpec.Builder last =
          PersistedValueSpec.newBuilder()
              .setStateName("last")
              .setTypeTypename("io.statefun.types/string")
              .setExpirationSpec(hour);
      return FromFunction.newBuilder()
          .setIncompleteInvocationContext(
              IncompleteInvocationContext.newBuilder().addMissingValues(seen).addMissingValues(last))
          .build();
    }
    ARRIVED.incrementAndGet();
    await(answering);
    int seen = batch.getInvocationsCount();
    for (ToFunction.PersistedValue state : batch.getStateList()) {
      if (state.getStateName().equals("seen") && state.getStateValue().getHasValue()) {
        // Field 1 of the wrapper, as four bytes of which the first is enough here.
        seen += state.getStateValue().getValue().byteAt(1);
      }
    }
    ANSWERED.addAndGet(batch.getInvocationsCount());
    ByteString count = ByteString.copyFrom(new byte[] {0x0d, (byte) seen, 0, 0, 0});
    TypedValue name = batch.getInvocations(batch.getInvocationsCount() - 1).getArgument();
    return FromFunction.newBuilder()
        .setInvocationResult(
            InvocationResponse.newBuilder()
                .addStateMutations(set("seen", typed("io.statefun.types/int", count)))
                .addStateMutations(set("last", name)))
        .build();
  }

  private static void await(CountDownLatch latch) {
    try {
      latch.await();
    } catch (InterruptedException stopped) {
      Thread.currentThread().interrupt();
    }
  }

  private static PersistedValueMutation set(String state, TypedValue value) {
    return PersistedValueMutation.newBuilder()
        .setMutationType(MutationType.MODIFY)
        .setStateName(state)
        .setStateValue(value)
        .build();
  }

  private static TypedValue typed(String typename, ByteString value) {
    return TypedValue.newBuilder()
        .setTypename(typename)
        .setHasValue(true)
        .setValue(value)
        .build();
  }

  /** Brings the names into the job. StateFun finds it as a service. */
  public static final class Names implements StatefulFunctionModule {
    private static final IngressIdentifier<TypedValue> ID =
        new IngressIdentifier<>(TypedValue.class, "com.example", "names");

    @Override
    public void configure(Map<String, String> globals, Binder binder) {
      binder.bindIngress(new SourceFunctionSpec<>(ID, new Source()));
      binder.bindIngressRouter(
          ID,
          (name, downstream) ->
              downstream.forward(
                  new Address(GREETER, name.getValue().substring(2).toStringUtf8()), name));
    }
  }

  /** Emits the names, each as the bytes of a string of StateFun, and then waits. */
  private static final class Source implements SourceFunction<TypedValue> {
    private static final long serialVersionUID = 1L;
    private volatile boolean running = true;

    @Override
    public void run(SourceContext<TypedValue> context) throws InterruptedException {
      for (String name : NAMES) {
        ByteString text = ByteString.copyFromUtf8(name);
        // Field 1 of the wrapper, with the length of the text.
        ByteString value =
            ByteString.copyFrom(new byte[] {0x0a, (byte) text.size()}).concat(text);
        synchronized (context.getCheckpointLock()) {
          context.collect(typed("io.statefun.types/string", value));
        }
      }
      while (running) {
        Thread.sleep(20);
      }
    }

    @Override
    public void cancel() {
      running = false;
    }
  }
}
