package satchel.statefun;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.TreeMap;
import org.apache.flink.core.execution.SavepointFormatType;
import org.junit.Rule;
import org.junit.Test;
import org.junit.rules.TemporaryFolder;

/** The states of a real job of StateFun are read from its savepoint. */
public final class SavepointTest {

  @Rule public final TemporaryFolder folder = new TemporaryFolder();

  private static String run(String... arguments) throws Exception {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    PrintStream output = new PrintStream(bytes, true, StandardCharsets.UTF_8);
    PrintStream notes = new PrintStream(new ByteArrayOutputStream(), true, StandardCharsets.UTF_8);
    Savepoint.run(Options.parse(arguments), output, notes);
    return bytes.toString(StandardCharsets.UTF_8);
  }

  private static String mistake(String... arguments) {
    return assertThrows(Options.Mistake.class, () -> run(arguments)).getMessage();
  }

  /** Returns whether no address had a request in flight. */
  private boolean isQuiet(String savepoint) {
    try {
      run(
          "export", savepoint, "--function", "com.example.app/greeter", "--expire",
          "com.example.app/greeter/last=never");
      return true;
    } catch (Exception refused) {
      assertTrue(refused.toString(), refused.getMessage().contains("requests in flight"));
      return false;
    }
  }

  @Test
  public void aCanonicalSavepointOfRocksDb() throws Exception {
    everyStateIsExported(SavepointFormatType.CANONICAL, "rocksdb");
  }

  @Test
  public void aNativeSavepointOfRocksDb() throws Exception {
    everyStateIsExported(SavepointFormatType.NATIVE, "rocksdb");
  }

  @Test
  public void aSavepointOfTheHeap() throws Exception {
    everyStateIsExported(SavepointFormatType.NATIVE, "hashmap");
  }

  private void everyStateIsExported(SavepointFormatType format, String backend) throws Exception {
    long before = System.currentTimeMillis();
    Path dir = folder.getRoot().toPath();
    String savepoint = GreeterJob.savepoint(dir, format, backend, this::isQuiet);
    long after = System.currentTimeMillis();
    String function = "com.example.app/greeter";
    String expire = function + "/last=1h";

    assertEquals(
        function + "/last\tio.statefun.types/string\texpires\n"
            + function + "/seen\tio.statefun.types/int\tstays\n",
        run("list", savepoint, "--function", function));
    assertEquals(
        "com.example.app.greeter.last (needs --function)\tio.statefun.types/string\texpires\n"
            + "com.example.app.greeter.seen (needs --function)\tio.statefun.types/int\tstays\n",
        run("list", savepoint));

    String lines = run("export", savepoint, "--function", function, "--expire", expire);
    TreeMap<String, Long> expiries = new TreeMap<>();
    StringBuilder shown = new StringBuilder();
    for (String line : sorted(lines)) {
      String[] parts = line.split("\"expires_at_ms\":|,\"base64\"");
      if (!parts[1].equals("null")) {
        expiries.put(parts[0], Long.parseLong(parts[1]));
      }
      shown.append(line.replaceAll("expires_at_ms\":\\d+", "expires_at_ms\":TIME")).append('\n');
    }
    assertEquals(expected(), shown.toString());
    long hour = 3_600_000;
    for (long expiry : expiries.values()) {
      assertTrue(
          expiries.toString(), before + hour <= expiry && expiry <= after + hour);
    }

    assertEquals(
        "com.example.app/greeter/last expires, but a savepoint does not say after how long:"
            + " say it with --expire com.example.app/greeter/last=DURATION (or =never)",
        mistake("export", savepoint, "--function", function));
    assertEquals(
        "--expire com.example.app/greeter/seen: the savepoint has no times for this state",
        mistake(
            "export", savepoint, "--function", function, "--expire", expire, "--expire",
            function + "/seen=1h"));
    String unknown =
        " belongs to none of the functions that are given, or to several:"
            + " name its function with --function NAMESPACE/NAME";
    assertEquals(
        "com.example.app.greeter.last" + unknown + "\ncom.example.app.greeter.seen" + unknown,
        mistake("export", savepoint, "--function", "com.example/other"));
  }

  private static String expected() {
    String line = "{\"address\":\"com.example.app/greeter/%s\",\"state\":\"%s\","
        + "\"typename\":\"io.statefun.types/%s\",\"expires_at_ms\":%s,\"base64\":\"%s\"}\n";
    return String.format(line, "alice", "last", "string", "TIME", "CgVhbGljZQ==")
        + String.format(line, "alice", "seen", "int", "null", "DQMAAAA=")
        + String.format(line, "bob", "last", "string", "TIME", "CgNib2I=")
        + String.format(line, "bob", "seen", "int", "null", "DQEAAAA=")
        + String.format(line, "c\\\"é/1", "last", "string", "TIME", "CgZjIsOpLzE=")
        + String.format(line, "c\\\"é/1", "seen", "int", "null", "DQEAAAA=");
  }

  private static String[] sorted(String lines) {
    String[] sorted = lines.split("\n");
    Arrays.sort(sorted);
    return sorted;
  }

  @Test
  public void messagesInFlightAreNotLostInSilence() throws Exception {
    Path dir = folder.getRoot().toPath();
    String savepoint = 
        GreeterJob.savepointInFlight(dir, SavepointFormatType.CANONICAL, "hashmap");
    IOException refused =
        assertThrows(
            IOException.class,
            () ->
                run(
                    "export", savepoint, "--function", "com.example.app/greeter", "--expire",
                    "com.example.app/greeter/last=never"));
    assertEquals(
        "3 addresses had requests in flight, whose messages are not exported: stop the ingresses"
            + " and take the savepoint when all is quiet, or lose them with --drop-in-flight",
        refused.getMessage());
    assertEquals(
        "",
        run(
            "export", savepoint, "--function", "com.example.app/greeter", "--expire",
            "com.example.app/greeter/last=never", "--drop-in-flight"));
  }

  @Test
  public void whatIsNoSavepointIsNamed() throws Exception {
    Path dir = folder.newFolder("empty").toPath();
    IOException missing =
        assertThrows(IOException.class, () -> run("list", dir.resolve("absent").toString()));
    assertEquals(dir.resolve("absent") + " does not exist", missing.getMessage());
    IOException empty = assertThrows(IOException.class, () -> run("list", dir.toString()));
    assertEquals(
        dir + " is not a savepoint: it has no file _metadata", empty.getMessage());
    Files.writeString(dir.resolve("_metadata"), "no metadata at all");
    assertThrows(IOException.class, () -> run("list", dir.toString()));
  }

  @Test
  public void mistakesOfTheCommandLineAreNamed() {
    assertEquals(Options.USAGE, mistake("list"));
    assertEquals(
        "--at is not an option, or lacks its value\n" + Options.USAGE,
        mistake("list", "path", "--at"));
    assertEquals(
        "--function greeter: write NAMESPACE/NAME", mistake("list", "path", "--function", "greeter"));
    assertEquals(
        "--expire a/b/c=soon: write a duration such as 30s, 12h or 7d, or never",
        mistake("export", "path", "--expire", "a/b/c=soon"));
  }
}
