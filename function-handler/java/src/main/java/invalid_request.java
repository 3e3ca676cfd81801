/**
 * A Lambda request that is no bundle of a known version.
 *
 * <p>Lambda's Java runtime reports the full name of the class as the type of the error, and the
 * coordinator knows this name. So the class is in no package.
 */
public final class invalid_request extends IllegalArgumentException {
  public invalid_request(String message) {
    super(message);
  }
}
