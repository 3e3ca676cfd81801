package satchel.statefun;

import java.io.DataInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.lang.reflect.Method;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import org.apache.flink.api.common.typeutils.CompositeTypeSerializerSnapshot;
import org.apache.flink.api.common.typeutils.TypeSerializer;
import org.apache.flink.core.fs.FSDataInputStream;
import org.apache.flink.core.fs.FileSystem;
import org.apache.flink.core.fs.Path;
import org.apache.flink.core.memory.DataInputViewStreamWrapper;
import org.apache.flink.runtime.checkpoint.Checkpoints;
import org.apache.flink.runtime.checkpoint.OperatorState;
import org.apache.flink.runtime.checkpoint.OperatorSubtaskState;
import org.apache.flink.runtime.checkpoint.metadata.CheckpointMetadata;
import org.apache.flink.runtime.jobgraph.OperatorID;
import org.apache.flink.runtime.state.IncrementalRemoteKeyedStateHandle;
import org.apache.flink.runtime.state.KeyGroupsStateHandle;
import org.apache.flink.runtime.state.KeyedBackendSerializationProxy;
import org.apache.flink.runtime.state.KeyedStateHandle;
import org.apache.flink.runtime.state.StreamStateHandle;
import org.apache.flink.runtime.state.metainfo.StateMetaInfoSnapshot;
import org.apache.flink.runtime.state.metainfo.StateMetaInfoSnapshot.CommonSerializerKeys;
import org.apache.flink.runtime.state.ttl.TtlStateFactory.TtlSerializer;
import org.apache.flink.state.api.runtime.OperatorIDGenerator;
import org.apache.flink.statefun.flink.core.StatefulFunctionsJobConstants;
import org.apache.flink.statefun.sdk.TypeName;

/** The states that the function operator of a StateFun job has in a savepoint. */
final class SavepointStates {

  /** One state of a remote function, as the savepoint describes it. */
  static final class RemoteState {
    /** Name of the state in Flink: {@code namespace.type.state}. */
    final String flinkName;
    /** Typename of the values, {@code namespace/name}. */
    final String typename;
    /** True if the values carry the time of their last access, because they expire. */
    final boolean expires;
    /** Serializer of the values in the savepoint. */
    final TypeSerializer<?> serializer;

    RemoteState(String flinkName, String typename, boolean expires, TypeSerializer<?> serializer) {
      this.flinkName = flinkName;
      this.typename = typename;
      this.expires = expires;
      this.serializer = serializer;
    }
  }

  /** Simple name of StateFun's serializer for values of remote functions. */
  private static final String REMOTE_SERIALIZER =
      "org.apache.flink.statefun.flink.core.types.remote.RemoteValueSerializer";

  /** States of remote functions, by their name in Flink. */
  final Map<String, RemoteState> remote = new TreeMap<>();
  /** True if RocksDB wrote the savepoint, or retained checkpoint, in its own format. */
  boolean needsRocksDb;
  /** Names of the states of embedded functions. */
  final Set<String> embedded = new TreeSet<>();
  /** States that StateFun has for each address with a request in flight, by their name in Flink. */
  final Map<String, TypeSerializer<?>> inFlight = new TreeMap<>();

  /**
   * Reads the metadata of a savepoint or retained checkpoint.
   *
   * @throws IOException if there is no savepoint, or it has no function operator of StateFun
   */
  static SavepointStates read(String savepoint) throws IOException {
    CheckpointMetadata metadata = metadata(savepoint);
    OperatorID functions =
        OperatorIDGenerator.fromUid(StatefulFunctionsJobConstants.FUNCTION_OPERATOR_UID);
    SavepointStates states = new SavepointStates();
    boolean found = false;
    for (OperatorState operator : metadata.getOperatorStates()) {
      if (operator.getOperatorID().equals(functions)) {
        found = true;
        for (OperatorSubtaskState subtask : operator.getStates()) {
          for (KeyedStateHandle handle : subtask.getManagedKeyedState()) {
            states.add(handle);
          }
        }
      }
    }
    if (!found) {
      throw new IOException(
          savepoint + " is not of a StateFun job: it has no operator with the uid "
              + StatefulFunctionsJobConstants.FUNCTION_OPERATOR_UID);
    }
    return states;
  }

  private static CheckpointMetadata metadata(String savepoint) throws IOException {
    Path path = new Path(savepoint);
    FileSystem files = path.getFileSystem();
    if (!files.exists(path)) {
      throw new IOException(savepoint + " does not exist");
    }
    Path file = files.getFileStatus(path).isDir() ? new Path(path, "_metadata") : path;
    if (!files.exists(file)) {
      throw new IOException(savepoint + " is not a savepoint: it has no file _metadata");
    }
    try (DataInputStream input = new DataInputStream(files.open(file))) {
      return Checkpoints.loadCheckpointMetadata(input, loader(), savepoint);
    }
  }

  private static ClassLoader loader() {
    return SavepointStates.class.getClassLoader();
  }

  private void add(KeyedStateHandle handle) throws IOException {
    KeyedBackendSerializationProxy<?> proxy = new KeyedBackendSerializationProxy<>(loader());
    try (InputStream input = open(handle)) {
      proxy.read(new DataInputViewStreamWrapper(input));
    }
    for (StateMetaInfoSnapshot state : proxy.getStateMetaInfoSnapshots()) {
      add(state);
    }
  }

  private FSDataInputStream open(KeyedStateHandle handle) throws IOException {
    if (handle instanceof KeyGroupsStateHandle) {
      return ((KeyGroupsStateHandle) handle).openInputStream();
    }
    if (handle instanceof IncrementalRemoteKeyedStateHandle) {
      needsRocksDb = true;
      StreamStateHandle meta = ((IncrementalRemoteKeyedStateHandle) handle).getMetaStateHandle();
      return meta.openInputStream();
    }
    throw new IOException(
        "a savepoint with " + handle.getClass().getSimpleName()
            + " cannot be read; take one in the canonical format");
  }

  private void add(StateMetaInfoSnapshot state) throws IOException {
    var snapshot = state.getTypeSerializerSnapshot(CommonSerializerKeys.VALUE_SERIALIZER);
    TypeSerializer<?> serializer = snapshot == null ? null : snapshot.restoreSerializer();
    boolean expires = serializer instanceof TtlSerializer;
    TypeSerializer<?> value = serializer;
    if (expires) {
      // The two parts of the composite are the time of the last access and the value.
      var parts = ((CompositeTypeSerializerSnapshot<?, ?>) snapshot).getNestedSerializerSnapshots();
      value = parts[1].restoreSerializer();
    }
    if (value == null || !value.getClass().getName().equals(REMOTE_SERIALIZER)) {
      addOther(state.getName(), value);
      return;
    }
    String typename = typename(value);
    remote.put(
        state.getName(), new RemoteState(state.getName(), typename, expires, serializer));
  }

  /**
   * Adds a state that is not of a remote function's own. StateFun keeps two for each remote
   * function: how many messages its request in flight has, and which wait behind it.
   */
  private void addOther(String name, TypeSerializer<?> serializer) {
    if (name.endsWith(".request-state")) {
      inFlight.put(name, serializer);
    } else if (name.contains(".") && !name.endsWith(".batch")) {
      embedded.add(name);
    }
  }

  /** StateFun's serializer is not public, but its method that names the type is. */
  private static String typename(TypeSerializer<?> serializer) throws IOException {
    try {
      Method type = serializer.getClass().getMethod("getType");
      type.setAccessible(true);
      return ((TypeName) type.invoke(serializer)).canonicalTypenameString();
    } catch (ReflectiveOperationException error) {
      throw new IOException("this release of StateFun is not known", error);
    }
  }
}
