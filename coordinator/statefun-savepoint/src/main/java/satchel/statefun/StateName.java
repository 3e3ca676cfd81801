package satchel.statefun;

import java.util.Set;

/** The function and the state behind the name that Flink gives to a state of StateFun. */
final class StateName {
  final String namespace;
  final String function;
  final String state;

  private StateName(String namespace, String function, String state) {
    this.namespace = namespace;
    this.function = function;
    this.state = state;
  }

  /** Returns {@code namespace/name}. */
  String functionType() {
    return namespace + "/" + function;
  }

  /** Returns {@code namespace/name/state}. */
  @Override
  public String toString() {
    return functionType() + "/" + state;
  }

  /**
   * Splits {@code namespace.name.state}. Each part may have dots itself, so a name with more than
   * two of them needs its function among {@code functions}.
   *
   * @return null if the name can be split in more than one way, or fits no function that is given
   */
  static StateName of(String flinkName, Set<String> functions) {
    StateName found = null;
    for (String type : functions) {
      String prefix = type.replace('/', '.') + ".";
      if (flinkName.startsWith(prefix) && flinkName.length() > prefix.length()) {
        if (found != null) {
          return null;
        }
        String[] parts = type.split("/");
        found = new StateName(parts[0], parts[1], flinkName.substring(prefix.length()));
      }
    }
    String[] parts = flinkName.split("\\.", -1);
    if (found == null && functions.isEmpty() && parts.length == 3) {
      found = new StateName(parts[0], parts[1], parts[2]);
    }
    return found;
  }
}
