package satchel.compare;

import com.google.protobuf.ByteString;
import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.statefun.flink.core.StatefulFunctionsConfig;
import org.apache.flink.statefun.flink.core.StatefulFunctionsJob;
import org.apache.flink.statefun.flink.core.spi.Modules;
import org.apache.flink.statefun.flink.io.datastream.SinkFunctionSpec;
import org.apache.flink.statefun.flink.io.datastream.SourceFunctionSpec;
import org.apache.flink.statefun.sdk.Address;
import org.apache.flink.statefun.sdk.FunctionType;
import org.apache.flink.statefun.sdk.io.EgressIdentifier;
import org.apache.flink.statefun.sdk.io.IngressIdentifier;
import org.apache.flink.statefun.sdk.io.Router;
import org.apache.flink.statefun.sdk.reqreply.generated.TypedValue;
import org.apache.flink.statefun.sdk.spi.StatefulFunctionModule;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.SinkFunction;
import org.apache.flink.streaming.api.functions.source.SourceFunction;

/**
 * A job of StateFun 3.3 that sends names to the function {@code example/greeter} on a function
 * server and counts the greetings. Source and sink are in the process, so that the job pays for
 * neither Kafka nor Kinesis.
 *
 * <p>Arguments: URL of the function server, keys, records, its process id, and the directory of
 * checkpoints. Prints records per second, and microseconds of CPU time a record of this process and
 * of the function server, from the first tenth of the records to the last hundredth.
 */
public final class Greetings {

  private static final FunctionType GREETER = new FunctionType("example", "greeter");
  private static final TypedValue NAME =
      TypedValue.newBuilder()
          .setTypename("example/name")
          .setHasValue(true)
          .setValue(ByteString.copyFromUtf8("{\"name\":\"Bob\"}"))
          .build();
  private static final AtomicLong GREETED = new AtomicLong();

  private static int keys;
  private static long records;
  private static String functionServer;
  private static volatile Reading first;

  private Greetings() {}

  public static void main(String[] arguments) throws Exception {
    keys = Integer.parseInt(arguments[1]);
    records = Long.parseLong(arguments[2]);
    functionServer = arguments[3];
    Path directory = Path.of(arguments[4]);
    Path module = directory.resolve("module.yaml");
    Files.writeString(
        module,
        "kind: io.statefun.endpoints.v2/http\nspec:\n  functions: example/*\n"
            + "  urlPathTemplate: " + arguments[0] + "\n  transport:\n"
            + "    type: io.statefun.transports.v1/async\n");
    Configuration configuration = new Configuration();
    configuration.setString("state.backend", "hashmap");
    configuration.setString("state.checkpoints.dir", directory.toUri().toString());
    configuration.setString("execution.checkpointing.interval", "10s");
    configuration.setString("execution.checkpointing.max-concurrent-checkpoints", "1");
    StreamExecutionEnvironment flink =
        StreamExecutionEnvironment.createLocalEnvironment(2, configuration);
    flink.configure(configuration, Greetings.class.getClassLoader());
    StatefulFunctionsConfig config =
        StatefulFunctionsConfig.fromFlinkConfiguration(configuration);
    config.setRemoteModuleName(module.toUri().toString());
    config.setProvider(
        (loader, given) -> Modules.loadFromClassPath(given).createStatefulFunctionsUniverse());
    StatefulFunctionsJob.main(flink, config);
  }

  /** Counts a greeting, and ends the process with the last but one per cent. */
  private static void greeted() {
    long count = GREETED.incrementAndGet();
    if (count == records / 10) {
      first = new Reading(count);
    } else if (count == records - records / 100) {
      System.out.println(new Reading(count).since(first));
      System.out.flush();
      Runtime.getRuntime().halt(0);
    }
  }

  /** Times and counts at one moment. */
  private static final class Reading {
    private final long count;
    private final long nanos = System.nanoTime();
    private final long cpuNanos =
        ((OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime();
    private final long functionsTicks = ticks(functionServer);

    Reading(long count) {
      this.count = count;
    }

    String since(Reading before) {
      double passed = count - before.count;
      double perSecond = passed / (nanos - before.nanos) * 1e9;
      double cpu = (cpuNanos - before.cpuNanos) / 1e3 / passed;
      // A tick of proc(5) is 10 ms.
      double functions = (functionsTicks - before.functionsTicks) * 1e4 / passed;
      return String.format("%.0f %.2f %.2f", perSecond, cpu, functions);
    }

    private static long ticks(String pid) {
      try {
        String stat = Files.readString(Path.of("/proc", pid, "stat"));
        String[] fields = stat.substring(stat.lastIndexOf(')') + 2).split(" ");
        return Long.parseLong(fields[11]) + Long.parseLong(fields[12]);
      } catch (java.io.IOException gone) {
        throw new java.io.UncheckedIOException(gone);
      }
    }
  }

  /** Source and sink. StateFun finds it as a service. */
  public static final class Names implements StatefulFunctionModule {
    private static final IngressIdentifier<TypedValue> NAMES =
        new IngressIdentifier<>(TypedValue.class, "example", "names");
    private static final EgressIdentifier<TypedValue> GREETINGS =
        new EgressIdentifier<>("example", "greetings", TypedValue.class);

    @Override
    public void configure(Map<String, String> globals, Binder binder) {
      binder.bindIngress(new SourceFunctionSpec<>(NAMES, new Source()));
      binder.bindIngressRouter(NAMES, new ByTurns());
      binder.bindEgress(new SinkFunctionSpec<>(GREETINGS, new Sink()));
    }
  }

  /** Sends each name to the next key. */
  private static final class ByTurns implements Router<TypedValue> {
    private int next;

    @Override
    public void route(TypedValue name, Downstream<TypedValue> downstream) {
      downstream.forward(new Address(GREETER, "person-" + next), name);
      next = (next + 1) % keys;
    }
  }

  private static final class Source implements SourceFunction<TypedValue> {
    private static final long serialVersionUID = 1L;
    private volatile boolean running = true;

    @Override
    public void run(SourceContext<TypedValue> context) throws InterruptedException {
      for (long record = 0; record < records && running; record++) {
        synchronized (context.getCheckpointLock()) {
          context.collect(NAME);
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

  private static final class Sink implements SinkFunction<TypedValue> {
    private static final long serialVersionUID = 1L;

    @Override
    public void invoke(TypedValue greeting, Context context) {
      greeted();
    }
  }
}
