package satchel.statefun;

import java.io.BufferedOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.runtime.state.StateBackend;
import org.apache.flink.runtime.state.hashmap.HashMapStateBackend;
import org.apache.flink.contrib.streaming.state.EmbeddedRocksDBStateBackend;
import org.apache.flink.state.api.SavepointReader;
import org.apache.flink.statefun.flink.core.StatefulFunctionsJobConstants;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.util.CloseableIterator;
import satchel.statefun.SavepointStates.RemoteState;

/**
 * Writes the state of remote functions in a savepoint of StateFun as the lines that {@code satchel
 * state import} reads.
 */
public final class Savepoint {

  private Savepoint() {}

  /** Runs the command line and ends the process: 0, 2 for a mistake of the caller, 1 otherwise. */
  public static void main(String[] arguments) {
    PrintStream output =
        new PrintStream(new BufferedOutputStream(System.out), false, StandardCharsets.UTF_8);
    try {
      run(Options.parse(arguments), output, System.err);
      output.flush();
      if (output.checkError()) {
        System.err.println("the output could not be written; it is not complete");
        System.exit(1);
      }
    } catch (Options.Mistake mistake) {
      System.err.println(mistake.getMessage());
      System.exit(2);
    } catch (Exception error) {
      System.err.println(error);
      System.exit(1);
    }
    // Flink leaves threads behind that would keep the process.
    System.exit(0);
  }

  static void run(Options options, PrintStream output, PrintStream notes) throws Exception {
    SavepointStates states = SavepointStates.read(options.savepoint);
    List<String> problems = new ArrayList<>();
    Map<String, StateName> names = new TreeMap<>();
    for (RemoteState state : states.remote.values()) {
      StateName name = StateName.of(state.flinkName, options.functions);
      if (name == null) {
        problems.add(
            state.flinkName + " belongs to none of the functions that are given, or to several:"
                + " name its function with --function NAMESPACE/NAME");
      } else {
        names.put(state.flinkName, name);
        problems.addAll(expiry(options, state, name));
      }
    }
    if (options.export && !options.skipEmbedded) {
      for (String state : states.embedded) {
        problems.add(
            state + " is a state of an embedded function; --skip-embedded leaves such states out");
      }
    }
    if (!options.export) {
      list(states, names, output);
      return;
    }
    if (!problems.isEmpty()) {
      throw new Options.Mistake(String.join("\n", problems));
    }
    Lines lines = new Lines(output);
    export(options, states, names, lines);
    if (lines.inFlight > 0 && !options.dropInFlight) {
      throw new IOException(
          lines.inFlight + " addresses had requests in flight, whose messages are not exported:"
              + " stop the ingresses and take the savepoint when all is quiet,"
              + " or lose them with --drop-in-flight");
    }
    notes.println(lines.states + " states of " + names.size() + " kinds");
    notes.println("Not exported: delayed messages, and positions of ingresses.");
  }

  /** Where the lines go, and how many of which kind there were. */
  private static final class Lines {
    final PrintStream output;
    long states;
    long inFlight;

    Lines(PrintStream output) {
      this.output = output;
    }

    void add(String line) {
      if (line.equals(StateLines.IN_FLIGHT)) {
        inFlight++;
      } else {
        output.println(line);
        states++;
      }
    }
  }

  private static List<String> expiry(Options options, RemoteState state, StateName name) {
    boolean said = options.expirations.containsKey(name.toString());
    if (options.export && state.expires && !said) {
      return List.of(
          name + " expires, but a savepoint does not say after how long:"
              + " say it with --expire " + name + "=DURATION (or =never)");
    }
    if (options.export && !state.expires && said) {
      return List.of("--expire " + name + ": the savepoint has no times for this state");
    }
    return List.of();
  }

  private static void list(
      SavepointStates states, Map<String, StateName> names, PrintStream to) {
    for (RemoteState state : states.remote.values()) {
      StateName name = names.get(state.flinkName);
      to.printf(
          "%s\t%s\t%s%n",
          name == null ? state.flinkName + " (needs --function)" : name,
          state.typename,
          state.expires ? "expires" : "stays");
    }
    for (String name : states.embedded) {
      to.printf("%s\t-\tof an embedded function, not exported%n", name);
    }
  }

  private static void export(
      Options options, SavepointStates states, Map<String, StateName> names, Lines lines)
      throws Exception {
    if (states.remote.isEmpty() && states.inFlight.isEmpty()) {
      return;
    }
    StreamExecutionEnvironment flink = StreamExecutionEnvironment.getExecutionEnvironment();
    flink.setParallelism(1);
    // It looks into classes of Java itself, which Java 17 does not permit.
    flink.getConfig().disableClosureCleaner();
    SavepointReader reader =
        SavepointReader.read(flink, options.savepoint, backend(states.needsRocksDb));
    List<StateLines.Source> sources = new ArrayList<>();
    for (RemoteState state : states.remote.values()) {
      StateName name = names.get(state.flinkName);
      Long lifetime = options.expirations.get(name.toString());
      sources.add(new StateLines.Source(state, name, lifetime));
    }
    try (CloseableIterator<String> found =
        reader
            .readKeyedState(
                StatefulFunctionsJobConstants.FUNCTION_OPERATOR_UID,
                new StateLines(sources, states.inFlight),
                Types.STRING,
                Types.STRING)
            .executeAndCollect()) {
      found.forEachRemaining(lines::add);
    }
  }

  /** A canonical savepoint is read by any backend. A native one needs the one that wrote it. */
  private static StateBackend backend(boolean needsRocksDb) {
    return needsRocksDb ? new EmbeddedRocksDBStateBackend() : new HashMapStateBackend();
  }
}
