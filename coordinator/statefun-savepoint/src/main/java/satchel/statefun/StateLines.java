package satchel.statefun;

import java.io.Serializable;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeutils.TypeSerializer;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.runtime.state.ttl.TtlValue;
import org.apache.flink.state.api.functions.KeyedStateReaderFunction;
import org.apache.flink.util.Collector;
import satchel.statefun.SavepointStates.RemoteState;

/** Turns the states under one key, the id of an address, into lines of NDJSON. */
final class StateLines extends KeyedStateReaderFunction<String, String> {
  private static final long serialVersionUID = 1L;

  /** One state and what the lines say of it. */
  static final class Source implements Serializable {
    private static final long serialVersionUID = 1L;
    final String flinkName;
    final TypeSerializer<?> serializer;
    final boolean expires;
    final String namespace;
    final String function;
    final String state;
    final String typename;
    /** Milliseconds from the last access to the end. Null or the largest number: never. */
    final Long lifetime;

    Source(RemoteState remote, StateName name, Long lifetime) {
      this.flinkName = remote.flinkName;
      this.serializer = remote.serializer;
      this.expires = remote.expires;
      this.typename = remote.typename;
      this.namespace = name.namespace;
      this.function = name.function;
      this.state = name.state;
      this.lifetime = lifetime;
    }
  }

  /** Stands for an address with a request in flight. No line of NDJSON. */
  static final String IN_FLIGHT = "in flight";

  private final ArrayList<Source> sources;
  private final TreeMap<String, TypeSerializer<?>> inFlight;
  private transient List<ValueState<Object>> states;
  private transient List<ValueState<Object>> requests;

  StateLines(List<Source> sources, Map<String, TypeSerializer<?>> inFlight) {
    this.sources = new ArrayList<>(sources);
    this.inFlight = new TreeMap<>(inFlight);
  }

  @Override
  public void open(Configuration parameters) {
    states = new ArrayList<>();
    for (Source source : sources) {
      // The serializer of the savepoint itself. For a state that expires it gives the time of the
      // last access too, which a descriptor with an expiry would hide.
      states.add(state(source.flinkName, source.serializer));
    }
    requests = new ArrayList<>();
    inFlight.forEach((name, serializer) -> requests.add(state(name, serializer)));
  }

  @SuppressWarnings("unchecked")
  private ValueState<Object> state(String name, TypeSerializer<?> serializer) {
    return getRuntimeContext()
        .getState(new ValueStateDescriptor<>(name, (TypeSerializer<Object>) serializer));
  }

  @Override
  public void readKey(String id, Context context, Collector<String> lines) throws Exception {
    for (int i = 0; i < sources.size(); i++) {
      Object stored = states.get(i).value();
      if (stored != null) {
        lines.collect(line(sources.get(i), id, stored));
      }
    }
    for (ValueState<Object> request : requests) {
      if (request.value() != null) {
        lines.collect(IN_FLIGHT);
      }
    }
  }

  private static String line(Source source, String id, Object stored) {
    byte[] value;
    Long expiresAt = null;
    if (source.expires) {
      TtlValue<?> timed = (TtlValue<?>) stored;
      value = (byte[]) timed.getUserValue();
      if (source.lifetime != null && source.lifetime != Long.MAX_VALUE) {
        expiresAt = timed.getLastAccessTimestamp() + source.lifetime;
      }
    } else {
      value = (byte[]) stored;
    }
    String address = source.namespace + "/" + source.function + "/" + id;
    return "{\"address\":" + Json.text(address)
        + ",\"state\":" + Json.text(source.state)
        + ",\"typename\":" + Json.text(source.typename)
        + ",\"expires_at_ms\":" + expiresAt
        + ",\"base64\":\"" + Base64.getEncoder().encodeToString(value) + "\"}";
  }
}
