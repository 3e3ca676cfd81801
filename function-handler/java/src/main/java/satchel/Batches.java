package satchel;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.apache.flink.statefun.sdk.java.Context;
import org.apache.flink.statefun.sdk.java.StatefulFunction;
import org.apache.flink.statefun.sdk.java.StatefulFunctionSpec;
import org.apache.flink.statefun.sdk.java.StatefulFunctions;
import org.apache.flink.statefun.sdk.java.TypeName;
import org.apache.flink.statefun.sdk.java.handler.RequestReplyHandler;
import org.apache.flink.statefun.sdk.java.message.Message;
import org.apache.flink.statefun.sdk.java.slice.Slices;
import org.apache.flink.statefun.sdk.reqreply.generated.Address;
import org.apache.flink.statefun.sdk.reqreply.generated.ToFunction;
import org.apache.flink.statefun.sdk.shaded.com.google.protobuf.InvalidProtocolBufferException;

/** Batches for the functions of StateFun's SDK, each in a thread of its own. */
final class Batches {
  private final StatefulFunctions functions = new StatefulFunctions();
  private final RequestReplyHandler handler;
  private final ExecutorService threads =
      Executors.newCachedThreadPool(
          task -> {
            Thread thread = new Thread(task, "satchel-function");
            thread.setDaemon(true);
            return thread;
          });

  Batches(StatefulFunctions bound) {
    for (StatefulFunctionSpec spec : bound.functionSpecs().values()) {
      StatefulFunctionSpec.Builder builder = StatefulFunctionSpec.builder(spec.typeName());
      spec.knownValues().values().forEach(builder::withValueSpec);
      // The SDK takes a function from the supplier for each batch.
      builder.withSupplier(() -> new Counted(spec.supplier().get()));
      functions.withStatefulFunction(builder);
    }
    handler = functions.requestReplyHandler();
  }

  /** Starts a batch. The future throws a BatchError. */
  Future<byte[]> start(byte[] request) {
    return threads.submit(() -> answer(request));
  }

  private byte[] answer(byte[] request) throws BatchError, InterruptedException {
    ToFunction toFunction;
    try {
      toFunction = ToFunction.parseFrom(request);
    } catch (InvalidProtocolBufferException error) {
      throw new BatchError(
          "invalid_request", "the payload is not a ToFunction: " + error.getMessage());
    }
    if (!toFunction.hasInvocation()) {
      throw new BatchError("invalid_request", "the request holds no batch");
    }
    if (!toFunction.getInvocation().hasTarget()) {
      throw new BatchError("invalid_request", "the batch has no target");
    }
    Address target = toFunction.getInvocation().getTarget();
    String name = target.getNamespace() + "/" + target.getType();
    TypeName type = TypeName.typeNameOf(target.getNamespace(), target.getType());
    if (!functions.functionSpecs().containsKey(type)) {
      // Every message of the batch is rejected. The first is, and the others follow it.
      String why = "there is no function " + name;
      throw BatchError.terminal(
          "unknown_function", "this handler has no function " + name, 0, 404, why);
    }
    try {
      return handler.handle(Slices.wrap(request)).get().toByteArray();
    } catch (ExecutionException error) {
      throw failed(error.getCause(), toFunction.getInvocation().getInvocationsCount());
    } catch (RuntimeException error) {
      throw failed(error, toFunction.getInvocation().getInvocationsCount());
    }
  }

  private static BatchError failed(Throwable error, int messages) {
    int index = -1;
    while (error instanceof CompletionException && error.getCause() != null) {
      error = error.getCause();
    }
    if (error instanceof Located) {
      index = ((Located) error).index;
      error = error.getCause();
    }
    String before =
        index < 0 || messages == 1 ? "" : "message " + (index + 1) + " of " + messages + ": ";
    TerminalError rejected = TerminalError.in(error);
    if (rejected == null) {
      return new BatchError("function", before + error);
    }
    // The first message of a batch is concluded by this, so its text stands alone.
    String text = index == 0 ? rejected.getMessage() : before + rejected.getMessage();
    return BatchError.terminal("terminal", text, index, rejected.code(), rejected.getMessage());
  }

  /** The function of one batch, which says at which message it failed. */
  private static final class Counted implements StatefulFunction {
    private final StatefulFunction function;
    private int begun = 0;

    Counted(StatefulFunction function) {
      this.function = function;
    }

    @Override
    public CompletableFuture<Void> apply(Context context, Message message) {
      int index = begun;
      begun += 1;
      CompletableFuture<Void> done;
      try {
        done = function.apply(context, message);
      } catch (Throwable error) {
        return CompletableFuture.failedFuture(new Located(index, error));
      }
      if (done == null) {
        return CompletableFuture.failedFuture(
            new Located(index, new NullPointerException("the function returned null")));
      }
      return done.handle(
          (nothing, error) -> {
            if (error != null) {
              throw new Located(index, error);
            }
            return null;
          });
    }
  }

  private static final class Located extends RuntimeException {
    final int index;

    Located(int index, Throwable cause) {
      super(cause);
      this.index = index;
    }

    @Override
    public synchronized Throwable getCause() {
      Throwable cause = super.getCause();
      return cause instanceof CompletionException && cause.getCause() != null
          ? cause.getCause()
          : cause;
    }
  }
}
