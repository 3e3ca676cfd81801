package satchel.statefun;

import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.TreeSet;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** The command line. */
final class Options {

  static final String USAGE =
      "usage: savepoint list SAVEPOINT [--function NAMESPACE/NAME]...\n"
          + "       savepoint export SAVEPOINT [--function NAMESPACE/NAME]...\n"
          + "                 [--expire NAMESPACE/NAME/STATE=DURATION|never]...\n"
          + "                 [--skip-embedded] [--drop-in-flight]";

  /** A mistake in the command line or in what it says of the savepoint. */
  static final class Mistake extends Exception {
    Mistake(String text) {
      super(text);
    }
  }

  private static final Pattern DURATION = Pattern.compile("(\\d+)(ms|s|m|h|d)");

  boolean export;
  String savepoint;
  boolean skipEmbedded;
  boolean dropInFlight;
  /** Function types that the states may belong to. */
  final Set<String> functions = new TreeSet<>();
  /** Time to live by state, {@code namespace/name/state}. Absent: the state never expires. */
  final Map<String, Long> expirations = new HashMap<>();

  static Options parse(String... arguments) throws Mistake {
    if (arguments.length < 2 || !(arguments[0].equals("list") || arguments[0].equals("export"))) {
      throw new Mistake(USAGE);
    }
    Options options = new Options();
    options.export = arguments[0].equals("export");
    options.savepoint = arguments[1];
    for (int i = 2; i < arguments.length; i++) {
      String option = arguments[i];
      if (option.equals("--skip-embedded") && options.export) {
        options.skipEmbedded = true;
      } else if (option.equals("--drop-in-flight") && options.export) {
        options.dropInFlight = true;
      } else if (i + 1 < arguments.length && option.equals("--function")) {
        options.functions.add(function(arguments[++i]));
      } else if (i + 1 < arguments.length && option.equals("--expire") && options.export) {
        options.expire(arguments[++i]);
      } else {
        throw new Mistake(option + " is not an option, or lacks its value\n" + USAGE);
      }
    }
    return options;
  }

  private static String function(String text) throws Mistake {
    if (!text.matches("[^/]+/[^/]+")) {
      throw new Mistake("--function " + text + ": write NAMESPACE/NAME");
    }
    return text;
  }

  private void expire(String text) throws Mistake {
    int equals = text.lastIndexOf('=');
    String state = equals < 0 ? "" : text.substring(0, equals);
    if (!state.matches("[^/]+/[^/]+/.+")) {
      throw new Mistake("--expire " + text + ": write NAMESPACE/NAME/STATE=DURATION");
    }
    String duration = text.substring(equals + 1);
    if (duration.equals("never")) {
      expirations.put(state, Long.MAX_VALUE);
      return;
    }
    Matcher matcher = DURATION.matcher(duration);
    if (!matcher.matches()) {
      throw new Mistake("--expire " + text + ": write a duration such as 30s, 12h or 7d, or never");
    }
    expirations.put(state, milliseconds(Long.parseLong(matcher.group(1)), matcher.group(2)));
  }

  private static long milliseconds(long count, String unit) {
    switch (unit) {
      case "ms":
        return count;
      case "s":
        return Duration.ofSeconds(count).toMillis();
      case "m":
        return Duration.ofMinutes(count).toMillis();
      case "h":
        return Duration.ofHours(count).toMillis();
      default:
        return Duration.ofDays(count).toMillis();
    }
  }
}
